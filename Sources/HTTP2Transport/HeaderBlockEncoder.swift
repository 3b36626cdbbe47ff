import NIOCore

/// A field of an answer.
enum AnswerField {
    case status(Int)
    /// One that many answers have.
    case common(CommonField)
    /// One that differs from answer to answer. The name is in lower case.
    case literal(String, String)
}

/// A field that many answers have: it is sent whole once, and then by its number.
enum CommonField: Int, CaseIterable {
    case grpcContent
    case gzipEncoding
    case ok

    fileprivate var name: String {
        switch self {
        case .grpcContent: "content-type"
        case .gzipEncoding: "grpc-encoding"
        case .ok: "grpc-status"
        }
    }
    fileprivate var value: String {
        switch self {
        case .grpcContent: "application/grpc"
        case .gzipEncoding: "gzip"
        case .ok: "0"
        }
    }
}

/// Encodes the fields of answers (HPACK, RFC 7541). The client's table holds the common fields and nothing else: what differs
/// from answer to answer would only push them out.
struct HeaderBlockEncoder {
    /// The table that a client has unless it says otherwise, in bytes.
    private static let tableBytes = 4_096
    private static let staticFields = 61
    /// Statuses that have a number of their own (RFC 7541, appendix A).
    private static let statuses = [200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14]
    private static let statusName: UInt8 = 8

    /// The common fields in the order in which they went into the table.
    private var table: [CommonField] = []
    private var hasTable = true
    private var owesTableSize = false

    /// The client has another bound for its table. A smaller one than it begins with is not used at all.
    mutating func tableSizeChanged(_ bytes: Int) {
        guard bytes < Self.tableBytes, hasTable else { return }
        hasTable = false
        owesTableSize = true
        table = []
    }

    /// Adds a field to the block that ends `bytes`.
    /// - Parameter isFirst: it is the first of its block.
    mutating func write(_ field: AnswerField, isFirst: Bool, to bytes: inout ByteBuffer) {
        if isFirst, owesTableSize {
            owesTableSize = false
            // Table size 0.
            bytes.writeInteger(UInt8(0x20))
        }
        switch field {
        case .status(let status):
            if let number = Self.statuses[status] {
                bytes.writeInteger(UInt8(0x80 | number))
            } else {
                bytes.writeInteger(Self.statusName)
                Self.write("\(status)", to: &bytes)
            }
        case .common(let field): write(field, to: &bytes)
        case .literal(let name, let value): Self.write(name, value, first: 0, to: &bytes)
        }
    }

    private mutating func write(_ field: CommonField, to bytes: inout ByteBuffer) {
        if let at = table.firstIndex(of: field) {
            bytes.writeInteger(UInt8(0x80 | Self.staticFields + table.count - at))
        } else {
            Self.write(field.name, field.value, first: hasTable ? 0x40 : 0, to: &bytes)
            if hasTable { table.append(field) }
        }
    }

    private static func write(_ name: String, _ value: String, first: UInt8, to bytes: inout ByteBuffer) {
        bytes.writeInteger(first)
        write(name, to: &bytes)
        write(value, to: &bytes)
    }

    private static func write(_ text: String, to bytes: inout ByteBuffer) {
        var count = text.utf8.count
        if count < 0x7F {
            bytes.writeInteger(UInt8(count))
        } else {
            bytes.writeInteger(UInt8(0x7F))
            count -= 0x7F
            while count >= 0x80 {
                bytes.writeInteger(UInt8(count & 0x7F | 0x80))
                count >>= 7
            }
            bytes.writeInteger(UInt8(count))
        }
        bytes.writeString(text)
    }
}
