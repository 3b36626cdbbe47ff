public import MartletModel

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
    /// Writes the fields that end a call whose answer has begun.
    func writeTrailers(_ write: (AnswerField) -> Void) {
        write(code == .ok ? .common(.ok) : .literal("grpc-status", String(code.rawValue)))
        if !message.isEmpty { write(.literal("grpc-message", Self.escape(message))) }
        if let details { write(.literal("grpc-status-details-bin", Base64.encode(details))) }
        for field in metadata { write(.literal(field.name, field.value)) }
    }

    /// Writes the fields that are the whole answer of a call.
    func writeAnswer(_ write: (AnswerField) -> Void) {
        write(.status(200))
        write(.common(.grpcContent))
        writeTrailers(write)
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
