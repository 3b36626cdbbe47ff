import FoundationEssentials
import NIOCore

/// A parameter of a prepared statement.
enum PostgresValue {
    case null
    case int64(Int64)
    case text(String)
    case bytes(ByteBuffer)
    case uuid(UUID)
    case int64s([Int64])
    case texts([String])
    case uuids([UUID])
    case byteStrings([[UInt8]])

    init(_ value: Int64) { self = .int64(value) }

    init(_ text: String) { self = .text(text) }

    init(_ buffer: ByteBuffer) { self = .bytes(buffer) }

    init(_ uuid: UUID) { self = .uuid(uuid) }

    init(_ values: [Int64]) { self = .int64s(values) }

    init(_ values: [String]) { self = .texts(values) }

    init(_ values: [UUID]) { self = .uuids(values) }

    init(_ values: [[UInt8]]) { self = .byteStrings(values) }
}

/// The parameters of one call in PostgreSQL's binary format, one after the other in one buffer: a row of an insert
/// costs no allocation of its own.
struct PostgresParameters {
    /// Type numbers of `pg_type`, which are the same everywhere.
    private enum TypeID {
        static let bytea: UInt32 = 17
        static let bigint: UInt32 = 20
        static let text: UInt32 = 25
        static let uuid: UInt32 = 2950
    }

    private var bytes = ByteBuffer()
    private var starts: [Int32] = []
    private var lengths: [Int32] = []

    /// None yet.
    init() {}

    /// Those values.
    init(_ values: [PostgresValue]) { for value in values { add(value) } }

    /// None yet, with room for so many of so many bytes in all.
    init(count: Int, bytes capacity: Int) {
        bytes.reserveCapacity(capacity)
        starts.reserveCapacity(count)
        lengths.reserveCapacity(count)
    }

    var count: Int { lengths.count }

    mutating func add(_ value: Int64) { add(length: 8) { $0.writeInteger(value) } }

    mutating func add(_ value: Int32) { add(length: 4) { $0.writeInteger(value) } }

    mutating func add(_ text: String) { add(length: text.utf8.count) { $0.writeString(text) } }

    mutating func add(_ uuid: UUID) { add(length: 16) { Self.write(uuid, to: &$0) } }

    /// The bytes of `source` between those indexes.
    mutating func add(_ range: Range<Int>, of source: ByteBuffer) {
        add(length: range.count) { bytes in
            unsafe source.withVeryUnsafeBytes { all in
                unsafe _ = bytes.writeBytes(UnsafeRawBufferPointer(rebasing: all[range]))
            }
        }
    }

    mutating func add(_ value: PostgresValue) {
        switch value {
        case .null:
            starts.append(0)
            lengths.append(-1)
        case .int64(let value): add(value)
        case .text(let text): add(text)
        case .bytes(let buffer): add(length: buffer.readableBytes) { $0.writeImmutableBuffer(buffer) }
        case .uuid(let uuid): add(uuid)
        case .int64s(let values):
            add(array: TypeID.bigint, count: values.count) { bytes in
                for value in values { bytes.writeMultipleIntegers(Int32(8), value) }
            }
        case .texts(let values):
            add(array: TypeID.text, count: values.count) { bytes in
                for value in values {
                    bytes.writeInteger(Int32(value.utf8.count))
                    bytes.writeString(value)
                }
            }
        case .byteStrings(let values):
            add(array: TypeID.bytea, count: values.count) { bytes in
                for value in values {
                    bytes.writeInteger(Int32(value.count))
                    bytes.writeBytes(value)
                }
            }
        case .uuids(let values):
            add(array: TypeID.uuid, count: values.count) { bytes in
                for value in values {
                    bytes.writeInteger(Int32(16))
                    Self.write(value, to: &bytes)
                }
            }
        }
    }

    private static func write(_ uuid: UUID, to bytes: inout ByteBuffer) {
        unsafe withUnsafeBytes(of: uuid.uuid) { unsafe _ = bytes.writeBytes($0) }
    }

    @inline(__always)
    private mutating func add(length: Int, _ write: (inout ByteBuffer) -> Void) {
        starts.append(Int32(bytes.writerIndex))
        lengths.append(Int32(length))
        write(&bytes)
    }

    private mutating func add(array type: UInt32, count: Int, _ elements: (inout ByteBuffer) -> Void) {
        let start = bytes.writerIndex
        // Dimensions, whether NULLs occur, the elements' type; the size of the one dimension, its lowest index.
        bytes.writeMultipleIntegers(Int32(count == 0 ? 0 : 1), Int32(0), type)
        if count > 0 {
            bytes.writeMultipleIntegers(Int32(count), Int32(1))
            elements(&bytes)
        }
        starts.append(Int32(start))
        lengths.append(Int32(bytes.writerIndex - start))
    }

    /// Calls `body` with the parameters as libpq wants them.
    @unsafe func withPointers<Result>(
        _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> Result
    ) -> Result {
        let formats = [Int32](repeating: 1, count: lengths.count)
        let lengthsOrZero = lengths.contains(-1) ? lengths.map { max(0, $0) } : lengths
        return unsafe bytes.withUnsafeReadableBytes { all in
            unsafe withUnsafePointer(to: CChar(0)) { empty in
                // An empty value is not NULL: libpq tells them apart by the pointer.
                let base = unsafe all.baseAddress?.assumingMemoryBound(to: CChar.self) ?? empty
                let pointers = unsafe [UnsafePointer<CChar>?](unsafeUninitializedCapacity: lengths.count) {
                    slots, count in
                    for index in lengths.indices {
                        unsafe (slots.baseAddress.unsafelyUnwrapped + index).initialize(
                            to: lengths[index] < 0 ? nil : base + Int(starts[index]))
                    }
                    count = lengths.count
                }
                return unsafe pointers.withUnsafeBufferPointer { unsafe body($0.baseAddress, lengthsOrZero, formats) }
            }
        }
    }
}
