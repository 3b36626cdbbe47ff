import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// What a clause works with: a subject, a tenant of its own, and short ways to say things.
struct Scenario: Sendable {
    let subject: any ConformanceSubject
    var random: SeededGenerator
    let tenant: TenantID
    /// How long it waits for what must come of a consumer.
    let patience: Duration

    init(subject: any ConformanceSubject, random: SeededGenerator, patience: Duration) {
        self.patience = patience
        self.subject = subject
        self.random = random
        // A clause runs against storage that others have used: the tenant is new whatever the seed.
        tenant = TenantID(UUID())
    }

    // MARK: Making things

    func aggregate(_ type: String = "order") -> AggregateName {
        guard let type = AggregateType(type) else { preconditionFailure("a valid aggregate type") }
        return AggregateName(type: type, id: UUID())
    }

    func type(_ text: String) -> EventType {
        guard let type = EventType(text) else { preconditionFailure("a valid event type") }
        return type
    }

    func event(
        _ kind: String = "Happened", id: UUID = .v7(), payload: String = #"{"n": 1}"#,
        contentType: String = NewEvent.json, schemaVersion: UInt32 = 1, metadata: EventMetadata = .empty
    ) throws -> EncodedEvent {
        try EncodedEvent(
            NewEvent(
                id: id, type: type(kind), contentType: contentType, schemaVersion: schemaVersion, metadata: metadata,
                payload: ByteBuffer(string: payload)))
    }

    func events(_ count: Int, _ kind: String = "Happened", payload: String = #"{"n": 1}"#) throws -> [EncodedEvent] {
        try (0..<count).map { _ in try event(kind, payload: payload) }
    }

    // MARK: Calling

    @discardableResult
    func append(
        _ events: [EncodedEvent], to aggregate: AggregateName, _ expected: ExpectedVersion = .any,
        tenant: TenantID? = nil
    ) async throws(MartletError) -> AppendReceipt {
        try await append([AggregateAppend(aggregate: aggregate, expected: expected, events: events)], tenant: tenant)
    }

    @discardableResult
    func append(
        _ parts: [AggregateAppend], tenant: TenantID? = nil, includeConflictingEvents: Bool = false
    ) async throws(MartletError) -> AppendReceipt {
        try await subject.append(
            AppendRequest(
                tenant: tenant ?? self.tenant, aggregates: parts, includeConflictingEvents: includeConflictingEvents))
    }

    func load(
        _ aggregate: AggregateName, after: UInt64 = 0, _ target: LoadTarget = .now, _ direction: Direction = .forward,
        max: UInt64? = nil, tenant: TenantID? = nil
    ) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent]) {
        try await subject.load(
            LoadRequest(
                tenant: tenant ?? self.tenant, aggregate: aggregate, after: Version(after), target: target,
                direction: direction, eventsMax: max))
    }

    func read(
        after: UInt64 = 0, _ target: ReadTarget = .head, _ direction: Direction = .forward,
        _ filter: EventFilter = .all, max: UInt64? = nil, tenant: TenantID? = nil
    ) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent]) {
        try await subject.read(
            ReadRequest(
                tenant: tenant ?? self.tenant, after: Position(after), target: target, direction: direction,
                filter: filter, eventsMax: max))
    }

    func head() async throws(MartletError) -> TenantHead { try await subject.head(of: tenant) }

    /// The error of a call that must be refused for that reason.
    @discardableResult
    func refused(
        _ reason: Reason, _ call: () async throws(MartletError) -> Void
    ) async throws -> MartletError {
        do throws(MartletError) {
            try await call()
        } catch {
            try requireEqual(error.reason, reason, "the reason (\(error))")
            return error
        }
        throw ConformanceFailure("the call went through, expected \(reason)")
    }

    /// The events that a subscription brings until it has caught up.
    func followed(
        _ start: SubscriptionStart = .after(.start), _ filter: EventFilter = .all
    ) async throws -> [RecordedEvent] {
        let box = Box<[RecordedEvent]>([])
        try await subject.subscribe(SubscribeRequest(tenant: tenant, start: start, filter: filter)) { item in
            switch item {
            case .events(let events, _):
                await box.update { $0 += events }
                return true
            case .signal(.caughtUp, _): return false
            case .signal: return true
            }
        }
        return await box.value
    }
}

/// A value that callbacks add to.
actor Box<Value: Sendable> {
    private(set) var value: Value

    init(_ value: Value) { self.value = value }

    func update(_ change: @Sendable (inout Value) -> Void) { change(&value) }
}
