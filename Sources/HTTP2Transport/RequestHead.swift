import MartletModel
import NIOHPACK

/// What the fields of a request say.
struct RequestHead {
    var path = ""
    var method = ""
    var contentType = ""
    var timeout: String?
    var encoding: String?
    var acceptsGzip = false
    /// Bytes of DATA that are to come.
    var contentLength: Int?
    /// How many fields there are.
    private(set) var fieldCount = 0
    /// Bytes of their names and values.
    private(set) var contentBytes = 0

    private struct Pseudo: OptionSet {
        let rawValue: UInt8
        static let method = Pseudo(rawValue: 1)
        static let scheme = Pseudo(rawValue: 2)
        static let path = Pseudo(rawValue: 4)
        static let authority = Pseudo(rawValue: 8)
    }

    /// nil for a request that is malformed (RFC 9113, 8.1.1 to 8.3.1).
    init?(_ headers: HPACKHeaders) {
        var pseudo: Pseudo = []
        for (name, value, _) in headers {
            fieldCount += 1
            contentBytes += name.utf8.count + value.utf8.count
            guard Self.isValue(value) else { return nil }
            if name.utf8.first == UInt8(ascii: ":") {
                // None stands behind another field: those count.
                guard let (one, isValid) = take(pseudo: name, value), isValid, pseudo.insert(one).inserted,
                    fieldCount == pseudo.rawValue.nonzeroBitCount
                else { return nil }
            } else {
                guard Self.isName(name), take(name, value) else { return nil }
            }
        }
        let isWhole: Bool =
            if method == "CONNECT" {
                pseudo == [.method, .authority]
            } else {
                pseudo.isSuperset(of: [.method, .scheme, .path])
            }
        guard isWhole else { return nil }
    }

    private mutating func take(pseudo name: String, _ value: String) -> (Pseudo, Bool)? {
        switch name {
        case ":path":
            path = value
            return (.path, !value.isEmpty)
        case ":method":
            method = value
            return (.method, !value.isEmpty)
        case ":scheme": return (.scheme, true)
        case ":authority": return (.authority, true)
        default: return nil
        }
    }

    /// - Returns: false for what no request may have.
    private mutating func take(_ name: String, _ value: String) -> Bool {
        // Names of other lengths are nobody's here.
        switch name.utf8.count {
        case 2 where name == "te": return value == "trailers"
        case 12 where name == "content-type": contentType = value
        case 12 where name == "grpc-timeout": timeout = value
        case 13 where name == "grpc-encoding": encoding = value
        case 14 where name == "content-length":
            guard value.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
                let length = Int(value), contentLength ?? length == length
            else { return false }
            contentLength = length
        case 20 where name == "grpc-accept-encoding":
            acceptsGzip = value.split(separator: ",").contains { $0.drop { $0 == " " } == "gzip" }
        case 7...17: return !Self.isOfConnection(name)
        default: break
        }
        return true
    }

    /// Whether these may end a request.
    static func areTrailers(_ headers: HPACKHeaders) -> Bool {
        headers.allSatisfy { name, value, _ in
            isName(name) && isValue(value) && !isOfConnection(name) && (name != "te" || value == "trailers")
        }
    }

    // MARK: Names and values

    /// Fields of HTTP/1.1 that are about one connection (RFC 9113, 8.2.2).
    private static func isOfConnection(_ name: String) -> Bool {
        switch name {
        case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade": true
        default: false
        }
    }

    /// The characters of a name (RFC 9110, 5.6.2), in lower case: a bit for each byte.
    private static let nameBytes: (low: UInt64, high: UInt64) = {
        var (low, high): (UInt64, UInt64) = (0, 0)
        for byte in "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz".utf8 {
            if byte < 64 { low |= 1 << byte } else { high |= 1 << (byte - 64) }
        }
        return (low, high)
    }()

    private static func isName(_ name: String) -> Bool {
        let (low, high) = nameBytes
        return !name.isEmpty
            && name.utf8.allSatisfy { byte in
                byte < 64 ? low >> byte & 1 == 1 : byte < 128 && high >> (byte - 64) & 1 == 1
            }
    }

    /// Whether a value neither has what ends a line, nor begins or ends with a blank (RFC 9113, 8.2.1).
    private static func isValue(_ value: String) -> Bool {
        !isBlank(value.utf8.first) && !isBlank(value.utf8.last)
            && value.utf8.allSatisfy { $0 != 0 && $0 != 10 && $0 != 13 }
    }

    private static func isBlank(_ byte: UInt8?) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    /// Whether it is a call over gRPC.
    var isGRPC: Bool {
        guard method == "POST", contentType.utf8.starts(with: "application/grpc".utf8) else { return false }
        let rest = contentType.utf8.dropFirst("application/grpc".utf8.count)
        // Messages are protobuf, whatever name that has.
        return rest.isEmpty || rest.first == UInt8(ascii: ";") || rest.elementsEqual("+proto".utf8)
            || rest.starts(with: "+proto;".utf8)
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
