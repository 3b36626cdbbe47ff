public import NIOCore

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), eight bytes at a time ("slicing by 8", Kounavis and Berry 2005).
public enum CRC32C {
    private static let tables: [[UInt32]] = {
        var tables = [[UInt32]](repeating: [UInt32](repeating: 0, count: 256), count: 8)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
            tables[0][byte] = value
        }
        for byte in 0..<256 {
            for slice in 1..<8 {
                let previous = tables[slice - 1][byte]
                tables[slice][byte] = previous >> 8 ^ tables[0][Int(previous & 0xFF)]
            }
        }
        return tables
    }()

    /// The checksum of the readable bytes.
    public static func checksum(of buffer: ByteBuffer) -> UInt32 {
        unsafe buffer.withUnsafeReadableBytes { unsafe checksum(of: $0) }
    }

    /// The checksum of the bytes.
    @unsafe public static func checksum(of bytes: UnsafeRawBufferPointer) -> UInt32 {
        let tables = tables
        var crc = UInt32.max
        var index = 0
        while index + 8 <= bytes.count {
            let word = unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self))
            let low = UInt32(truncatingIfNeeded: word) ^ crc
            let high = UInt32(truncatingIfNeeded: word >> 32)
            crc =
                tables[7][Int(low & 0xFF)] ^ tables[6][Int(low >> 8 & 0xFF)] ^ tables[5][Int(low >> 16 & 0xFF)]
                ^ tables[4][Int(low >> 24)]
            crc ^=
                tables[3][Int(high & 0xFF)] ^ tables[2][Int(high >> 8 & 0xFF)] ^ tables[1][Int(high >> 16 & 0xFF)]
                ^ tables[0][Int(high >> 24)]
            index += 8
        }
        while index < bytes.count {
            crc = unsafe crc >> 8 ^ tables[0][Int(UInt8(truncatingIfNeeded: crc) ^ bytes[index])]
            index += 1
        }
        return ~crc
    }
}
