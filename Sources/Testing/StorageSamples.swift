public import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import MartletStorage
import NIOCore

// Short ways to drive an engine's writers and readers by hand.

extension AggregateName {
    /// A new aggregate of that type.
    public static func new(_ type: String = "order") -> AggregateName {
        guard let type = AggregateType(type) else { preconditionFailure("a valid aggregate type") }
        return AggregateName(type: type, id: UUID())
    }
}

extension EncodedEvent {
    /// An event.
    public static func sample(
        _ payload: String = #"{"n": 1}"#, kind: String = "Happened", id: UUID = .v7(),
        contentType: String = NewEvent.json
    ) throws -> EncodedEvent {
        guard let type = EventType(kind) else { preconditionFailure("a valid event type") }
        return try EncodedEvent(
            NewEvent(id: id, type: type, contentType: contentType, payload: ByteBuffer(string: payload)))
    }
}

extension AppendRequest {
    /// An append of those events to one aggregate.
    public static func of(
        _ events: [EncodedEvent], to aggregate: AggregateName = .new(), _ expected: ExpectedVersion = .any,
        tenant: TenantID
    ) -> AppendRequest {
        AppendRequest(
            tenant: tenant, aggregates: [AggregateAppend(aggregate: aggregate, expected: expected, events: events)])
    }

    /// An append of so many events.
    public static func sample(
        _ count: Int = 1, to aggregate: AggregateName = .new(), _ expected: ExpectedVersion = .any, tenant: TenantID
    ) throws -> AppendRequest {
        .of(try (0..<count).map { _ in try .sample() }, to: aggregate, expected, tenant: tenant)
    }
}

extension StorageWriter {
    /// Commits appends as one batch.
    public func commit(_ batch: [AppendRequest], now: Timestamp) throws(StorageError) -> CommitResult {
        try commit(batch.map { .append($0) }, now: now)
    }

    /// Commits one append.
    /// - Returns: its receipt; nil where it was refused.
    @discardableResult
    public func append(_ request: AppendRequest, now: Timestamp = .now()) throws(StorageError) -> AppendReceipt? {
        try commit([.append(request)], now: now).outcomes.first?.receipt
    }

    /// Commits one change.
    @discardableResult
    public func apply(_ change: TenantChange, now: Timestamp) throws(StorageError) -> WriteOutcome {
        let result = try commit([.change(change)], now: now)
        guard let outcome = result.outcomes.first else { preconditionFailure("a writer answers every command") }
        return outcome
    }
}

extension EventStore {
    /// Appends.
    /// - Throws: where it was refused, as a server answers that.
    public func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt {
        let outcome = try await write(.append(request))
        if let refusal = outcome.refusal { throw refusal }
        guard let receipt = outcome.receipt else { preconditionFailure("an append ends with a receipt or a refusal") }
        return receipt
    }

    /// Carries out a change beside the events.
    @discardableResult
    public func apply(_ change: TenantChange) async throws(MartletError) -> WriteOutcome {
        try await write(.change(change))
    }
}

extension StorageReader {
    /// All events of a tenant, in position order.
    public func events(of tenant: TenantID) throws -> [RecordedEvent] {
        let head = try head(of: tenant).position
        var events: [RecordedEvent] = []
        while true {
            let page = try page(
                of: tenant, positions: PageRange(after: Position(UInt64(events.count)), to: head), filter: .all,
                bounds: PageBounds(bytesMax: 256 << 10))
            events += try RecordedEntries.decode(page.entries)
            guard !page.isLast, page.count > 0 else { return events }
        }
    }
}
