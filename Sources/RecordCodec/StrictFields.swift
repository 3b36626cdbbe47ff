/// Reads protobuf fields that are encoded the one way in which protobuf-c writes them: keys as expected, varints no
/// longer than they need be. Whatever else it meets it declines, and the caller goes the long way.
///
/// The bytes must outlive it.
@safe public struct StrictFields {
    @usableFromInline @unsafe let bytes: UnsafeRawBufferPointer
    @usableFromInline var at: Int
    /// Where the fields end.
    public let end: Int

    /// The fields in that range of the bytes.
    @unsafe @inlinable public init(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "the fields lie within their bytes")
        unsafe self.bytes = bytes
        at = range.lowerBound
        end = range.upperBound
    }

    /// Nothing is left.
    @inlinable public var isAtEnd: Bool { at == end }

    /// What is left.
    @inlinable public var rest: Range<Int> { at..<end }

    /// Takes a key of one byte if it comes next.
    @inlinable public mutating func take(_ key: UInt8) -> Bool {
        guard at < end, unsafe bytes[at] == key else { return false }
        at += 1
        return true
    }

    /// Takes a key of two bytes if it comes next.
    @inlinable public mutating func take(_ first: UInt8, _ second: UInt8) -> Bool {
        guard at + 1 < end, unsafe bytes[at] == first, unsafe bytes[at + 1] == second else { return false }
        at += 2
        return true
    }

    /// Takes a varint of the shortest form; nil where there is none.
    @inlinable public mutating func varint() -> UInt64? {
        guard at < end else { return nil }
        let first = unsafe bytes[at]
        if first < 0x80 {
            at += 1
            return UInt64(first)
        }
        return longVarint(first)
    }

    @usableFromInline mutating func longVarint(_ first: UInt8) -> UInt64? {
        var value = UInt64(first & 0x7F)
        var shift: UInt64 = 7
        var next = at + 1
        while next < end, shift < 70 {
            let byte = unsafe bytes[next]
            next += 1
            if shift == 63, byte > 1 { return nil }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 {
                guard byte > 0 else { return nil }
                at = next
                return value
            }
            shift += 7
        }
        return nil
    }

    /// Takes what a length-delimited field holds; nil where it does not fit.
    @inlinable public mutating func content() -> Range<Int>? {
        guard let length = varint(), length <= UInt64(end - at) else { return nil }
        let start = at
        at += Int(truncatingIfNeeded: length)
        return start..<at
    }

    /// Takes a field with one byte of key that holds text or bytes, where it comes next.
    /// - Returns: what it holds; an empty range where another field comes, nil where it is empty or does not fit.
    @inlinable public mutating func optional(_ key: UInt8) -> Range<Int>? {
        guard take(key) else { return at..<at }
        guard let range = content(), !range.isEmpty else { return nil }
        return range
    }

    /// Takes a number that is not 0 if its key comes next.
    /// - Returns: 0 where another field comes; nil where it is 0 or no varint.
    @inlinable public mutating func number(_ key: UInt8) -> UInt64? {
        guard take(key) else { return 0 }
        guard let value = varint(), value != 0 else { return nil }
        return value
    }

    /// Takes a flag that is set if its key comes next.
    /// - Returns: false where another field comes; nil where it is not 1.
    @inlinable public mutating func flag(_ key: UInt8) -> Bool? {
        guard take(key) else { return false }
        guard varint() == 1 else { return nil }
        return true
    }
}
