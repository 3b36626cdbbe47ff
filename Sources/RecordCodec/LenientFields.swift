/// Reads protobuf fields in whatever form they are valid: keys and numbers longer than they need be, in any order, with
/// unknown fields and groups in between. It is what reads bytes that come from storage or from a server; where appends are
/// admitted, ``StrictFields`` is.
///
/// It holds a place in bytes that each call is given. Offsets count from the first of them.
public struct LenientFields {
    /// What a field holds.
    public enum Value {
        /// A number.
        case varint(UInt64)
        /// Where text, bytes or a message lie.
        case content(Range<Int>)
        /// Four bytes, little-endian.
        case fixed32(UInt32)
        /// Eight bytes.
        case fixed64
        /// A group, which no message of ours has.
        case group
    }

    /// One field.
    public struct Field {
        /// Its number.
        public let number: UInt32
        /// Where its key begins.
        public let start: Int
        /// What it holds.
        public let value: Value

        @inlinable init(number: UInt32, start: Int, value: Value) {
            self.number = number
            self.start = start
            self.value = value
        }
    }

    /// Where the next field begins.
    @usableFromInline var at: Int
    @usableFromInline let end: Int
    @usableFromInline var broken = false

    /// Groups lie in each other at most so deep, as everywhere in protobuf.
    private static let groupsMax = 100

    /// The fields in that range of bytes.
    @inlinable public init(_ range: Range<Int>) {
        at = range.lowerBound
        end = range.upperBound
    }

    /// Where the next field begins.
    @inlinable public var offset: Int { at }

    /// Goes on at that offset, up to which another reader took the fields.
    @inlinable mutating func move(to offset: Int) { at = offset }

    /// There is nothing more to take.
    @inlinable public var isAtEnd: Bool { at == end }

    /// The fields ended at bytes that are none.
    @inlinable public var isBroken: Bool { broken }

    /// The next field; nil at the end, and where the bytes are none. The fields must lie within the bytes.
    @inlinable public mutating func next(in bytes: Span<UInt8>) -> Field? {
        guard at < end, !broken else { return nil }
        let start = at
        guard let key = key(in: bytes) else { return fail() }
        let value: Value
        switch key & 7 {
        case 0:
            guard let number = varint(in: bytes) else { return fail() }
            value = .varint(number)
        case 2:
            guard let content = content(in: bytes) else { return fail() }
            value = .content(content)
        case 5:
            guard end - at >= 4 else { return fail() }
            let low = UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8
            value = .fixed32(low | UInt32(bytes[at + 2]) << 16 | UInt32(bytes[at + 3]) << 24)
            at += 4
        default:
            guard skip(key, in: bytes, depth: 0) else { return fail() }
            value = key & 7 == 1 ? .fixed64 : .group
        }
        return Field(number: key >> 3, start: start, value: value)
    }

    /// Takes a varint of at most 10 bytes; nil where there is none. Of one beyond 64 bits, the lower 64 count, as
    /// everywhere in protobuf.
    @inlinable public mutating func varint(in bytes: Span<UInt8>) -> UInt64? {
        guard at < end else { return nil }
        let first = bytes[at]
        if first < 0x80 {
            at += 1
            return UInt64(first)
        }
        var value = UInt64(first & 0x7F)
        var shift: UInt64 = 7
        var next = at + 1
        while next < end, shift < 70 {
            let byte = bytes[next]
            next += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 {
                at = next
                return value
            }
            shift += 7
        }
        return nil
    }

    /// Takes what a length-delimited field holds; nil where it does not fit.
    @inlinable mutating func content(in bytes: Span<UInt8>) -> Range<Int>? {
        guard let length = varint(in: bytes), length <= UInt64(end - at) else { return nil }
        let start = at
        at += Int(truncatingIfNeeded: length)
        return start..<at
    }

    /// Takes a key, whose number has 29 bits and is not 0.
    @inlinable mutating func key(in bytes: Span<UInt8>) -> UInt32? {
        let start = at
        guard let key = varint(in: bytes), at - start <= 5, key >= 8 else { return nil }
        return UInt32(exactly: key)
    }

    @usableFromInline mutating func fail() -> Field? {
        broken = true
        return nil
    }

    /// Steps over what the field of that key holds; false where that is nothing.
    @usableFromInline mutating func skip(_ key: UInt32, in bytes: Span<UInt8>, depth: Int) -> Bool {
        switch key & 7 {
        case 0: return varint(in: bytes) != nil
        case 1: return step(8)
        case 2: return content(in: bytes) != nil
        case 3:
            guard depth < Self.groupsMax else { return false }
            while let inner = self.key(in: bytes) {
                if inner & 7 == 4 { return inner >> 3 == key >> 3 }
                guard skip(inner, in: bytes, depth: depth + 1) else { return false }
            }
            return false
        case 5: return step(4)
        default: return false
        }
    }

    private mutating func step(_ count: Int) -> Bool {
        guard end - at >= count else { return false }
        at += count
        return true
    }
}

extension LenientFields.Field {
    /// The number that it holds, if it holds one.
    @inlinable public var varint: UInt64? { if case .varint(let number) = value { number } else { nil } }

    /// Where the bytes lie that it holds, if it holds some.
    @inlinable public var content: Range<Int>? { if case .content(let range) = value { range } else { nil } }

    /// Its wire type, as it stands in its key.
    @inlinable public var wireType: UInt8 {
        switch value {
        case .varint: 0
        case .fixed64: 1
        case .content: 2
        case .group: 3
        case .fixed32: 5
        }
    }
}
