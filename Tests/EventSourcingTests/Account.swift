import FoundationEssentials
import MartletClient
import MartletEventSourcing
import MartletModel

/// The aggregate under test: three schema generations of `opened`, two of its snapshot.
struct Account: CommandHandling, Codable, Equatable {
    enum Event: Sendable, Equatable {
        case opened(Opened)
        case deposited(Deposited)
        case withdrawn(Withdrawn)
        case closed
    }

    struct Opened: EventPayload, Equatable {
        static let eventType: EventType = "AccountOpened"
        static let schemaVersion: UInt32 = 3
        var owner: String
        var currency: String
    }

    struct Deposited: EventPayload, Equatable {
        static let eventType: EventType = "deposited"
        var cents: Int
        var on: Date?
    }

    struct Withdrawn: EventPayload, Equatable {
        static let eventType: EventType = "withdrawn"
        var cents: Int
    }

    struct OpenedV1: Codable, Sendable { var name: String }
    struct OpenedV2: Codable, Sendable { var owner: String }
    struct StateV1: Codable, Sendable {
        var id: UUID
        var owner: String
        var cents: Int
    }

    enum Command: Sendable {
        case open(owner: String)
        case deposit(Int)
        case withdraw(Int)
        case nothing
    }

    enum Refusal: Error, Equatable { case isOpen, isNotOpen, tooLittle(Int) }

    static let type: AggregateType = "account"
    static let schema = Schema<Account>()
        .event(Event.opened)
        .event(Event.deposited)
        .event(Event.withdrawn)
        .event("closed", .closed)
        .upcast("AccountOpened", from: 1) { (old: OpenedV1) in OpenedV2(owner: old.name) }
        .upcast("AccountOpened", from: 2) { (old: OpenedV2) in Opened(owner: old.owner, currency: "EUR") }
        .split("moved", from: 1, into: ["withdrawn": 1, "deposited": 1]) { (old: [String: Int]) in
            [UpcastEvent("withdrawn", ["cents": old["out"] ?? 0]), UpcastEvent("deposited", ["cents": old["in"] ?? 0])]
        }
        .snapshot(version: 2)
        .upcastSnapshot(from: 1) { (old: StateV1) in
            var new = Account(id: old.id)
            new.owner = old.owner
            new.cents = old.cents
            return new
        }

    let id: UUID
    var owner: String?
    var cents = 0
    var changes: [Int] = []

    init(id: UUID) { self.id = id }

    mutating func apply(_ event: Event) {
        switch event {
        case .opened(let opened): owner = opened.owner
        case .deposited(let deposited):
            cents += deposited.cents
            changes.append(deposited.cents)
        case .withdrawn(let withdrawn):
            cents -= withdrawn.cents
            changes.append(-withdrawn.cents)
        case .closed: owner = nil
        }
    }

    func decide(_ command: Command) throws -> [Event] {
        switch command {
        case .nothing: return []
        case .open(let name):
            guard owner == nil else { throw Refusal.isOpen }
            return [.opened(Opened(owner: name, currency: "EUR"))]
        case .deposit(let amount):
            guard owner != nil else { throw Refusal.isNotOpen }
            return [.deposited(.init(cents: amount))]
        case .withdraw(let amount):
            guard owner != nil else { throw Refusal.isNotOpen }
            guard cents >= amount else { throw Refusal.tooLittle(cents) }
            return [.withdrawn(.init(cents: amount))]
        }
    }
}
