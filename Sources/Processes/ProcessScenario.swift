public import FoundationEssentials
import MartletClient
public import MartletEventSourcing
public import MartletModel
import NIOCore

/// A test of a process that needs no server: given what happened, when an event comes or time passes, then this is planned.
///
/// ```swift
/// try await ProcessScenario(Transfers())
///     .given(Account.self, ada, .opened, .deposited(cents: 500))
///     .when(Transfer.self, id, .requested(from: ada, to: bob, cents: 200))
///     .then(
///         .appends(Account.self, ada, .withdrawn(cents: 200)), .appends(Transfer.self, id, .withdrawn),
///         .setsTimeOut("arrival", of: id, after: .seconds(60), .overdue))
///     .whenTimePasses(.seconds(60))
///     .then(.appends(Account.self, ada, .deposited(cents: 200)), .appends(Transfer.self, id, .refunded))
/// ```
///
/// Targets of commands decide in the states that their events in the scenario lead to. What is planned takes effect, so that
/// a scenario can go on after ``When/then(_:)``; it does not come to the process by itself, as it would from a server.
public struct ProcessScenario<Manager: ProcessManager>: Sendable {
    private let manager: Manager
    private var world: ScenarioWorld

    /// A scenario without events, which begins at that time.
    public init(_ manager: Manager, at time: Timestamp = Timestamp(microseconds: 1_767_225_600_000_000)) {
        self.manager = manager
        world = ScenarioWorld(now: time)
    }

    /// Events of an aggregate that have happened. The process has dealt with them.
    /// - Throws: ``MartletEventSourcing/EventUnencodable``, ``MartletEventSourcing/SchemaError``.
    public func given<A: Aggregate>(_ type: A.Type, _ id: UUID, _ events: A.Event...) throws -> ProcessScenario {
        var scenario = self
        let codec = try world.types.codec(of: type)
        for event in events {
            scenario.world.append(try codec.encode(event), to: AggregateName(type: A.type, id: id))
        }
        return scenario
    }

    /// An event is appended to an aggregate, by somebody else than the process.
    public func when<A: Aggregate>(_ type: A.Type, _ id: UUID, _ event: A.Event) throws -> When {
        try when(world.types.codec(of: type).encode(event), AggregateName(type: A.type, id: id))
    }

    /// An event is appended to an aggregate that the program has no type for.
    public func when(_ event: NewEvent, _ aggregate: AggregateName) -> When {
        var world = world
        return When(manager: manager, events: [world.append(event, to: aggregate)], world: world)
    }

    /// Time passes: time-outs that are due are appended, in their order, and come to the process after one another.
    public func whenTimePasses(_ duration: Duration) -> When {
        var world = world
        let events = world.pass(duration)
        return When(manager: manager, events: events, world: world)
    }

    /// The state of an aggregate.
    public func state<A: Aggregate>(of type: A.Type, _ id: UUID) throws -> A { try world.loaded(type, id).state }

    /// Something that a process does.
    public struct Effect: Sendable {
        /// What it is about, and what is done there, when the event was recorded at that time.
        let lines: @Sendable (TypeCache, Timestamp) throws -> (subject: String, [String])

        /// Exactly these events are appended to an aggregate, in this order.
        public static func appends<A: Aggregate>(_ type: A.Type, _ id: UUID, _ events: A.Event...) -> Effect {
            Effect { types, _ in
                let codec = try types.codec(of: type)
                return (
                    "\(AggregateName(type: A.type, id: id))",
                    try events.map { ScenarioWorld.line(try codec.encode($0)) }
                )
            }
        }

        /// An event of that type and payload is appended to an aggregate that the program has no type for.
        public static func appends(_ type: String, json: String, to aggregate: AggregateName) -> Effect {
            Effect { _, _ in ("\(aggregate)", ["\(type) \(json)"]) }
        }

        /// A time-out of an instance is set, for that long after the event was recorded.
        public static func setsTimeOut(
            _ name: String, of id: UUID, after delay: Duration, _ event: Manager.State.Event
        ) -> Effect {
            Effect { types, recordedAt in
                let key = try Reaction.key(of: name, Manager.State.self, id)
                let event = try types.codec(of: Manager.State.self).encode(event)
                return (
                    "time-out \(key)",
                    ["set to \(recordedAt.advanced(by: delay)): \(ScenarioWorld.line(event))"]
                )
            }
        }

        /// A time-out of an instance is cancelled, whether it is set or not.
        public static func cancelsTimeOut(_ name: String, of id: UUID) -> Effect {
            Effect { _, _ in ("time-out \(try Reaction.key(of: name, Manager.State.self, id))", ["cancelled"]) }
        }
    }

    /// Events that come to the process.
    public struct When: Sendable {
        let manager: Manager
        let events: [RecordedEvent]
        let world: ScenarioWorld

        /// The process does exactly this, in any order; nothing if there is no effect.
        /// - Returns: the scenario after that.
        @discardableResult
        public func then(_ effects: Effect...) async throws -> ProcessScenario {
            var expected = ScenarioEffects()
            for effect in effects {
                let (subject, lines) = try effect.lines(world.types, events.last?.recordedAt ?? world.now)
                expected.add(lines, to: subject)
            }
            let (actual, scenario) = try await outcome()
            guard actual == expected else {
                throw ScenarioFailure(description: "expected \(expected), but the process does \(actual)")
            }
            return scenario
        }

        /// Planning fails with that error.
        public func thenThrows<Failure: Error & Equatable>(_ expected: Failure) async throws {
            let actual: ScenarioEffects
            do { (actual, _) = try await outcome() } catch {
                guard (error as? Failure) != expected else { return }
                throw ScenarioFailure(description: "expected \(expected), but planning threw \(error)")
            }
            throw ScenarioFailure(description: "expected \(expected), but the process does \(actual)")
        }

        private func outcome() async throws -> (ScenarioEffects, ProcessScenario) {
            var scenario = ProcessScenario(manager)
            scenario.world = world
            var effects = ScenarioEffects()
            for event in events {
                var reaction = Reaction(
                    to: ProcessEvent(event, world.types), scenario.world, world.types, now: scenario.world.now)
                try await reaction.plan(by: manager)
                try scenario.world.carryOut(reaction, &effects)
            }
            return (effects, scenario)
        }
    }
}

/// What a process does, as text that can be compared: by aggregate, and by time-out.
struct ScenarioEffects: Equatable, CustomStringConvertible {
    private var lines: [String: [String]] = [:]

    mutating func add(_ new: [String], to subject: String) { lines[subject, default: []] += new }

    var description: String {
        guard !lines.isEmpty else { return "nothing" }
        return lines.sorted { $0.key < $1.key }.map { "\($0): \($1.joined(separator: ", "))" }.joined(separator: "; ")
    }
}

/// Events and time-outs in memory.
struct ScenarioWorld: AggregateSource {
    let types = TypeCache()
    private(set) var now: Timestamp
    private var histories: [AggregateName: [RecordedEvent]] = [:]
    private var position = Position.start
    private var timeOuts: [ScheduleKey: ScheduledEvent] = [:]

    init(now: Timestamp) { self.now = now }

    static func line(_ event: NewEvent) -> String { "\(event.type) \(String(buffer: event.payload))" }

    @discardableResult
    mutating func append(_ event: NewEvent, to aggregate: AggregateName) -> RecordedEvent {
        position = position.next
        let recorded = RecordedEvent(
            position: position, version: version(of: aggregate).next, recordedAt: now, aggregate: aggregate,
            event: event)
        histories[aggregate, default: []].append(recorded)
        return recorded
    }

    /// Appends the time-outs that come due.
    mutating func pass(_ duration: Duration) -> [RecordedEvent] {
        let end = now.advanced(by: duration)
        let due = timeOuts.values.filter { $0.due <= end }.sorted { ($0.due, $0.key) < ($1.due, $1.key) }
        let events = due.map { timeOut in
            timeOuts[timeOut.key] = nil
            now = max(now, timeOut.due)
            return append(timeOut.event, to: timeOut.aggregate)
        }
        now = end
        return events
    }

    mutating func carryOut(_ reaction: Reaction, _ effects: inout ScenarioEffects) throws {
        for part in reaction.parts {
            guard part.expected.holds(at: version(of: part.aggregate)) else {
                throw ScenarioFailure(
                    description: "the plan expects \(part.aggregate) to be at \(part.expected), but its version is "
                        + "\(version(of: part.aggregate))")
            }
            effects.add(part.events.map { Self.line($0) }, to: "\(part.aggregate)")
            for event in part.events { append(event, to: part.aggregate) }
        }
        for change in reaction.schedules {
            switch change {
            case .set(let timeOut):
                effects.add(["set to \(timeOut.due): \(Self.line(timeOut.event))"], to: "time-out \(timeOut.key)")
                timeOuts[timeOut.key] = timeOut
            case .cancel(let key):
                effects.add(["cancelled"], to: "time-out \(key)")
                timeOuts[key] = nil
            }
        }
    }

    private func version(of aggregate: AggregateName) -> MartletModel.Version {
        histories[aggregate]?.last?.version ?? .none
    }

    func loaded<A: Aggregate>(_ type: A.Type, _ id: UUID) throws -> Loaded<A> {
        var loaded = Loaded(id: id, state: A(id: id), version: .none, position: position)
        for recorded in histories[AggregateName(type: A.type, id: id)] ?? [] {
            for decoded in try types.codec(of: type).decode(recorded) {
                switch decoded {
                case .event(let event): loaded.state.apply(event)
                case .unknown(let event): loaded.state.applyUnknown(event)
                }
            }
            loaded.version = recorded.version
        }
        return loaded
    }

    func load<A: Aggregate>(_ type: A.Type, _ id: UUID) async throws -> Loaded<A> { try loaded(type, id) }
}
