import FoundationEssentials
import MartletClient
import MartletEventSourcing
import MartletModel

/// Where aggregates are loaded from.
protocol AggregateSource: Sendable {
    /// The aggregate as it is; without events, the state before the first.
    func load<A: Aggregate>(_ type: A.Type, _ id: UUID) async throws -> Loaded<A>
}

/// What a process does about one event, as one append: the parts of all instances and aggregates, and changes of schedules.
struct Reaction: Sendable {
    /// A target has refused a command.
    private struct Refused: Error {
        var refusal: any Error
    }

    /// Plans for refused commands that may follow one another.
    private static let alternativesMax = 16

    private let event: ProcessEvent
    private let source: any AggregateSource
    private let types: TypeCache
    /// Metadata of all events.
    private let metadata: EventMetadata
    private var drafts: [AggregateName: any AggregateDraft] = [:]
    /// The aggregates in the order in which they were first needed.
    private var order: [AggregateName] = []
    private(set) var schedules: [NewScheduleChange] = []

    init(to event: ProcessEvent, _ source: any AggregateSource, _ types: TypeCache, now: Timestamp) {
        self.event = event
        self.source = source
        self.types = types
        metadata = CommandContext(causedBy: event.recorded).metadata(occurredAt: now)
    }

    var parts: [NewAggregateEvents] { order.compactMap { drafts[$0]?.part } }

    /// Plans for all instances that the event concerns.
    mutating func plan<Manager: ProcessManager>(by manager: Manager) async throws {
        guard event.recorded.aggregate.type != Manager.State.type || !event.isPlanned else { return }
        var planned: Set<UUID> = []
        for id in try manager.correlate(event) where planned.insert(id).inserted {
            let draft = try await load(Manager.State.self, id)
            try await carryOut(manager.plan(event, for: draft.loaded), for: id)
        }
    }

    private mutating func carryOut<State: Aggregate>(
        _ plan: ProcessPlan<State>, for id: UUID, alternatives: Int = 0
    ) async throws {
        guard !plan.isEmpty else { return }
        let before = self
        var recordsAny = false
        for step in plan.steps {
            switch step {
            case .record(let events):
                recordsAny = recordsAny || !events.isEmpty
                var metadata = metadata
                metadata.tags[ProcessEvent.planned.key] = ProcessEvent.planned.value
                try await add(events, to: State.self, id, metadata)
            case .execute(let command):
                do { try await command.carryOut(&self) } catch let refused as Refused {
                    guard let ifRefused = command.ifRefused else { throw refused.refusal }
                    guard alternatives < Self.alternativesMax else {
                        throw PlanFailure(
                            .park, "\(alternatives) plans for refused commands led to a refused command again")
                    }
                    self = before
                    return try await carryOut(
                        ifRefused(refused.refusal), for: id, alternatives: alternatives + 1)
                }
            case .append(let events, let name, let expected): try append(events, to: name, expecting: expected)
            case .setTimeOut(let name, let due, let event):
                try setTimeOut(name, of: State.self, id, due, event)
            case .cancelTimeOut(let name): change(.cancel(try Self.key(of: name, State.self, id)))
            }
        }
        guard recordsAny else {
            throw PlanFailure(
                .park,
                "a plan of \(State.type) \(id) has effects, but records no event of the instance: add a record(_:)")
        }
    }

    // MARK: Aggregates

    /// Has an aggregate decide, in the state that includes what is planned already.
    mutating func decide<A: CommandHandling>(_ command: A.Command, _ type: A.Type, _ id: UUID) async throws {
        let draft = try await load(type, id)
        let events: [A.Event]
        do { events = try draft.loaded.state.decide(command) } catch { throw Refused(refusal: error) }
        try await add(events, to: type, id, metadata)
    }

    private mutating func load<A: Aggregate>(_ type: A.Type, _ id: UUID) async throws -> LoadedDraft<A> {
        let name = AggregateName(type: A.type, id: id)
        let known = drafts[name]
        if let draft = known as? LoadedDraft<A> { return draft }
        var draft = LoadedDraft(try await source.load(type, id), try types.codec(of: type))
        if let plain = known as? PlainDraft {
            try draft.append(plain.events, expecting: plain.expected)
        } else if known != nil {
            throw PlanFailure(.park, "plans for one event use \(name) as aggregates of different Swift types")
        }
        put(draft, name)
        return draft
    }

    private mutating func add<A: Aggregate>(
        _ events: [A.Event], to type: A.Type, _ id: UUID, _ metadata: EventMetadata
    ) async throws {
        var draft = try await load(type, id)
        for event in events { try draft.take(event, metadata: metadata) }
        put(draft, AggregateName(type: A.type, id: id))
    }

    private mutating func append(
        _ events: [NewEvent], to name: AggregateName, expecting expected: ExpectedVersion
    ) throws {
        var draft = drafts[name] ?? PlainDraft(name)
        try draft.append(
            events.map { event in
                var event = event
                // Who wrote the event and what caused it is known here, unless its author says otherwise.
                if event.metadata == .empty { event.metadata = metadata }
                return event
            }, expecting: expected)
        put(draft, name)
    }

    private mutating func put(_ draft: any AggregateDraft, _ name: AggregateName) {
        if drafts.updateValue(draft, forKey: name) == nil { order.append(name) }
    }

    /// Saves snapshots of those aggregates of which the server says that one is due; failures are the repository's to count.
    func saveSnapshots(_ receipt: AppendReceipt, _ repositories: Repositories) async {
        for aggregate in receipt.aggregates where aggregate.snapshotDue {
            await drafts[aggregate.aggregate]?.saveSnapshot(repositories)
        }
    }

    // MARK: Time-outs

    /// The key of an instance's time-out: `TYPE:ID:NAME`.
    static func key<State: Aggregate>(of name: String, _ type: State.Type, _ id: UUID) throws -> ScheduleKey {
        let text = "\(State.type):\(id.uuidString.lowercased()):\(name)"
        guard !name.isEmpty, let key = ScheduleKey(text) else {
            throw PlanFailure(
                .park,
                "'\(text)' cannot name a schedule: a time-out's name has characters of [A-Za-z0-9_.:-], and with the "
                    + "type at most 90")
        }
        return key
    }

    private mutating func setTimeOut<State: Aggregate>(
        _ name: String, of type: State.Type, _ id: UUID, _ due: ProcessPlan<State>.Due, _ event: State.Event
    ) throws {
        // It has not happened yet.
        var metadata = metadata
        metadata.occurredAt = nil
        let time: Timestamp =
            switch due {
            case .at(let time): time
            case .after(let delay): self.event.recorded.recordedAt.advanced(by: delay)
            }
        change(
            .set(
                ScheduledEvent(
                    try Self.key(of: name, type, id), due: time, aggregate: AggregateName(type: State.type, id: id),
                    event: try types.codec(of: type).encode(event, metadata: metadata))))
    }

    /// The last change of a schedule counts.
    private mutating func change(_ change: NewScheduleChange) {
        schedules.removeAll { $0.key == change.key }
        schedules.append(change)
    }
}

extension NewScheduleChange {
    var key: ScheduleKey {
        switch self {
        case .set(let schedule): schedule.key
        case .cancel(let key): key
        }
    }
}

extension Timestamp {
    /// That much later, to the microsecond. What is out of a schedule's range stays out of it.
    func advanced(by duration: Duration) -> Timestamp {
        let (seconds, attoseconds) = duration.components
        let bounded = min(max(seconds, -1_000_000_000_000), 1_000_000_000_000)
        let (sum, overflow) = microseconds.addingReportingOverflow(
            bounded * 1_000_000 + attoseconds / 1_000_000_000_000)
        return overflow ? Timestamp(microseconds: seconds < 0 ? .min : .max) : Timestamp(microseconds: sum)
    }
}
