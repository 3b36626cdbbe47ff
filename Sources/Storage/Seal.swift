public import FoundationEssentials
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

    /// Of a consumer.
    public static func consumer(_ consumer: StoredConsumer, _ id: ConsumerID) -> UInt32 {
        var head = start(id)
        head.writeInteger(consumer.revision)
        head.writeInteger(consumer.baseEpoch)
        add(consumer.start, to: &head)
        head.writeInteger(CRC32C.checksum(of: consumer.document))
        return CRC32C.checksum(of: head)
    }

    /// Of the highest epoch or revision of a tenant's deleted consumers.
    public static func epochFloor(_ epoch: UInt64, of tenant: TenantID) -> UInt32 {
        var head = ByteBuffer()
        head.writeBytes(tenant.uuid.bytes)
        head.writeInteger(epoch)
        return CRC32C.checksum(of: head)
    }

    /// Of a slot.
    public static func slot(_ slot: StoredSlot, _ id: SlotID) -> UInt32 {
        var head = start(id.consumer)
        head.writeInteger(Int64(id.number))
        head.writeInteger(slot.epoch)
        add(slot.floor, to: &head)
        add(slot.owner, to: &head)
        return CRC32C.checksum(of: head)
    }

    /// Of a blocked key.
    public static func blockedKey(_ blocked: BlockedKey, _ id: BlockedKeyID) -> UInt32 {
        var head = start(id.slot.consumer)
        head.writeInteger(Int64(id.slot.number))
        head.writeInteger(UInt32(id.key.bytes.count))
        head.writeBytes(id.key.bytes)
        add(blocked.first, to: &head)
        head.writeInteger(UInt8(blocked.isFirstHandled ? 1 : 0))
        switch blocked.until {
        case .asked: head.writeInteger(UInt8(0))
        case .retry(let at):
            head.writeInteger(UInt8(1))
            head.writeInteger(at.microseconds)
        }
        head.writeInteger(blocked.tries)
        head.writeInteger(blocked.since.microseconds)
        add(blocked.reason, to: &head)
        return CRC32C.checksum(of: head)
    }

    /// Of a schedule, but for whether it is set aside.
    public static func schedule(_ row: ScheduleRow, of tenant: TenantID) -> UInt32 {
        var head = ByteBuffer()
        head.writeBytes(tenant.uuid.bytes)
        add(row.key.text, to: &head)
        head.writeInteger(row.due.microseconds)
        head.writeBytes(row.aggregate.id.bytes)
        add(row.aggregate.type.text, to: &head)
        head.writeBytes(row.eventID.bytes)
        add(row.eventType.text, to: &head)
        add(row.contentType, to: &head)
        head.writeInteger(row.schemaVersion)
        head.writeInteger(UInt64(row.payloadBytes))
        head.writeInteger(UInt8(row.latenessMillisMax == nil ? 0 : 1))
        head.writeInteger(row.latenessMillisMax ?? 0)
        head.writeInteger(row.checksum)
        return CRC32C.checksum(of: head)
    }

    /// Of why a schedule is set aside.
    public static func parked(_ reason: String, _ key: ScheduleKey, event: UUID, of tenant: TenantID) -> UInt32 {
        var head = ByteBuffer()
        head.writeBytes(tenant.uuid.bytes)
        add(key.text, to: &head)
        head.writeBytes(event.bytes)
        add(reason, to: &head)
        return CRC32C.checksum(of: head)
    }

    /// Of how many schedules a tenant has, and when the first is due.
    public static func schedules(count: Int, due: Timestamp?, of tenant: TenantID) -> UInt32 {
        var head = ByteBuffer()
        head.writeBytes(tenant.uuid.bytes)
        head.writeInteger(Int64(count))
        head.writeInteger(UInt8(due == nil ? 0 : 1))
        head.writeInteger(due?.microseconds ?? 0)
        return CRC32C.checksum(of: head)
    }

    private static func start(_ id: ConsumerID) -> ByteBuffer {
        var head = ByteBuffer()
        head.writeBytes(id.tenant.uuid.bytes)
        add(id.name.text, to: &head)
        return head
    }

    private static func add(_ place: Checkpoint, to head: inout ByteBuffer) {
        head.writeInteger(place.position.rawValue)
        add(place.eventID, to: &head)
    }

    /// Whether there is an id is said too: otherwise an id would count for the next one that is missing.
    private static func add(_ id: UUID?, to head: inout ByteBuffer) {
        head.writeInteger(UInt8(id == nil ? 0 : 1))
        head.writeBytes(id?.bytes ?? [])
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
