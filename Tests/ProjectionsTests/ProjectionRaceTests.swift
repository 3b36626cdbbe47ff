import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Runners of one projection that are stopped at any moment and come again, whose database fails before and after commits,
/// and whose handlers fail now and then. What they do goes into a table that has no key of its own: each event once, each
/// key in order.
@Suite struct ProjectionRaceTests {
    private static let tenant = TenantID(UUID(high: 4, low: 6))
    private static let eventCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_PROJECTION_EVENTS"].flatMap { Int($0) } ?? 1_500

    private let consumer: ConsumerID

    init() throws { consumer = ConsumerID(tenant: Self.tenant, name: try #require(ConsumerName("effects"))) }

    @Test func oneServerAndAReadModelInSQLite() async throws {
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        _ = try await readModels.withTransaction {
            try await $0.execute("CREATE TABLE effects (no integer PRIMARY KEY, id text, key text, version integer)")
        }
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await race([server], readModels)
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func twoServersAndAReadModelInPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        @Sendable func engine() -> PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 2, logger: .silent)
        }
        let other = try PostgresTestDatabase()
        let url = other.url + (other.url.contains("?") ? "&" : "?") + "options=-csearch_path%3D\(other.schema)"
        let readModels = PostgreSQLReadModels(url, connections: 6)
        _ = try await readModels.withTransaction {
            try await $0.execute("CREATE SCHEMA IF NOT EXISTS \(other.schema)")
            try await $0.execute(
                "CREATE TABLE effects (no bigserial PRIMARY KEY, id text, key text, version bigint)")
        }
        try await TestServer.with(engine()) { first in
            try await TestServer.with(engine()) { second in try await race([first, second], readModels) }
        }
    }

    private func race<Database: ProjectionDatabase>(_ servers: [TestServer], _ readModels: Database) async throws {
        let random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        let flaky = FlakyDatabase(base: readModels, seed: random.seed)
        try await servers[0].withClient { client in
            var definition = ConsumerDefinition(slotCount: 8)
            definition.delivery.backoffMin = .milliseconds(20)
            definition.delivery.triesMax = 1_000
            try await client.putConsumer(PutConsumerRequest(consumer, definition))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<4 {
                    group.addTask { try await live(number, servers, flaky, seed: random.seed &+ UInt64(number)) }
                }
                try await append(client, seed: random.seed)
                let head = try await client.head(of: Self.tenant).position
                try await client.awaitConsumer(consumer, position: head, timeout: .seconds(60))
                let tooLong = ContinuousClock.now + .seconds(300)
                while try await client.consumer(consumer).blockedKeyCount > 0, .now < tooLong {
                    try await Task.sleep(for: .milliseconds(20))
                }
                group.cancelAll()
            }
        }
        let rows = try await readModels.withTransaction {
            try await $0.execute("SELECT id, key, version FROM effects ORDER BY no", [])
        }
        #expect(Set(rows.map { $0[0] }).count == Self.eventCount, "\(place): an event is missing")
        #expect(rows.count == Self.eventCount, "\(place): an event took effect twice")
        var versions: [String: Int64] = [:]
        for row in rows {
            guard let key = row[1].text, let version = row[2].integer else { continue }
            #expect(version == versions[key, default: 0] + 1, "\(place): \(key) is out of order")
            versions[key] = version
        }
        let (lost, failed) = flaky.tally.withLockedValue { ($0.lost, $0.failed) }
        print("projection: \(lost) answers of commits lost, \(failed) transactions failed")
    }

    private func append(_ client: MartletClient, seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let keys = (0..<40).map { AggregateName(type: AggregateName.new("account").type, id: UUID(high: 5, low: $0)) }
        let type = EventType("Moved")
        var left = Self.eventCount
        while left > 0 {
            let count = min(left, Int.random(in: 1...5, using: &random))
            left -= count
            let events = (0..<count).map { _ in NewEvent(type: type, payload: ByteBuffer(string: "{}")) }
            let key = keys[Int.random(in: 0..<keys.count, using: &random)]
            _ = try await client.append(events, to: key, expecting: .any, tenant: Self.tenant)
        }
    }

    /// A worker's lives, one after the other: each is stopped wherever it is.
    private func live<Database: ProjectionDatabase>(
        _ number: Int, _ servers: [TestServer], _ database: Database, seed: UInt64
    ) async throws {
        var random = SeededGenerator(seed: seed)
        let name = try #require(WorkerName("worker-\(number)"))
        let projection = Effects(seed: seed)
        while !Task.isCancelled {
            let server = servers[Int.random(in: 0..<servers.count, using: &random)]
            let time = Duration.milliseconds(Int.random(in: 50...1_500, using: &random))
            try await server.withClient { client in
                var runner = ProjectionRunner(
                    projection, of: consumer, as: name, client: client, database: database, logger: .silent)
                runner.batchEventsMax = 20
                runner.databaseBackoff = (.milliseconds(5), .milliseconds(50))
                let life = runner
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        do { try await life.run() } catch {
                            Issue.record("a worker ended with \(error)")
                            throw error
                        }
                    }
                    group.addTask { try? await Task.sleep(for: time) }
                    try await group.next()
                    group.cancelAll()
                }
            }
        }
    }
}

/// Writes down each event; fails now and then.
private struct Effects: Projection {
    private let random: NIOLockedValueBox<SeededGenerator>

    init(seed: UInt64) { random = NIOLockedValueBox(SeededGenerator(seed: seed &+ 99)) }

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let recorded = event.event
        try await transaction.execute(
            "INSERT INTO effects (id, key, version) VALUES ($1, $2, $3)", .text("\(recorded.event.id)"),
            .text("\(recorded.aggregate)"), .integer(Int64(recorded.version.rawValue)))
        // After it has written something.
        guard random.withLockedValue({ Int.random(in: 0..<100, using: &$0) }) > 1 else {
            throw ProjectionFailure(.retry(after: .milliseconds(10)), "by chance")
        }
    }
}

/// A database that fails before and after commits.
private final class FlakyDatabase<Base: ProjectionDatabase>: ProjectionDatabase {
    struct Tally {
        var lost = 0
        var failed = 0
    }

    let tally = NIOLockedValueBox(Tally())
    private let base: Base
    private let random: NIOLockedValueBox<SeededGenerator>

    init(base: Base, seed: UInt64) {
        self.base = base
        random = NIOLockedValueBox(SeededGenerator(seed: seed &+ 77))
    }

    var bytesType: String { base.bytesType }

    func withTransaction<Result: Sendable>(
        _ body: @Sendable (Base.Transaction) async throws -> Result
    ) async throws -> Result {
        let chance = random.withLockedValue { Int.random(in: 0..<20, using: &$0) }
        let result = try await base.withTransaction { transaction in
            let result = try await body(transaction)
            if chance == 0 {
                tally.withLockedValue { $0.failed += 1 }
                throw ProjectionDatabaseError("by chance, before the commit", isTransient: true)
            }
            return result
        }
        if chance == 1 {
            tally.withLockedValue { $0.lost += 1 }
            throw ProjectionDatabaseError("by chance, after the commit", isTransient: true)
        }
        return result
    }
}
