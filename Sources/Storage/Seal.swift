import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import NIOCore

/// Checksums of what is kept beside the events: CRC-32C over everything that a row says, and whose it is.
public enum Seal {
    /// Of a document of a tenant. A row without a checksum was written before there were any.
    public static func document(
        _ value: ByteBuffer, kind: String, key: String, revision: UInt64, tenant: TenantID
    ) -> UInt32 {
        var head = ByteBuffer()
        head.writeBytes(tenant.uuid.bytes)
        add(kind, to: &head)
        add(key, to: &head)
        head.writeInteger(revision)
        head.writeInteger(CRC32C.checksum(of: value))
        return CRC32C.checksum(of: head)
    }

    /// Of the document of kind `revision`, the copy of a tenant's settings revision by which damage to it is found.
    public static func revision(_ revision: UInt64, tenant: TenantID) -> UInt32 {
        document(ByteBuffer(), kind: "revision", key: "", revision: revision, tenant: tenant)
    }

    /// Of what is known of a snapshot without its state, the state's checksum and length among it.
    public static func snapshot(
        _ info: SnapshotInfo, checksum: UInt32, of aggregate: AggregateName, in tenant: TenantID
    ) -> UInt32 {
        var head = ByteBuffer()
        head.writeBytes(tenant.uuid.bytes)
        head.writeBytes(aggregate.id.bytes)
        add(aggregate.type.text, to: &head)
        head.writeInteger(info.version.rawValue)
        head.writeInteger(info.createdAt.microseconds)
        head.writeInteger(info.schemaVersion)
        add(info.contentType, to: &head)
        head.writeInteger(UInt64(info.payloadBytes))
        head.writeInteger(checksum)
        return CRC32C.checksum(of: head)
    }

    private static func add(_ text: String, to head: inout ByteBuffer) {
        head.writeInteger(UInt32(truncatingIfNeeded: text.utf8.count))
        head.writeString(text)
    }
}

extension StoredSnapshot {
    /// Its seal, where it is one of that aggregate.
    public func seal(of aggregate: AggregateName, in tenant: TenantID) -> UInt32 {
        Seal.snapshot(info, checksum: checksum, of: aggregate, in: tenant)
    }
}
