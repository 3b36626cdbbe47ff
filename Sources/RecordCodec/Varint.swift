public import NIOCore

/// The little of protobuf's wire format that is written and read here: messages are sent as
/// concatenations of parts that were encoded before (protobuf's encoding guide, "Last One Wins").
public enum Varint {
    /// How many bytes the varint of `value` takes: 1 to 10.
    @inlinable public static func byteCount(_ value: UInt64) -> Int {
        (64 - (value | 1).leadingZeroBitCount + 6) / 7
    }
}

extension ByteBuffer {
    /// Writes `value` as a varint.
    public mutating func writeVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        writeInteger(UInt8(truncatingIfNeeded: rest))
    }

    /// Writes the key of a length-delimited protobuf field, and the length of what follows.
    public mutating func writeField(_ number: UInt32, length: Int) {
        writeVarint(UInt64(number) << 3 | 2)
        writeVarint(UInt64(length))
    }
}
