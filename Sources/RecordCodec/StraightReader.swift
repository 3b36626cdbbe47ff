/// Reads fields that are expected: each by its key of one byte, in the form in which servers write them. Where one is not
/// there, nothing is taken: ``LenientFields`` reads what else is valid.
@unsafe struct StraightReader {
    /// Where the next field begins.
    private(set) var at: Int
    private let end: Int
    private let bytes: UnsafeRawBufferPointer

    /// The fields at that range of bytes, which must outlive the reader.
    @inline(__always)
    init(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
        unsafe self.bytes = unsafe bytes
        unsafe at = range.lowerBound
        unsafe end = range.upperBound
    }

    /// Takes a number of at most 8 bytes.
    @inline(__always)
    mutating func number(key: UInt8) -> UInt64? {
        guard unsafe take(key) else { return nil }
        return unsafe number()
    }

    /// Takes text, bytes or a message.
    /// - Returns: where it lies.
    @inline(__always)
    mutating func content(key: UInt8) -> Range<Int>? {
        guard unsafe take(key), let length = unsafe number(), length <= UInt64(unsafe end - at) else { return nil }
        let start = unsafe at
        unsafe at += Int(truncatingIfNeeded: length)
        return unsafe start..<at
    }

    /// Takes four bytes, little-endian.
    @inline(__always)
    mutating func fixed32(key: UInt8) -> UInt32? {
        guard unsafe end - at >= 5, unsafe bytes[at] == key else { return nil }
        defer { unsafe at += 5 }
        return unsafe UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at + 1, as: UInt32.self))
    }

    @inline(__always)
    private mutating func take(_ key: UInt8) -> Bool {
        guard unsafe at < end, unsafe bytes[at] == key else { return false }
        unsafe at += 1
        return true
    }

    /// Takes a varint: eight bytes at once, of which the seven lower bits of each up to the first whose highest is not set
    /// are drawn together.
    @inline(__always)
    private mutating func number() -> UInt64? {
        guard unsafe at < end else { return nil }
        let first = unsafe bytes[at]
        if first < 0x80 {
            unsafe at += 1
            return UInt64(first)
        }
        guard unsafe end - at >= 8 else { return nil }
        let word = unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        let ends = ~word & 0x8080_8080_8080_8080
        guard ends != 0 else { return nil }
        // All bits up to the end's highest.
        var value = word & (ends ^ (ends - 1)) & 0x7F7F_7F7F_7F7F_7F7F
        value = value & 0x007F_007F_007F_007F | (value & 0x7F00_7F00_7F00_7F00) >> 1
        value = value & 0x0000_3FFF_0000_3FFF | (value & 0x3FFF_0000_3FFF_0000) >> 2
        value = value & 0x0000_0000_0FFF_FFFF | (value & 0x0FFF_FFFF_0000_0000) >> 4
        unsafe at += ends.trailingZeroBitCount / 8 + 1
        return value
    }
}
