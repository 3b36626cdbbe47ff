import FoundationEssentials
import MartletEventSourcing
import MartletModel

/// The aggregate under test: three schema generations of `opened`, two of its snapshot.
struct Account: Aggregate, Codable, Equatable {
    enum Event: Codable, Sendable, Equatable {
        case opened(Opened)
        case deposited(cents: Int, on: Date? = nil)
        case withdrawn(cents: Int)
        case closed
    }

    struct Opened: Codable, Sendable, Equatable {
        var owner: String
        var currency: String
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

    static let type = AggregateType(literal: "account")
    static let schema = Schema<Account>()
        .event("AccountOpened", version: 3, case: "opened")
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
        case .deposited(let amount, _):
            cents += amount
            changes.append(amount)
        case .withdrawn(let amount):
            cents -= amount
            changes.append(-amount)
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
            return [.deposited(cents: amount)]
        case .withdraw(let amount):
            guard owner != nil else { throw Refusal.isNotOpen }
            guard cents >= amount else { throw Refusal.tooLittle(cents) }
            return [.withdrawn(cents: amount)]
        }
    }
}
