import Accounts
import Foundation
import Martlet
import Transfers

/// People who open accounts and ask for transfers. Some ask for more than they have, and some to an account that is closed.
struct Customers {
    private static let accountCount = 40
    private let settings: Settings
    private let client: MartletClient
    private let accounts: Repository<Account>
    private let transfers: Repository<Transfer>

    init(_ settings: Settings, _ client: MartletClient) throws {
        self.settings = settings
        self.client = client
        accounts = try Repository(client.tenant(settings.tenant))
        transfers = try Repository(client.tenant(settings.tenant))
    }

    func run(seconds: Int) async throws {
        let ids = (0..<Self.accountCount).map { _ in UUID() }
        for (number, id) in ids.enumerated() {
            try await accounts.execute(id, .open(owner: "Customer \(number + 1)"))
            try await accounts.execute(id, .deposit(cents: 10_000))
        }
        guard let closed = ids.last else { return }
        try await accounts.execute(closed, .close)

        var asked: Set<UUID> = []
        let start = ContinuousClock.now
        while ContinuousClock.now < start + .seconds(seconds) {
            let from = ids.dropLast().randomElement() ?? closed
            let to = ids.filter { $0 != from }.randomElement() ?? closed
            let id = UUID()
            try await transfers.execute(id, .request(from: from, to: to, cents: .random(in: 1...5_000)))
            asked.insert(id)
            try await Task.sleep(until: start + .seconds(1) * asked.count / settings.transfersPerSecond)
        }
        print("\(asked.count) transfers between \(ids.count) accounts are asked for")
        try await waitForTheEnd(of: asked)
    }

    /// Waits until each transfer has ended, and what follows from it is in all read models.
    private func waitForTheEnd(of asked: Set<UUID>) async throws {
        var open = asked
        let ends = ["rejected", "completed", "refunded"] as Set<EventType>
        let filter = EventFilter(aggregateTypes: [Transfer.type], eventTypes: ends)
        for try await event in client.tenant(settings.tenant).events(where: filter) {
            open.remove(event.aggregate.id)
            if open.isEmpty { break }
        }
        let head = try await client.tenant(settings.tenant).head().position
        for consumer in BankConsumer.allCases where consumer != .pythonStatements || settings.pythonDatabase != nil {
            try await client.awaitConsumer(consumer.id(settings), position: head, timeout: .seconds(60))
        }
        print("each of them has ended")
    }
}
