public import FoundationEssentials
public import MartletModel

/// Something whose state follows from its events.
///
/// A value type. Where it is Codable too, a ``Repository`` can save its state as a snapshot. Where it conforms to
/// ``CommandHandling``, it decides on commands.
public protocol Aggregate: Sendable {
    /// What can happen to it: an enum, whose cases hold one ``EventPayload`` each, without a label, or nothing.
    associatedtype Event: Sendable

    /// The name of its type in the store.
    static var type: AggregateType { get }

    /// Its event types and their upcasters, and the version of its snapshots.
    static var schema: Schema<Self> { get }

    /// The state before the first event.
    init(id: UUID)

    /// Takes in what has happened. It cannot refuse, and depends on nothing but the state and the event.
    mutating func apply(_ event: Event)

    /// Takes in an event of a type that the program does not know, where ``Schema/unknownEvents(_:)`` keeps them.
    mutating func applyUnknown(_ event: RecordedEvent)
}

extension Aggregate {
    /// Ignores it.
    public mutating func applyUnknown(_ event: RecordedEvent) {}
}

/// An aggregate that decides on commands by its state.
public protocol CommandHandling: Aggregate {
    /// What it can be asked to do.
    associatedtype Command: Sendable

    /// What happens when the command is carried out in this state; nothing is fine. It may be asked again for the same
    /// command, in a newer state.
    /// - Throws: why the command is refused; the caller of ``Repository/execute(_:_:context:)`` gets the same error.
    func decide(_ command: Command) throws -> [Event]
}

/// An aggregate as it was at a point of its history. What it holds can be read through it: `account.balance`.
@dynamicMemberLookup
public struct Loaded<A: Aggregate>: Sendable {
    /// The aggregate's id.
    public let id: UUID
    /// Its state.
    public package(set) var state: A
    /// Its version: the number of its events up to here.
    public package(set) var version: MartletModel.Version
    /// The position of the tenant at which it was read: loading as of this position gives the same again, for ever.
    public internal(set) var position: Position
    /// Version of the newest snapshot that is known to be there and readable.
    public internal(set) var snapshotVersion: MartletModel.Version?
    /// How many events were applied, beside what a snapshot held.
    public internal(set) var eventsReplayed = 0

    package init(id: UUID, state: A, version: MartletModel.Version, position: Position) {
        self.id = id
        self.state = state
        self.version = version
        self.position = position
    }

    /// What the state holds.
    public subscript<Value>(dynamicMember keyPath: KeyPath<A, Value>) -> Value { state[keyPath: keyPath] }
}

/// An aggregate has no events, or had none then.
public struct AggregateNotFound: Error, Hashable, Sendable, CustomStringConvertible {
    /// Which.
    public var aggregate: AggregateName
    /// As of when.
    public var target: LoadTarget

    /// Not found there and then.
    public init(_ aggregate: AggregateName, target: LoadTarget = .now) {
        self.aggregate = aggregate
        self.target = target
    }

    /// What is missing.
    public var description: String {
        switch target {
        case .now: "\(aggregate) has no events"
        case .version(let version): "\(aggregate) has no events up to version \(version)"
        case .position(let position): "\(aggregate) had no events as of position \(position)"
        case .time(let time): "\(aggregate) had no events as of \(time)"
        }
    }
}
