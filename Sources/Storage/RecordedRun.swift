public import FoundationEssentials
public import MartletModel
public import NIOCore

/// Events of one tenant that one commit stored: consecutive positions, encoded once as they travel.
public struct RecordedRun: Sendable {
    /// One event of a run.
    public struct Event: Sendable {
        /// Its aggregate.
        public var aggregate: AggregateName
        /// Its number within the aggregate.
        public var version: Version
        /// Its id.
        public var id: UUID
        /// Its type.
        public var type: EventType
        /// Media type of its payload.
        public var contentType: String
        /// Version of its payload's schema.
        public var schemaVersion: UInt32
        /// Length of its payload, the tail of its record.
        public var payloadBytes: Int
        /// Where its record begins in ``RecordedRun/entries``.
        public var recordStart: Int
        /// Where its record, and with it its entry, ends in ``RecordedRun/entries``; the next entry begins
        /// there.
        public var end: Int
    }

    /// The tenant.
    public let tenant: TenantID
    /// The tenant's head before the run.
    public let previous: TenantHead
    /// When all of them were committed.
    public let recordedAt: Timestamp
    /// The events, one after the other, as entries (``EventPage/entries``). The reader index is 0.
    public let entries: ByteBuffer
    /// The events, in position order; never empty.
    public let events: [Event]

    /// A run of those parts.
    public init(
        tenant: TenantID, after previous: TenantHead, recordedAt: Timestamp, entries: ByteBuffer, events: [Event]
    ) {
        precondition(!events.isEmpty && entries.readerIndex == 0, "a run has events, and its entries begin at 0")
        self.tenant = tenant
        self.previous = previous
        self.recordedAt = recordedAt
        self.entries = entries
        self.events = events
    }

    /// Position of the first event.
    public var firstPosition: Position { previous.position.next }

    /// Position of the last event.
    public var lastPosition: Position { Position(firstPosition.rawValue + UInt64(events.count) - 1) }

    /// Id of the last event.
    public var lastEventID: UUID { events[events.count - 1].id }

    /// The tenant's head after the run.
    public var head: TenantHead {
        TenantHead(position: lastPosition, recordedAt: recordedAt, eventID: lastEventID)
    }

    /// The record of the event at that index of ``events``, without copying it.
    public func record(at index: Int) -> ByteBuffer {
        let event = events[index]
        return entries.getSlice(at: event.recordStart, length: event.end - event.recordStart) ?? ByteBuffer()
    }
}
