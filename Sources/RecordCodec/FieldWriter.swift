public import FoundationEssentials
public import NIOCore

/// Writes protobuf fields into memory whose size was worked out before. Writing beyond it traps.
@safe public struct FieldWriter {
    @usableFromInline @unsafe let target: UnsafeMutableRawBufferPointer
    @usableFromInline var written = 0

    /// How many bytes are written.
    @inlinable public var count: Int { written }

    /// Writes from the beginning of the memory, which must outlive it.
    @unsafe @inlinable public init(_ target: UnsafeMutableRawBufferPointer) { unsafe self.target = target }

    /// Writes one byte.
    @inlinable public mutating func byte(_ byte: UInt8) {
        precondition(unsafe count < target.count, "the sizes were worked out before")
        unsafe target[written] = byte
        written += 1
    }

    /// Writes a varint.
    @inlinable public mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            byte(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        byte(UInt8(truncatingIfNeeded: rest))
    }

    /// Writes bytes.
    @unsafe @inlinable public mutating func bytes(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress, source.count > 0 else { return }
        precondition(unsafe source.count <= target.count - count, "the sizes were worked out before")
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[count...]).baseAddress?.copyMemory(
            from: start, byteCount: source.count)
        written += source.count
    }

    /// Writes four bytes, little-endian.
    mutating func fixed32(_ value: UInt32) {
        unsafe withUnsafeBytes(of: value.littleEndian) { unsafe bytes($0) }
    }

    /// The checksum of what `checksum` is that of, followed by what was written from there on.
    func checksum(_ checksum: UInt32, from start: Int) -> UInt32 {
        let part = unsafe UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(target)[start..<written])
        return unsafe CRC32C.extend(checksum, by: part)
    }

    /// Writes what a buffer holds.
    @inlinable public mutating func buffer(_ buffer: ByteBuffer) {
        unsafe buffer.withUnsafeReadableBytes { unsafe bytes($0) }
    }

    /// Writes the bytes of a text.
    @inlinable public mutating func text(_ text: String) {
        let isWritten: Void? = unsafe text.utf8.withContiguousStorageIfAvailable { utf8 in
            unsafe bytes(UnsafeRawBufferPointer(utf8))
        }
        guard isWritten == nil else { return }
        for unit in text.utf8 { byte(unit) }
    }

    /// Writes the 16 bytes of a UUID.
    @inlinable public mutating func uuid(_ uuid: UUID) {
        unsafe withUnsafeBytes(of: uuid.uuid) { unsafe bytes($0) }
    }

    /// Writes a field of text with one byte of key; nothing for empty text, as proto3 has it.
    @inlinable public mutating func field(_ key: UInt8, _ text: String) {
        let length = text.utf8.count
        guard length > 0 else { return }
        byte(key)
        varint(UInt64(length))
        self.text(text)
    }

    /// Writes a field with one byte of key that holds a number; nothing for 0, as proto3 has it.
    @inlinable public mutating func field(_ key: UInt8, _ value: UInt64) {
        guard value != 0 else { return }
        byte(key)
        varint(value)
    }

    /// How many bytes a field with one byte of key and that content takes, key and length included.
    @inlinable public static func size(ofContent count: Int) -> Int { 1 + Varint.byteCount(UInt64(count)) + count }

    /// How many bytes ``field(_:_:)`` writes of a text.
    @inlinable public static func size(of text: String) -> Int {
        let length = text.utf8.count
        return length == 0 ? 0 : size(ofContent: length)
    }

    /// How many bytes ``field(_:_:)`` writes of a number.
    @inlinable public static func size(of value: UInt64) -> Int { value == 0 ? 0 : 1 + Varint.byteCount(value) }
}

extension ByteBuffer {
    /// Appends `size` bytes, which `body` must all write.
    @inlinable public mutating func writeFields(_ size: Int, _ body: (inout FieldWriter) -> Void) {
        unsafe writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
            var writer = unsafe FieldWriter(UnsafeMutableRawBufferPointer(rebasing: target[..<size]))
            body(&writer)
            precondition(writer.count == size, "the sizes were worked out before")
            return size
        }
    }
}
