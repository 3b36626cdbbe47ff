import Foundation
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsSQLite
import MartletStorageSQLite
import MartletTesting
import NIOCore
import Testing

struct Balances: Projection {
    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let account = "\(event.event.aggregate.id)"
        guard let cents = Int64(String(buffer: event.event.event.payload)) else {
            throw ProjectionFailure(.park, "the payload is not a number")
        }
        try await transaction.execute(
            """
            INSERT INTO balances (account, cents) VALUES ($1, $2)
            ON CONFLICT (account) DO UPDATE SET cents = balances.cents + excluded.cents
            """, .text(account), .integer(cents))
    }
}

struct TenantBalances: Projection {
    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let cents = Int64(String(buffer: event.event.event.payload)) ?? 0
        try await transaction.execute(
            """
            INSERT INTO tenant_balances (tenant, account, cents) VALUES ($1, $2, $3)
            ON CONFLICT (tenant, account) DO UPDATE SET cents = tenant_balances.cents + excluded.cents
            """, .text("\(event.tenant)"), .text("\(event.event.aggregate.id)"), .integer(cents))
    }
}

struct Totals: RebuildableProjection {
    let tables = [ProjectionTable("totals", "account text PRIMARY KEY, cents bigint NOT NULL")]

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let totals = event.table("totals")
        let cents = Int64(String(buffer: event.event.event.payload)) ?? 0
        try await transaction.execute(
            """
            INSERT INTO \(totals) (account, cents) VALUES ($1, $2)
            ON CONFLICT (account) DO UPDATE SET cents = \(totals).cents + excluded.cents
            """, .text("\(event.event.aggregate.id)"), .integer(cents))
        if !event.isReplay { /* send the mail */  }
    }
}

struct TenantTotals: RebuildableProjection {
    let tables = [
        ProjectionTable("tenant_totals", "tenant text, account text, cents bigint, PRIMARY KEY (tenant, account)")
    ]

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let totals = event.table("tenant_totals")
        try await transaction.execute(
            """
            INSERT INTO \(totals) (tenant, account, cents) VALUES ($1, $2, $3)
            ON CONFLICT (tenant, account) DO UPDATE SET cents = \(totals).cents + excluded.cents
            """, .text("\(event.tenant)"), .text("\(event.event.aggregate.id)"),
            .integer(Int64(String(buffer: event.event.event.payload)) ?? 0))
    }
}

/// The examples of Docs/PROJECTIONS.md: what the page shows is compiled and run here.
@Suite struct PageTests {
    @Test func thePageShowsWhatIsRunHere() throws {
        let source = ManualPage.words(of: try String(contentsOfFile: #filePath, encoding: .utf8))
        let blocks = try ManualPage("PROJECTIONS").text.components(separatedBy: "```swift\n").dropFirst()
        #expect(blocks.count == 8)
        for block in blocks {
            let example = ManualPage.words(of: block.components(separatedBy: "```")[0])
            #expect(source.contains(example), "\(example)")
        }
    }

    @Test func theExampleKeepsBalances() async throws {
        let tenant = TenantID(UUID())
        let consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("balances")))
        let worker = try #require(WorkerName("balances-1"))
        let folder = try TemporaryFolder()
        let database = try SQLiteReadModels(path: folder.path + "/read.db")
        _ = try await database.withTransaction {
            try await $0.execute("CREATE TABLE balances (account text PRIMARY KEY, cents integer NOT NULL)")
        }
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await server.withClient { client in
                let type = EventType("Deposited")
                let account = AggregateName.new("account")
                let amounts = ["7", "35", "no number"].map {
                    NewEvent(type: type, contentType: "text/plain", payload: ByteBuffer(string: $0))
                }
                let receipt = try await client.append(amounts, to: account, expecting: .none, tenant: tenant)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await follow(consumer, worker, client, database) }
                    // Made by the runner's task, perhaps not yet.
                    while (try? await client.consumer(consumer)) == nil { try await Task.sleep(for: .milliseconds(5)) }
                    try await client.awaitConsumer(consumer, position: receipt.lastPosition, timeout: .seconds(5))
                    group.cancelAll()
                    try await group.waitForAll()
                }
                let rows = try await database.withTransaction {
                    try await $0.execute("SELECT account, cents FROM balances")
                }
                #expect(rows == [[.text("\(account.id)"), .integer(42)]])
                let blocked = try await client.blockedKeys(of: consumer)
                #expect(blocked.map(\.blocked.reason) == ["the payload is not a number"])
                #expect(blocked.first?.blocked.first.position == Position(3) && blocked.first?.blocked.until == .asked)
            }
        }
    }

    @Test func theExampleKeepsBalancesOfAllTenants() async throws {
        let name = try #require(ConsumerName("balances"))
        let worker = try #require(WorkerName("balances-1"))
        let consumers = (0..<3).map { _ in ConsumerID(tenant: TenantID(UUID()), name: name) }.sorted()
        let account = AggregateName.new("account")
        let folder = try TemporaryFolder()
        let database = try SQLiteReadModels(path: folder.path + "/read.db")
        _ = try await database.withTransaction {
            try await $0.execute(
                """
                CREATE TABLE tenant_balances (
                    tenant text, account text, cents integer NOT NULL, PRIMARY KEY (tenant, account))
                """)
        }
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await server.withClient { client in
                let type = EventType("Deposited")
                for (consumer, text) in zip(consumers, ["7", "35", "100"]) {
                    try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
                    let event = NewEvent(type: type, contentType: "text/plain", payload: ByteBuffer(string: text))
                    _ = try await client.append([event], to: account, expecting: .none, tenant: consumer.tenant)
                }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await followAll(name, worker, client, database) }
                    for consumer in consumers {
                        try await client.awaitConsumer(consumer, position: Position(1), timeout: .seconds(10))
                    }
                    group.cancelAll()
                    try await group.waitForAll()
                }
            }
        }
        let rows = try await database.withTransaction {
            try await $0.execute("SELECT tenant, account, cents FROM tenant_balances ORDER BY tenant")
        }
        #expect(
            rows
                == zip(consumers, [7, 35, 100]).map { consumer, cents in
                    [.text("\(consumer.tenant)"), .text("\(account.id)"), .integer(cents)]
                })
    }

    @Test func theExampleIsRebuilt() async throws {
        let consumer = ConsumerID(tenant: TenantID(UUID()), name: try #require(ConsumerName("totals")))
        let folder = try TemporaryFolder()
        let database = try SQLiteReadModels(path: folder.path + "/read.db")
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
                let type = EventType("Deposited")
                let events = ["7", "35"].map {
                    NewEvent(type: type, contentType: "text/plain", payload: ByteBuffer(string: $0))
                }
                _ = try await client.append(
                    events, to: AggregateName.new("account"), expecting: .none, tenant: consumer.tenant)
                let verification = try await rebuild(consumer, client, database)
                #expect(verification.differences.isEmpty && verification.generation == 2)
                let rows = try await database.withTransaction { try await $0.execute("SELECT cents FROM totals") }
                #expect(rows == [[.integer(42)]])
            }
        }
    }

    @Test func theExampleRebuildsTotalsOfAllTenants() async throws {
        let name = try #require(ConsumerName("totals"))
        let worker = try #require(WorkerName("totals-1"))
        let consumers = (0..<2).map { _ in ConsumerID(tenant: TenantID(UUID()), name: name) }
        let folder = try TemporaryFolder()
        let database = try SQLiteReadModels(path: folder.path + "/read.db")
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await server.withClient { client in
                let type = EventType("Deposited")
                for consumer in consumers {
                    try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
                    let event = NewEvent(type: type, contentType: "text/plain", payload: ByteBuffer(string: "21"))
                    _ = try await client.append(
                        [event], to: AggregateName.new("account"), expecting: .none, tenant: consumer.tenant)
                }
                let runner = ProjectionRunner(
                    TenantTotals(), ofAll: name, as: worker, client: client, database: database)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await runner.run() }
                    for consumer in consumers {
                        try await client.awaitConsumer(consumer, position: Position(1), timeout: .seconds(10))
                    }
                    group.cancelAll()
                    try await group.waitForAll()
                }
                let verification = try await rebuildAll(name, client, database)
                #expect(verification.differences.isEmpty && verification.generation == 2)
                #expect(verification.positions == Dictionary(uniqueKeysWithValues: consumers.map { ($0.tenant, 1) }))
            }
        }
        let rows = try await database.withTransaction {
            try await $0.execute("SELECT sum(cents) FROM tenant_totals_g2")
        }
        #expect(rows == [[.integer(42)]])
    }

    private func rebuild(
        _ consumer: ConsumerID, _ client: MartletClient, _ database: SQLiteReadModels
    ) async throws -> ProjectionVerification {
        var rebuilder = ProjectionRebuilder(Totals(), of: consumer, client: client, database: database)
        rebuilder.eventsPerSecondMax = 5_000
        rebuilder.onProgress = { progress in
            print("\(progress.position) of \(progress.end), \(progress.timeLeft ?? .zero) left")
        }
        try await rebuilder.rebuild()
        let verification = try await rebuilder.verify()
        return verification
    }

    private func rebuildAll(
        _ name: ConsumerName, _ client: MartletClient, _ database: SQLiteReadModels
    ) async throws -> ProjectionVerification {
        let rebuilder = ProjectionRebuilder(TenantTotals(), ofAll: name, client: client, database: database)
        try await rebuilder.rebuild()
        let verification = try await rebuilder.verify()
        return verification
    }

    private func followAll(
        _ name: ConsumerName, _ worker: WorkerName, _ client: MartletClient, _ database: SQLiteReadModels
    ) async throws {
        let runner = ProjectionRunner(TenantBalances(), ofAll: name, as: worker, client: client, database: database)
        try await runner.run()
    }

    private func follow(
        _ consumer: ConsumerID, _ worker: WorkerName, _ client: MartletClient, _ database: SQLiteReadModels
    ) async throws {
        try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
        let runner = ProjectionRunner(Balances(), of: consumer, as: worker, client: client, database: database)
        try await runner.run()
    }
}
