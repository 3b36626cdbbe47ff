public import MartletModel
import NIOHPACK

/// How a call over gRPC ends.
public struct GRPCStatus: Hashable, Sendable {
    /// The longest message in bytes, before it is escaped; a longer one is cut.
    public static let messageBytesMax = 1_024

    /// The code.
    public var code: StatusCode
    /// For a person; empty where all went well.
    public var message: String
    /// `google.rpc.Status`, encoded; nil for none.
    public var details: [UInt8]?
    /// Fields that go with it: names in lower case; of names that end in `-bin` the values are base64.
    public var metadata: [GRPCMetadatum]

    /// A status of those parts.
    public init(
        _ code: StatusCode, _ message: String = "", details: [UInt8]? = nil, metadata: [GRPCMetadatum] = []
    ) {
        self.code = code
        self.message = message
        self.details = details
        self.metadata = metadata
    }

    /// All went well.
    public static let ok = GRPCStatus(.ok)
}

/// A field of metadata: of a request, or of what is sent before or after its messages.
public struct GRPCMetadatum: Hashable, Sendable {
    /// The name, in lower case.
    public var name: String
    /// The value as it travels.
    public var value: String

    /// A field of those parts.
    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

extension GRPCStatus {
    private static let okTrailers: HPACKHeaders = ["grpc-status": "0"]

    /// The fields that end a call whose answer has begun.
    var trailers: HPACKHeaders {
        if code == .ok, metadata.isEmpty, message.isEmpty { return Self.okTrailers }
        var headers = HPACKHeaders()
        add(to: &headers)
        return headers
    }

    /// The fields that are the whole answer of a call.
    var onlyHeaders: HPACKHeaders {
        var headers: HPACKHeaders = [":status": "200", "content-type": "application/grpc"]
        add(to: &headers)
        return headers
    }

    private func add(to headers: inout HPACKHeaders) {
        headers.add(name: "grpc-status", value: String(code.rawValue))
        // What differs from call to call would only push out of the table what does not.
        if !message.isEmpty {
            headers.add(name: "grpc-message", value: Self.escape(message), indexing: .nonIndexable)
        }
        if let details {
            headers.add(name: "grpc-status-details-bin", value: Base64.encode(details), indexing: .nonIndexable)
        }
        for field in metadata { headers.add(name: field.name, value: field.value, indexing: .nonIndexable) }
    }

    /// Escapes a message as gRPC has it: all but printable ASCII, and `%`, as `%` and two hexadecimal digits.
    static func escape(_ message: String) -> String {
        var escaped: [UInt8] = []
        escaped.reserveCapacity(message.utf8.count)
        var bytes = 0
        // Characters are not cut in two.
        for scalar in message.unicodeScalars {
            let text = UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
            bytes += text.count
            guard bytes <= messageBytesMax else { break }
            for byte in text {
                if (0x20...0x7E).contains(byte), byte != UInt8(ascii: "%") {
                    escaped.append(byte)
                } else {
                    escaped.append(UInt8(ascii: "%"))
                    escaped.append(hexDigits[Int(byte >> 4)])
                    escaped.append(hexDigits[Int(byte & 15)])
                }
            }
        }
        return String(decoding: escaped, as: UTF8.self)
    }

    private static let hexDigits = Array("0123456789ABCDEF".utf8)
}
