import FoundationEssentials
import MartletClient
import MartletEventSourcing
import MartletModel

/// The part of one aggregate in an append that is being planned.
protocol AggregateDraft: Sendable {
    /// Nil as long as there is nothing to append.
    var part: NewAggregateEvents? { get }

    /// Adds events that nobody has to decide on.
    mutating func append(_ events: [NewEvent], expecting expected: ExpectedVersion) throws

    /// Saves a snapshot of what was appended, if there is a state.
    func saveSnapshot(_ repositories: Repositories) async
}

/// Events for an aggregate whose state nobody has asked for.
struct PlainDraft: AggregateDraft {
    let name: AggregateName
    private(set) var expected = ExpectedVersion.any
    private(set) var events: [NewEvent] = []

    init(_ name: AggregateName) { self.name = name }

    var part: NewAggregateEvents? {
        events.isEmpty ? nil : NewAggregateEvents(aggregate: name, expected: expected, events: events)
    }

    func saveSnapshot(_ repositories: Repositories) async {}

    mutating func append(_ events: [NewEvent], expecting expected: ExpectedVersion) throws {
        switch (self.expected, expected) {
        case (let one, .any): self.expected = one
        case (.any, let other): self.expected = other
        case (.exact(let version), let other) where other.holds(at: version): break
        case (let one, .exact(let version)) where one.holds(at: version): self.expected = expected
        case (let one, let other) where one == other: break
        case (let one, let other):
            throw PlanFailure(.park, "plans for one event expect \(name) to be at \(one) and at \(other)")
        }
        self.events += events
    }
}

/// An aggregate that decides: as it was loaded, with what is planned for it so far.
struct LoadedDraft<A: Aggregate>: AggregateDraft {
    /// With what is planned.
    private(set) var loaded: Loaded<A>
    private let base: MartletModel.Version
    private let codec: EventCodec<A>
    private(set) var events: [NewEvent] = []

    init(_ loaded: Loaded<A>, _ codec: EventCodec<A>) {
        self.loaded = loaded
        self.codec = codec
        base = loaded.version
    }

    private var name: AggregateName { AggregateName(type: A.type, id: loaded.id) }

    var part: NewAggregateEvents? {
        events.isEmpty ? nil : NewAggregateEvents(aggregate: name, expected: .exact(base), events: events)
    }

    mutating func take(_ event: A.Event, metadata: EventMetadata) throws {
        let parts = try codec.encodeAndReadBack(event, id: .v7(), metadata: metadata)
        events.append(parts.stored)
        loaded.state.apply(parts.event)
        loaded.version = loaded.version.next
    }

    func saveSnapshot(_ repositories: Repositories) async {
        // One that cannot be saved fails nothing.
        _ = await (try? repositories.repository(of: A.self))?.saveSnapshot(of: loaded)
    }

    mutating func append(_ events: [NewEvent], expecting expected: ExpectedVersion) throws {
        guard expected.holds(at: base) else {
            throw PlanFailure(.retry(), "a plan expects \(name) to be at \(expected), but its version is \(base)")
        }
        for event in events {
            let recorded = RecordedEvent(
                position: loaded.position, version: loaded.version.next, recordedAt: Timestamp(microseconds: 0),
                aggregate: name,
                event: event)
            for decoded in try codec.decode(recorded) {
                switch decoded {
                case .event(let event): loaded.state.apply(event)
                case .unknown(let event): loaded.state.applyUnknown(event)
                }
            }
            self.events.append(event)
            loaded.version = loaded.version.next
        }
    }
}
