import CPostgreSQL
import EventModel
import FoundationEssentials
import NIOCore

/// A parameter in PostgreSQL's binary format.
struct PostgresValue {
    /// Type numbers of `pg_type`, which are the same everywhere.
    private enum TypeID {
        static let bytea: UInt32 = 17
        static let bigint: UInt32 = 20
        static let integer: UInt32 = 23
        static let text: UInt32 = 25
        static let uuid: UInt32 = 2950
    }

    /// Nil for NULL.
    private let bytes: ByteBuffer?

    private init(bytes: ByteBuffer?) { self.bytes = bytes }

    static let null = PostgresValue(bytes: nil)

    init(_ value: Int64) { bytes = ByteBuffer(integer: value) }

    init(_ text: String) { bytes = ByteBuffer(string: text) }

    init(_ buffer: ByteBuffer) { bytes = buffer }

    init(_ uuid: UUID) { bytes = ByteBuffer(bytes: uuid.bytes) }

    init(_ values: [Int64]) {
        self.init(array: TypeID.bigint, count: values.count) { buffer in
            for value in values { buffer.writeMultipleIntegers(Int32(8), value) }
        }
    }

    init(_ values: [Int32]) {
        self.init(array: TypeID.integer, count: values.count) { buffer in
            for value in values { buffer.writeMultipleIntegers(Int32(4), value) }
        }
    }

    init(_ values: [String]) {
        self.init(array: TypeID.text, count: values.count) { buffer in
            for value in values {
                buffer.writeInteger(Int32(value.utf8.count))
                buffer.writeString(value)
            }
        }
    }

    init(_ values: [UUID]) {
        self.init(array: TypeID.uuid, count: values.count) { buffer in
            for value in values {
                buffer.writeInteger(Int32(16))
                unsafe withUnsafeBytes(of: value.uuid) { unsafe _ = buffer.writeBytes($0) }
            }
        }
    }

    /// An array of bytea: slices of `bytes`.
    init(slices: [(start: Int, end: Int)], of bytes: [ByteBuffer]) {
        self.init(array: TypeID.bytea, count: slices.count) { buffer in
            buffer.reserveCapacity(minimumWritableBytes: slices.reduce(0) { $0 + 4 + $1.end - $1.start })
            for (slice, source) in zip(slices, bytes) {
                buffer.writeInteger(Int32(slice.end - slice.start))
                unsafe source.withUnsafeReadableBytes { all in
                    unsafe _ = buffer.writeBytes(UnsafeRawBufferPointer(rebasing: all[slice.start..<slice.end]))
                }
            }
        }
    }

    private init(array type: UInt32, count: Int, _ elements: (inout ByteBuffer) -> Void) {
        var buffer = ByteBuffer()
        // Dimensions, whether NULLs occur, the elements' type; the size of the one dimension, its lowest index.
        buffer.writeMultipleIntegers(Int32(count == 0 ? 0 : 1), Int32(0), type)
        if count > 0 {
            buffer.writeMultipleIntegers(Int32(count), Int32(1))
            elements(&buffer)
        }
        bytes = buffer
    }

    /// Calls `body` with the parameters as libpq wants them.
    @unsafe static func withPointers<Result>(
        _ values: [PostgresValue],
        _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> Result
    ) -> Result {
        // The buffers are copies that share the bytes; they keep them alive and in place while the pointers are used.
        let buffers = values.map(\.bytes)
        let lengths = buffers.map { Int32($0?.readableBytes ?? 0) }
        let formats = [Int32](repeating: 1, count: values.count)
        var pointers: [UnsafePointer<CChar>?] = unsafe []
        return unsafe collect(buffers[...], &pointers) { pointers in
            unsafe pointers.withUnsafeBufferPointer { pointers in
                unsafe body(pointers.baseAddress, lengths, formats)
            }
        }
    }

    @unsafe private static func collect<Result>(
        _ buffers: ArraySlice<ByteBuffer?>, _ pointers: inout [UnsafePointer<CChar>?],
        _ body: ([UnsafePointer<CChar>?]) -> Result
    ) -> Result {
        guard let first = buffers.first else { return unsafe body(pointers) }
        guard let buffer = first else {
            unsafe pointers.append(nil)
            return unsafe collect(buffers.dropFirst(), &pointers, body)
        }
        return unsafe buffer.withUnsafeReadableBytes { bytes in
            let start = unsafe bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            // An empty value is not NULL: libpq tells them apart by the pointer.
            return unsafe withUnsafePointer(to: CChar(0)) { empty in
                unsafe pointers.append(start ?? empty)
                return unsafe collect(buffers.dropFirst(), &pointers, body)
            }
        }
    }
}
