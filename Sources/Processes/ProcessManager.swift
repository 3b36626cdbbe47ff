public import FoundationEssentials
public import MartletClient
public import MartletEventSourcing
public import MartletModel

/// A process over several aggregates: which of its instances an event concerns, and what each of them does about it.
///
/// An instance is an aggregate of its own, ``State``: what it knows follows from its own events. They are those that plans
/// record, time-outs, which the server appends when they are due, and whatever others append to it, such as the event that
/// begins it.
///
/// A ``ProcessRunner`` does what is planned in one append, together with the checkpoint of the event: once for each event,
/// whatever crashes in between. A ``ProcessScenario`` tests a manager without a server.
public protocol ProcessManager: Sendable {
    /// What an instance knows. Codable, so that it can be loaded from a snapshot, if its histories become long.
    associatedtype State: Aggregate

    /// The instances that an event concerns: none, one or several; each has one plan. Asked of every event that the consumer
    /// delivers, except those that the process has recorded itself.
    ///
    /// It depends on nothing but the event.
    /// - Throws: as ``plan(_:for:)``.
    func correlate(_ event: ProcessEvent) throws -> [UUID]

    /// What an instance does about an event.
    ///
    /// It depends on nothing but the event and the instance, and has no effects: it may be asked again for the same event,
    /// when the instance or an aggregate that gets a command has changed in the meantime.
    /// - Parameter instance: as it is now; with the event, if it is one of its own. At version 0 it has no events yet.
    /// - Throws: ``PlanFailure`` to say what becomes of the event. With any other error it is tried again, after the
    ///   consumer's backoff, up to its `triesMax`, while later events of its key wait.
    func plan(_ event: ProcessEvent, for instance: Loaded<State>) throws -> ProcessPlan<State>
}

extension ProcessManager {
    /// What an instance does about an event.
    public typealias Plan = ProcessPlan<State>

    /// A consumer's filter that delivers the events of these types of aggregates, and of the process's own.
    public static func filter(reactingTo types: AggregateType...) -> EventFilter {
        EventFilter(aggregateTypes: Set(types).union([State.type]))
    }
}

/// An event that a process reacts to.
public struct ProcessEvent: Sendable {
    /// The event.
    public let recorded: RecordedEvent
    private let types: TypeCache

    init(_ recorded: RecordedEvent, _ types: TypeCache) {
        self.recorded = recorded
        self.types = types
    }

    /// The event as the program knows it, with upcasters applied; empty if it belongs to an aggregate of another type.
    /// - Throws: ``MartletClient/EventUndecodable``, ``MartletEventSourcing/SchemaError``.
    public func events<A: Aggregate>(of type: A.Type) throws -> [A.Event] {
        guard recorded.aggregate.type == A.type else { return [] }
        return try types.codec(of: A.self).decode(recorded).compactMap { decoded in
            guard case .event(let event) = decoded else { return nil }
            return event
        }
    }

    /// A process recorded it by a plan, as an event of its own.
    var isPlanned: Bool { recorded.event.metadata.tags[Self.planned.key] == Self.planned.value }

    static let planned: (key: ExactText, value: String) = ("martlet.process", "planned")
}

/// What becomes of an event that cannot be planned for.
public struct PlanFailure: Error, Hashable, CustomStringConvertible {
    /// What becomes of it.
    public var rejection: ConsumerRejection
    /// Why, for a person.
    public var reason: String

    /// A failure with that consequence.
    public init(_ rejection: ConsumerRejection, _ reason: String) {
        self.rejection = rejection
        self.reason = reason
    }

    /// The reason.
    public var description: String { reason }
}
