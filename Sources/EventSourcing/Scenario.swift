public import FoundationEssentials
import MartletModel
import NIOCore

/// What a ``Scenario`` found; any test framework reports it as it reports an error that a test throws.
public struct ScenarioFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was expected, and what came.
    public var description: String

    package init(description: String) { self.description = description }
}

/// A test of an aggregate that needs no server: given what happened, when a command comes, then this is decided.
///
/// ```swift
/// try Scenario<Account>.given(.opened(owner: "Ada")).when(.deposit(cents: 5)).then(.deposited(cents: 5))
/// try Scenario<Account>.given().when(.deposit(cents: 5)).thenThrows(Account.Refusal.notOpen)
/// ```
///
/// Events are compared as they are stored, so that they need not be Equatable.
public struct Scenario<A: Aggregate>: Sendable {
    private enum Step: Sendable {
        case event(A.Event)
        case stored(String, UInt32, String)
    }

    private var history: [Step] = []
    private var id = UUID()

    private init(_ history: [Step]) { self.history = history }

    /// Events that have happened; may be empty.
    public static func given(_ events: A.Event...) -> Scenario { Scenario(events.map { .event($0) }) }

    /// The events that have happened.
    public static func given(_ events: [A.Event]) -> Scenario { Scenario(events.map { .event($0) }) }

    /// An event has happened, stored in that schema version as that JSON: it goes through the upcasters.
    public static func given(stored type: String, version: UInt32, json: String) -> Scenario {
        Scenario([.stored(type, version, json)])
    }

    /// That has happened since.
    public func and(_ events: A.Event...) -> Scenario { adding(events.map { .event($0) }) }

    /// An event has happened since, stored in that schema version as that JSON.
    public func and(stored type: String, version: UInt32, json: String) -> Scenario {
        adding([.stored(type, version, json)])
    }

    /// The aggregate has that id.
    public func withID(_ id: UUID) -> Scenario {
        var scenario = self
        scenario.id = id
        return scenario
    }

    private func adding(_ steps: [Step]) -> Scenario {
        var scenario = self
        scenario.history += steps
        return scenario
    }

    /// Something is decided in the state that the history leads to.
    public func when(_ decide: @escaping @Sendable (A) throws -> [A.Event]) -> Decision {
        Decision(scenario: self, decide: decide)
    }

    /// The state that the history leads to.
    /// - Throws: ``SchemaError``, ``EventUndecodable``.
    public func state() throws -> A {
        let codec = try EventCodec<A>()
        var state = A(id: id)
        for (index, step) in history.enumerated() {
            switch step {
            case .event(let event): state.apply(event)
            case .stored(let type, let version, let json):
                for decoded in try codec.decode(recorded(type, version, json, number: UInt64(index) + 1)) {
                    switch decoded {
                    case .event(let event): state.apply(event)
                    case .unknown(let event): state.applyUnknown(event)
                    }
                }
            }
        }
        return state
    }

    private func recorded(
        _ type: String, _ version: UInt32, _ json: String, number: UInt64
    ) throws(ScenarioFailure) -> RecordedEvent {
        guard let type = EventType(type) else { throw ScenarioFailure(description: "'\(type)' is not an event type") }
        return RecordedEvent(
            position: Position(number), version: Version(number), recordedAt: Timestamp(microseconds: 0),
            aggregate: AggregateName(type: A.type, id: id),
            event: NewEvent(type: type, schemaVersion: version, payload: ByteBuffer(string: json)))
    }

    /// The result of the command.
    public struct Decision: Sendable {
        let scenario: Scenario
        let decide: @Sendable (A) throws -> [A.Event]

        /// Exactly these events are decided, in this order; none if there are none.
        public func then(_ events: A.Event...) throws { try then(events) }

        /// Exactly these events are decided, in this order.
        public func then(_ events: [A.Event]) throws {
            let expected = try Self.lines(events)
            let decided = try Self.lines(decided())
            guard decided != expected else { return }
            throw ScenarioFailure(
                description: "expected \(Self.list(expected)), but \(A.type) decided \(Self.list(decided))")
        }

        /// The state after the command is as the check wants it.
        public func thenState(_ check: (A) throws -> Bool) throws {
            var state = try scenario.state()
            for event in try decided() { state.apply(event) }
            guard try check(state) else {
                throw ScenarioFailure(description: "\(A.type) reached an unexpected state: \(state)")
            }
        }

        /// The command is refused with that error.
        public func thenThrows<Failure: Error & Equatable>(_ expected: Failure) throws {
            try refused("\(expected)") { ($0 as? Failure) == expected }
        }

        /// The command is refused with an error of that type.
        public func thenThrows<Failure: Error>(_ type: Failure.Type) throws {
            try refused("a \(type)") { $0 is Failure }
        }

        private func decided() throws -> [A.Event] {
            let state = try scenario.state()
            do {
                return try decide(state)
            } catch {
                throw ScenarioFailure(description: "\(A.type) refused the command: \(error)")
            }
        }

        private func refused(_ expected: String, _ isExpected: (any Error) -> Bool) throws {
            let state = try scenario.state()
            let events: [A.Event]
            do {
                events = try decide(state)
            } catch {
                if isExpected(error) { return }
                throw ScenarioFailure(description: "expected \(expected), but \(A.type) threw \(error)")
            }
            throw ScenarioFailure(
                description: "expected \(expected), but \(A.type) decided \(Self.list(try Self.lines(events)))")
        }

        private static func lines(_ events: [A.Event]) throws -> [String] {
            let codec = try EventCodec<A>()
            return try events.map { event in
                let stored = try codec.encode(event)
                return "\(stored.type) \(String(buffer: stored.payload))"
            }
        }

        private static func list(_ lines: [String]) -> String {
            lines.isEmpty ? "nothing" : lines.joined(separator: ", ")
        }
    }
}

extension Scenario where A: CommandHandling {
    /// A command comes.
    public func when(_ command: A.Command) -> Decision { when { try $0.decide(command) } }
}
