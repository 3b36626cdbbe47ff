import CMartletChecksum
import FoundationEssentials
import MartletModel
public import NIOCore

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instructions where it has them.
///
/// The checksum of bytes that follow others is computed from theirs: 0 is that of no bytes.
public enum CRC32C {
    /// The checksum of the readable bytes.
    public static func checksum(of buffer: ByteBuffer) -> UInt32 {
        unsafe buffer.withUnsafeReadableBytes { unsafe extend(0, by: $0) }
    }

    /// The checksum of the bytes.
    @unsafe public static func checksum(of bytes: UnsafeRawBufferPointer) -> UInt32 { unsafe extend(0, by: bytes) }

    /// The checksum of what `checksum` is that of, followed by the bytes.
    @unsafe public static func extend(_ checksum: UInt32, by bytes: UnsafeRawBufferPointer) -> UInt32 {
        unsafe martlet_crc32c(checksum, bytes.baseAddress, bytes.count)
    }

    /// The same as ``extend(_:by:)`` by tables, on any processor.
    @unsafe static func extendByTable(_ checksum: UInt32, by bytes: UnsafeRawBufferPointer) -> UInt32 {
        unsafe martlet_crc32c_by_table(checksum, bytes.baseAddress, bytes.count)
    }

    /// The checksum of what `checksum` is that of, followed by a part of the bytes.
    static func extend(_ checksum: UInt32, by range: Range<Int>, of bytes: Span<UInt8>) -> UInt32 {
        unsafe bytes.extracting(range).withUnsafeBytes { unsafe extend(checksum, by: $0) }
    }

    /// The checksum of what `checksum` is that of, followed by the 16 bytes of the tenant's id.
    static func extend(_ checksum: UInt32, by tenant: TenantID) -> UInt32 {
        unsafe withUnsafeBytes(of: tenant.uuid.uuid) { unsafe extend(checksum, by: $0) }
    }

    /// The checksum of a part of the bytes, the 16 bytes of the tenant's id, and another part.
    static func checksum(
        of first: Range<Int>, _ tenant: TenantID, _ second: Range<Int>, in bytes: Span<UInt8>
    ) -> UInt32 {
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe withUnsafeBytes(of: tenant.uuid.uuid) { tenant in
                let (first, second) = unsafe (bytes.part(first), bytes.part(second))
                return unsafe martlet_crc32c_of_parts(
                    first.baseAddress, first.count, tenant.baseAddress, tenant.count, second.baseAddress, second.count)
            }
        }
    }
}
