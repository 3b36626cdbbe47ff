public import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import NIOCore

/// What is stored of a schedule beside its event's bytes.
public struct ScheduleRow: Hashable, Sendable {
    /// Its key.
    public var key: ScheduleKey
    /// When its event is to be appended.
    public var due: Timestamp
    /// What it is appended to.
    public var aggregate: AggregateName
    /// The event's id.
    public var eventID: UUID
    /// The event's type.
    public var eventType: EventType
    /// Media type of the event's payload.
    public var contentType: String
    /// Version of the payload's schema.
    public var schemaVersion: UInt32
    /// Length of the payload, which is the tail of the event's bytes.
    public var payloadBytes: Int
    /// ``MartletModel/NewSchedule/latenessMillisMax``.
    public var latenessMillisMax: UInt64?
    /// CRC-32C of the event's bytes.
    public var checksum: UInt32
    /// Why it is set aside; nil where it is not.
    public var parked: String?

    /// A row of those parts.
    public init(
        key: ScheduleKey, due: Timestamp, aggregate: AggregateName, eventID: UUID, eventType: EventType,
        contentType: String, schemaVersion: UInt32, payloadBytes: Int, latenessMillisMax: UInt64?, checksum: UInt32,
        parked: String?
    ) {
        self.key = key
        self.due = due
        self.aggregate = aggregate
        self.eventID = eventID
        self.eventType = eventType
        self.contentType = contentType
        self.schemaVersion = schemaVersion
        self.payloadBytes = payloadBytes
        self.latenessMillisMax = latenessMillisMax
        self.checksum = checksum
        self.parked = parked
    }

    /// The row of a schedule that is set.
    public init(_ schedule: NewSchedule) {
        let event = schedule.event
        self.init(
            key: schedule.key, due: schedule.due, aggregate: schedule.aggregate, eventID: event.id,
            eventType: event.type, contentType: event.contentType, schemaVersion: event.schemaVersion,
            payloadBytes: event.payloadBytes, latenessMillisMax: schedule.latenessMillisMax,
            checksum: event.bodyChecksum ?? CRC32C.checksum(of: event.body), parked: nil)
    }

    /// As it is listed.
    public var listed: ListedSchedule {
        ListedSchedule(
            key, due: due, aggregate: aggregate, eventID: eventID, eventType: eventType, payloadBytes: payloadBytes,
            latenessMillisMax: latenessMillisMax, parked: parked)
    }

    /// The schedule with its event; nil where these are not the bytes of it.
    public func schedule(_ body: ByteBuffer) -> NewSchedule? {
        guard CRC32C.checksum(of: body) == checksum, 0...body.readableBytes ~= payloadBytes else { return nil }
        return NewSchedule(
            key, due: due, aggregate: aggregate,
            event: EncodedEvent(
                id: eventID, type: eventType, contentType: contentType, schemaVersion: schemaVersion,
                payloadBytes: payloadBytes, body: body, bodyChecksum: checksum),
            latenessMillisMax: latenessMillisMax)
    }
}
