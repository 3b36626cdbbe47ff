import MartletModel
import NIOCore
import NIOHPACK

/// What the fields of a request say.
struct RequestHead {
    var path = ""
    var method = ""
    var contentType = ""
    var timeout: String?
    var encoding: String?
    var acceptsGzip = false

    init(_ headers: HPACKHeaders) {
        for (name, value, _) in headers {
            switch name {
            case ":path": path = value
            case ":method": method = value
            case "content-type": contentType = value
            case "grpc-timeout": timeout = value
            case "grpc-encoding": encoding = value
            case "grpc-accept-encoding":
                acceptsGzip = value.split(separator: ",").contains { $0.drop { $0 == " " } == "gzip" }
            default: break
            }
        }
    }

    /// Whether no value begins or ends with a blank, which RFC 9113 (8.2.1) has as malformed.
    static func isTrimmed(_ headers: HPACKHeaders) -> Bool {
        headers.allSatisfy { _, value, _ in !isBlank(value.utf8.first) && !isBlank(value.utf8.last) }
    }

    private static func isBlank(_ byte: UInt8?) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    /// Whether it is a call over gRPC.
    var isGRPC: Bool {
        guard method == "POST", contentType.hasPrefix("application/grpc") else { return false }
        let rest = contentType.dropFirst("application/grpc".count)
        // Messages are protobuf, whatever name that has.
        return rest.isEmpty || rest.first == ";" || rest == "+proto" || rest.hasPrefix("+proto;")
    }
}

/// A request that is no call.
struct PlainRequest {
    var status: Int
    var text: String
    var isHead: Bool
    /// Bytes that have come of it.
    var bytes = 0

    var answer: HTTPAnswer { HTTPAnswer(status: status, text, isBodiless: isHead) }
}

/// The answer to a request that is no call.
struct HTTPAnswer {
    var headers: HPACKHeaders
    var body: ByteBuffer?

    init(headers: HPACKHeaders, body: ByteBuffer?) {
        self.headers = headers
        self.body = body
    }

    /// A line of text; of HEAD only what describes it.
    init(status: Int, _ text: String, isBodiless: Bool = false) {
        body = isBodiless ? nil : ByteBuffer(string: text + "\n")
        headers = [
            ":status": "\(status)", "content-type": "text/plain; charset=utf-8",
            "content-length": "\(text.utf8.count + 1)",
        ]
    }
}

extension GRPCStatus {
    static func unknownEncoding(_ name: String) -> GRPCStatus {
        GRPCStatus(
            .unimplemented,
            "grpc-encoding \(PrintableText.escape(name)) is not known: use identity or gzip",
            metadata: [GRPCMetadatum("grpc-accept-encoding", "identity,gzip")])
    }
}

extension GRPCServices {
    /// What a call gets whose path is not among them.
    func unimplemented(_ path: String) -> GRPCStatus {
        let shown = PrintableText.escape(String(path.prefix(256)))
        return GRPCStatus(
            MartletError(
                .unimplemented, reason: .unknownCall,
                message: hasService(at: path)
                    ? "the service has no method \(shown): compare the versions of client and server"
                    : "there is no service \(shown): compare the versions of client and server"))
    }
}
