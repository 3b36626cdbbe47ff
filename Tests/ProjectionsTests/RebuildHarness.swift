import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// A read model's database of either kind, of which a transaction can be made to fail.
final class TestReadModels: ProjectionDatabase {
    enum Kind: String, CaseIterable, Sendable {
        case sqlite, postgresql

        /// Those that there are here.
        static let available = allCases.filter { $0 == .sqlite || PostgresTestDatabase.isAvailable }
    }

    struct Transaction: ProjectionTransaction {
        let base: any ProjectionTransaction

        func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            try await base.execute(sql, values)
        }
    }

    struct Interrupted: Error {}

    /// The transaction that fails, counted from 1, and whether it has committed by then.
    struct Fault: Sendable {
        var number: Int
        var isAfterCommit: Bool
    }

    let transactions = NIOLockedValueBox(0)
    private let sqlite: SQLiteReadModels?
    private let postgresql: PostgreSQLReadModels?
    private let folder: TemporaryFolder?
    private let fault: Fault?

    init(_ kind: Kind) async throws {
        fault = nil
        switch kind {
        case .sqlite:
            let folder = try TemporaryFolder()
            sqlite = try SQLiteReadModels(path: folder.path + "/read.db")
            (self.folder, postgresql) = (folder, nil)
        case .postgresql:
            let database = try PostgresTestDatabase()
            let url =
                database.url + (database.url.contains("?") ? "&" : "?")
                + "options=-csearch_path%3D\(database.schema)"
            let readModels = PostgreSQLReadModels(url, connections: 6)
            _ = try await readModels.withTransaction { try await $0.execute("CREATE SCHEMA \(database.schema)") }
            (sqlite, folder, postgresql) = (nil, nil, readModels)
        }
    }

    /// The same database, with a fault.
    init(_ base: TestReadModels, _ fault: Fault? = nil) {
        (sqlite, postgresql, folder, self.fault) = (base.sqlite, base.postgresql, base.folder, fault)
    }

    var bytesType: String { sqlite?.bytesType ?? postgresql?.bytesType ?? "" }
    var lockTimeoutStatement: String? { postgresql?.lockTimeoutStatement }

    func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result {
        let number = transactions.withLockedValue { count in
            count += 1
            return count
        }
        let isFaulty = fault?.number == number
        @Sendable func run(_ transaction: any ProjectionTransaction) async throws -> Result {
            let result = try await body(Transaction(base: transaction))
            if isFaulty, fault?.isAfterCommit == false { throw Interrupted() }
            return result
        }
        let result: Result
        if let sqlite {
            result = try await sqlite.withTransaction { try await run($0) }
        } else {
            result = try await #require(postgresql).withTransaction { try await run($0) }
        }
        if isFaulty { throw Interrupted() }
        return result
    }

    func rows(_ sql: String) async throws -> [[SQLValue]] {
        try await withTransaction { try await $0.execute(sql) }
    }
}

/// Sums of accounts, and a list of all that was done, which has no key that would hide what is done twice.
struct Ledger: KeyRebuildableProjection {
    /// Fails for events that it names.
    var fails: @Sendable (ProjectedEvent) throws -> Void = { _ in }
    var version = 1

    var tables: [ProjectionTable] {
        [
            ProjectionTable(
                "ledger_sums", "account text PRIMARY KEY, cents bigint NOT NULL, marker bigint NOT NULL",
                comparing: "account, cents"),
            ProjectionTable(
                "ledger_effects",
                "id text NOT NULL, account text NOT NULL, version bigint NOT NULL, marker bigint NOT NULL, replay bigint",
                indexes: ["account, version", "id"], comparing: "id, account, version"),
        ]
    }

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let account = "\(event.key)"
        let marker = event.generation.number ?? 0
        try await transaction.execute(
            "INSERT INTO \(event.table("ledger_effects")) (id, account, version, marker, replay) VALUES ($1, $2, $3, $4, $5)",
            .text("\(event.event.event.id)".lowercased()), .text(account),
            .integer(Int64(event.event.version.rawValue)), .integer(marker), .integer(event.isReplay ? 1 : 0))
        let sums = event.table("ledger_sums")
        try await transaction.execute(
            """
            INSERT INTO \(sums) (account, cents, marker) VALUES ($1, $2, $3)
            ON CONFLICT (account) DO UPDATE SET cents = \(sums).cents + excluded.cents
            """, .text(account), .integer(Int64(event.event.event.payload.readableBytes)), .integer(marker))
        // After it has written something.
        try fails(event)
    }

    func reset(
        _ key: ConsumerKey, of tenant: TenantID, generation: ProjectionGeneration,
        in transaction: any ProjectionTransaction
    ) async throws {
        for table in tables {
            try await transaction.execute(
                "DELETE FROM \(generation.table(table.name)) WHERE account = $1", .text("\(key)"))
        }
    }
}

/// A tenant's events, a consumer of them, and a read model.
struct RebuildHarness: Sendable {
    let consumer: ConsumerID
    let readModels: TestReadModels
    var definition = ConsumerDefinition(slotCount: 4)

    init(_ kind: TestReadModels.Kind) async throws {
        consumer = ConsumerID(tenant: TenantID(UUID()), name: try #require(ConsumerName("ledger")))
        readModels = try await TestReadModels(kind)
        definition.delivery.backoffMin = .milliseconds(20)
    }

    func with(_ body: @escaping @Sendable (MartletClient) async throws -> Void) async throws {
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, definition))
                try await body(client)
            }
        }
    }

    static func account(_ number: UInt64) -> AggregateName {
        AggregateName(type: AggregateName.new("account").type, id: UUID(high: 5, low: number))
    }

    static func key(_ number: UInt64) -> ConsumerKey {
        ConsumerKey(.aggregate, aggregate: account(number)) { _ in nil }
    }

    func slot(of account: UInt64) -> Int { Self.key(account).slot(of: definition.slotCount) }

    /// Appends an event to that account.
    @discardableResult
    func append(_ account: UInt64, _ client: MartletClient, _ text: String = "x") async throws -> Position {
        let event = NewEvent(
            type: EventType("Moved"), contentType: "text/plain", payload: ByteBuffer(string: text))
        return try await client.append(
            [event], to: Self.account(account), expecting: .any, tenant: consumer.tenant
        ).lastPosition
    }

    /// Appends so many events, by chance to each of some accounts.
    func append(
        _ count: Int, accounts: UInt64 = 20, _ client: MartletClient, _ random: inout SeededGenerator
    ) async throws {
        for _ in 0..<count {
            let text = String(repeating: "x", count: Int.random(in: 1...9, using: &random))
            try await append(UInt64.random(in: 0..<accounts, using: &random), client, text)
        }
    }

    func runner(
        _ client: MartletClient, _ projection: any Projection = Ledger(), worker: String = "a"
    ) throws -> ProjectionRunner<TestReadModels> {
        var runner = ProjectionRunner(
            projection, of: consumer, as: try #require(WorkerName(worker)), client: client,
            database: TestReadModels(readModels), logger: .silent)
        runner.batchEventsMax = 20
        runner.databaseBackoff = (.milliseconds(5), .milliseconds(50))
        runner.versionPause = .milliseconds(20)
        return runner
    }

    func rebuilder(
        _ client: MartletClient, _ projection: Ledger = Ledger(), _ database: TestReadModels? = nil,
        clock: any _Concurrency.Clock<Duration> = ContinuousClock()
    ) -> ProjectionRebuilder<TestReadModels> {
        var rebuilder = ProjectionRebuilder(
            projection, of: consumer, client: client, database: database ?? TestReadModels(readModels), clock: clock,
            logger: .silent)
        rebuilder.batchEventsMax = 10
        rebuilder.databaseBackoff = (.milliseconds(5), .milliseconds(50))
        return rebuilder
    }

    /// Runs beside a runner, which ends afterwards.
    func whileRunning(
        _ client: MartletClient, _ projection: any Projection = Ledger(), _ body: @Sendable () async throws -> Void
    ) async throws {
        let runner = try runner(client, projection)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runner.run() }
            try await body()
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    func awaitHead(_ client: MartletClient) async throws {
        let head = try await client.head(of: consumer.tenant).position
        try await client.awaitConsumer(consumer, position: head, timeout: .seconds(30))
    }

    /// Takes in all that is there.
    func takeIn(_ client: MartletClient, _ projection: any Projection = Ledger()) async throws {
        try await whileRunning(client, projection) { try await awaitHead(client) }
    }

    /// Expects each event in the read model once, in the order of its account, but for some.
    func expectAll(
        _ client: MartletClient, without missing: Set<Position> = [], _ place: String = "",
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        var effects: [[SQLValue]] = []
        var sums: [String: Int64] = [:]
        for try await event in try await client.read(ReadRequest(tenant: consumer.tenant))
        where !missing.contains(event.position) {
            let account = "\(ConsumerKey(.aggregate, aggregate: event.aggregate) { _ in nil })"
            sums[account, default: 0] += Int64(event.event.payload.readableBytes)
            effects.append([
                .text("\(event.event.id)".lowercased()), .text(account), .integer(Int64(event.version.rawValue)),
            ])
        }
        let found = try await readModels.rows("SELECT id, account, version FROM ledger_effects")
        #expect(Set(found) == Set(effects), "\(place): events are missing", sourceLocation: sourceLocation)
        #expect(found.count == effects.count, "\(place): events were taken in twice", sourceLocation: sourceLocation)
        let totals = try await readModels.rows("SELECT account, cents FROM ledger_sums")
        #expect(
            Set(totals) == Set(sums.map { [.text($0.key), .integer($0.value)] }), "\(place)",
            sourceLocation: sourceLocation)
    }

    /// The live generation.
    func live() async throws -> Int64? {
        try await readModels.rows("SELECT generation FROM martlet_projections").first?.first?.integer
    }

    func generations() async throws -> [[SQLValue]] {
        try await readModels.rows(
            "SELECT generation, state FROM martlet_projection_generations ORDER BY generation")
    }
}
