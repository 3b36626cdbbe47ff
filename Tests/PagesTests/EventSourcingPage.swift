import Martlet
import Testing

// What Docs/EVENT-SOURCING.md shows, and what its examples stand on.

struct Opened: EventPayload {
    static let eventType: EventType = "Opened"
    var owner: String
}

struct Deposited: EventPayload {
    static let eventType: EventType = "Deposited"
    var cents: Int
}

struct Withdrawn: EventPayload {
    static let eventType: EventType = "Withdrawn"
    var cents: Int
}

struct Account: CommandHandling, Codable {
    enum Event { case opened(Opened), deposited(Deposited), withdrawn(Withdrawn), closed }
    enum Command { case open(owner: String), deposit(cents: Int), withdraw(cents: Int), close }
    enum Refusal: Error, Equatable { case isOpen, isNotOpen, tooLittle(balance: Int) }

    static let type: AggregateType = "account"
    static let schema = Schema<Account>()
        .event(Event.opened)
        .event(Event.deposited)
        .event(Event.withdrawn)
        .event("Closed", .closed)

    let id: UUID
    private(set) var owner: String?
    private(set) var cents = 0

    init(id: UUID) { self.id = id }

    mutating func apply(_ event: Event) {
        switch event {
        case .opened(let opened): owner = opened.owner
        case .deposited(let deposited): cents += deposited.cents
        case .withdrawn(let withdrawn): cents -= withdrawn.cents
        case .closed: owner = nil
        }
    }

    func decide(_ command: Command) throws -> [Event] {
        switch (command, owner) {
        case (.open, .some): throw Refusal.isOpen
        case (.open(let owner), nil): return [.opened(Opened(owner: owner))]
        case (_, nil): throw Refusal.isNotOpen
        case (.deposit(let amount), _): return [.deposited(Deposited(cents: amount))]
        case (.withdraw(let amount), _):
            guard cents >= amount else { throw Refusal.tooLittle(balance: cents) }
            return [.withdrawn(Withdrawn(cents: amount))]
        case (.close, _): return [.closed]
        }
    }
}

@Suite struct EventSourcingPage {
    @Test func commandsAndLoads() async throws {
        try await withTenant { tenant in
            let accounts = try Repository<Account>(tenant)
            try await accounts.execute(key: "DE-1", .open(owner: "Ada"))
            try await accounts.execute(key: "DE-1", .deposit(cents: 10_000))
            let now = try await accounts.load(key: "DE-1")  // AggregateNotFound without events
            let then = try await accounts.load(key: "DE-1", asOf: .version(1))  // or .position, .time
            print(now.cents, "cents at version", now.version, "and before", then.cents)

            #expect(now.cents == 10_000 && then.cents == 0)
            let (ada, bob) = (try accounts.id(ofKey: "DE-1"), UUID())
            try await accounts.execute(bob, .open(owner: "Bob"))

            try await accounts.execute(ada, with: bob, of: accounts) { ada, bob in
                (try ada.decide(.withdraw(cents: 2_500)), try bob.decide(.deposit(cents: 2_500)))
            }

            #expect(try await accounts.load(bob).cents == 2_500)
            for try await event in try await tenant.read(where: .payloads(Opened.self)) {
                try await withdraw(from: bob, accounts, because: event)
                break
            }
            #expect(try await accounts.load(bob).cents == 2_000)
        }
    }

    private func withdraw(from id: UUID, _ accounts: Repository<Account>, because event: RecordedEvent) async throws {
        var context = CommandContext(causedBy: event)  // or CommandContext() for a new business transaction
        context.userID = "ada"
        try await CommandContext.$current.withValue(context) {
            _ = try await accounts.execute(id, .withdraw(cents: 500))
        }
    }

    @Test func scenarios() throws {
        let opened = Account.Event.opened(Opened(owner: "Ada"))
        try Scenario<Account>.given(opened).when(.withdraw(cents: 1))
            .thenThrows(Account.Refusal.tooLittle(balance: 0))
        try Scenario<Account>.given(opened).and(stored: "Deposited", version: 1, json: #"{"cents":1234}"#)
            .when(.withdraw(cents: 234)).thenState { $0.cents == 1_000 }
    }
}
