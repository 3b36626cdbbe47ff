import CMartletPostgreSQL
import FoundationEssentials
import MartletModel
import NIOCore

@testable import MartletStoragePostgreSQL

/// Values of a database that is not what it should be, and what others say in its name.
///
/// What must hold: a value of a result is the bytes that came, NULL is told from an empty value, and an integer of the
/// wrong length is 0; a notice that was understood is encoded and understood again alike; parameters are sent in binary,
/// each whole and of the length that it says.
enum PostgresValues {
    static func run(_ bytes: [UInt8]) throws {
        try checkResult(bytes)
        try checkNotice(String(decoding: bytes, as: UTF8.self))
        try checkParameters(bytes)
    }

    /// Rows of two values; a length byte before each.
    private static func checkResult(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        guard let made = unsafe PQmakeEmptyPGresult(nil, PGRES_TUPLES_OK) else { throw Finding("no memory") }
        let result = unsafe PostgresResult(made)
        var values: [[UInt8]?] = []
        var name: [CChar] = [118, 0]
        unsafe name.withUnsafeMutableBufferPointer { name in
            var columns = unsafe [PGresAttDesc](
                repeating: PGresAttDesc(
                    name: name.baseAddress, tableid: 0, columnid: 0, format: 1, typid: 17, typlen: -1, atttypmod: -1),
                count: 2)
            unsafe _ = PQsetResultAttrs(made, 2, &columns)
        }
        while !input.isAtEnd, values.count < 64 {
            let length = Int(input.byte())
            let value = length == 255 ? nil : input.bytes(length % 40)
            let (row, column) = (Int32(values.count / 2), Int32(values.count % 2))
            var copy = (value ?? []).map { CChar(bitPattern: $0) } + [0]
            let isSet = unsafe copy.withUnsafeMutableBufferPointer { copy in
                unsafe PQsetvalue(
                    made, row, column, value == nil ? nil : copy.baseAddress, Int32(value?.count ?? -1))
            }
            try hold(isSet == 1, "a value was not taken")
            values.append(value)
        }
        try hold(result.rowCount == Int32((values.count + 1) / 2), "\(result.rowCount) rows")
        for (index, value) in values.enumerated() {
            let (row, column) = (Int32(index / 2), Int32(index % 2))
            try hold(result.isNull(row, column) == (value == nil), "NULL is not told from a value")
            let stored = unsafe Array(result.bytes(row, column))
            try hold(stored == value ?? [], "the bytes are \(stored)")
            let integer = value?.count == 8 ? value.map { $0.reduce(Int64(0)) { $0 << 8 | Int64($1) } } : 0
            try hold(result.integer(row, column) == integer ?? 0, "\(stored) is \(result.integer(row, column))")
            let short = value?.count == 4 ? value.map { $0.reduce(Int32(0)) { $0 << 8 | Int32($1) } } : 0
            try hold(result.int32(row, column) == short ?? 0, "\(stored) is \(result.int32(row, column))")
            _ = result.text(row, column)
        }
    }

    private static func checkNotice(_ text: String) throws {
        guard let heads = CommitNotice.decode(text), !heads.isEmpty else { return }
        let encoded = CommitNotice.encode(heads.map { ($0.key, $0.value) })
        var decoded: [TenantID: TenantHead] = [:]
        for text in encoded { decoded.merge(CommitNotice.decode(text) ?? [:]) { first, _ in first } }
        try hold(decoded == heads, "\(heads) is told as \(encoded)")
    }

    /// Parameters of every kind lie one after the other, each of the length that it says.
    private static func checkParameters(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        var values: [PostgresValue] = []
        while !input.isAtEnd, values.count < 64 {
            switch input.number(below: 8) {
            case 0: values.append(.null)
            case 1: values.append(.int64(Int64(input.byte())))
            case 2: values.append(.text(String(decoding: input.bytes(Int(input.byte())), as: UTF8.self)))
            case 3: values.append(.bytes(ByteBuffer(bytes: input.bytes(Int(input.byte())))))
            case 4: values.append(.uuid(UUID(high: 1, low: UInt64(input.byte()))))
            case 5: values.append(.int64s(input.bytes(Int(input.byte())).map { Int64($0) }))
            case 6: values.append(.texts(input.bytes(4).map { String($0) }))
            default: values.append(.uuids(input.bytes(4).map { UUID(high: 2, low: UInt64($0)) }))
            }
        }
        let parameters = PostgresParameters(values)
        try hold(parameters.count == values.count, "\(parameters.count) parameters of \(values.count)")
        let complaint = unsafe parameters.withPointers { pointers, lengths, formats -> String? in
            guard !values.isEmpty else { return nil }
            guard let pointers = unsafe pointers, let lengths = unsafe lengths, let formats = unsafe formats else {
                return "\(values.count) values became none"
            }
            for (index, value) in values.enumerated() {
                guard unsafe formats[index] == 1 else { return "\(value) is not sent in binary" }
                let start = unsafe pointers[index]
                if case .null = value {
                    if unsafe start != nil { return "NULL became a value" }
                    continue
                }
                guard let start = unsafe start else { return "\(value) became NULL" }
                let bytes = unsafe UnsafeRawBufferPointer(start: start, count: Int(lengths[index]))
                if unsafe !isWhole(value, bytes) { return unsafe "\(value) is sent as \(Array(bytes))" }
            }
            return nil
        }
        if let complaint { throw Finding(complaint) }
    }

    @unsafe private static func isWhole(_ value: PostgresValue, _ bytes: UnsafeRawBufferPointer) -> Bool {
        switch value {
        case .text(let text): unsafe bytes.elementsEqual(text.utf8)
        case .bytes(let buffer): unsafe bytes.elementsEqual(buffer.readableBytesView)
        case .int64(let number): unsafe bytes.reduce(Int64(0)) { $0 << 8 | Int64($1) } == number
        case .uuid(let uuid): unsafe bytes.elementsEqual(uuid.bytes)
        default: bytes.count >= 12
        }
    }
}
