import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Runners over the consumers that many tenants have under one name.
@Suite(.timeLimit(.minutes(3))) struct TenantsTests {
    /// Sums of accounts by tenant, and a list of all that was done, which has no key that would hide what is done twice.
    private struct TenantLedger: Projection {
        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            let (tenant, account) = ("\(event.tenant)", "\(event.event.aggregate.id)")
            try await transaction.execute(
                "INSERT INTO effects (tenant, id, account, version) VALUES ($1, $2, $3, $4)", .text(tenant),
                .text("\(event.event.event.id)".lowercased()), .text(account),
                .integer(Int64(event.event.version.rawValue)))
            try await transaction.execute(
                """
                INSERT INTO sums (tenant, account, cents) VALUES ($1, $2, $3)
                ON CONFLICT (tenant, account) DO UPDATE SET cents = sums.cents + excluded.cents
                """, .text(tenant), .text(account), .integer(Int64(event.event.event.payload.readableBytes)))
        }

        static func makeTables(_ readModels: TestReadModels, _ kind: TestReadModels.Kind) async throws {
            let number = kind == .sqlite ? "integer PRIMARY KEY" : "bigserial PRIMARY KEY"
            try await readModels.withTransaction { transaction in
                try await transaction.execute(
                    "CREATE TABLE effects (no \(number), tenant text, id text, account text, version bigint)")
                try await transaction.execute(
                    """
                    CREATE TABLE sums (
                        tenant text, account text, cents bigint NOT NULL, PRIMARY KEY (tenant, account))
                    """)
            }
        }
    }

    private static let accounts: UInt64 = 5

    private let tenants: [TenantID]
    private let name: ConsumerName
    private let worker: WorkerName
    private let random = NIOLockedValueBox(SeededGenerator.fromEnvironment())

    init() throws {
        tenants = (0..<3).map { _ in TenantID(UUID()) }.sorted()
        // Characters that mean something in patterns.
        name = try #require(ConsumerName("led_ger.a:b-c"))
        worker = try #require(WorkerName("all"))
    }

    private func id(_ tenant: TenantID) -> ConsumerID { ConsumerID(tenant: tenant, name: name) }

    private func put(_ tenant: TenantID, _ client: MartletClient) async throws {
        var definition = ConsumerDefinition(slotCount: 4)
        definition.delivery.backoffMin = .milliseconds(20)
        try await client.putConsumer(PutConsumerRequest(id(tenant), definition))
    }

    /// Appends so many events of a tenant, by chance to each of the accounts, which are the same in all tenants.
    private func append(_ count: Int, _ tenant: TenantID, _ client: MartletClient) async throws {
        let type = try #require(EventType("Moved"))
        for _ in 0..<count {
            let (account, bytes) = random.withLockedValue {
                (UInt64.random(in: 0..<Self.accounts, using: &$0), Int.random(in: 1...9, using: &$0))
            }
            let event = NewEvent(
                type: type, contentType: "text/plain", payload: ByteBuffer(repeating: 0x78, count: bytes))
            _ = try await client.append([event], to: RebuildHarness.account(account), expecting: .any, tenant: tenant)
        }
    }

    private func runner(
        _ client: MartletClient, _ readModels: TestReadModels, _ logger: CapturedLog = CapturedLog(),
        in tenants: Set<TenantID> = []
    ) -> ProjectionRunner<TestReadModels> {
        ProjectionRunner(
            TenantLedger(), ofAll: name, in: tenants, as: worker, client: client, database: readModels,
            logger: logger.logger)
    }

    private func whileRunning<Database: ProjectionDatabase>(
        _ runner: ProjectionRunner<Database>, _ body: @Sendable () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runner.run() }
            try await body()
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    private func awaitHeads(_ client: MartletClient, of tenants: [TenantID]) async throws {
        for tenant in tenants {
            let head = try await client.head(of: tenant).position
            try await client.awaitConsumer(id(tenant), position: head, timeout: .seconds(60))
        }
    }

    /// Compares the read model with what the events of each tenant say.
    private func expectAll(
        _ client: MartletClient, _ readModels: TestReadModels, _ comment: Comment? = nil
    ) async throws {
        let effects = try await readModels.rows("SELECT tenant, id, account, version FROM effects ORDER BY no")
        let sums = try await readModels.rows("SELECT tenant, account, cents FROM sums ORDER BY tenant, account")
        var expectedSums: [[SQLValue]] = []
        for tenant in tenants {
            var ids: [String] = []
            var cents: [String: Int64] = [:]
            for try await event in try await client.read(ReadRequest(tenant: tenant)) {
                ids.append("\(event.event.id)".lowercased())
                cents["\(event.aggregate.id)", default: 0] += Int64(event.event.payload.readableBytes)
            }
            expectedSums += cents.sorted { $0.key < $1.key }
                .map { [.text("\(tenant)"), .text($0.key), .integer($0.value)] }
            let rows = effects.filter { $0[0] == .text("\(tenant)") }
            #expect(rows.count == ids.count, comment)
            #expect(Set(rows.compactMap(\.[1].text)) == Set(ids), comment)
            var versions: [String: Int64] = [:]
            for row in rows {
                let (account, version) = (row[2].text ?? "", row[3].integer ?? 0)
                #expect(version == versions[account, default: 0] + 1, comment)
                versions[account] = version
            }
        }
        #expect(sums == expectedSums, comment)
    }

    @Test(arguments: TestReadModels.Kind.available)
    func theEventsOfAllTenantsAreTakenInOnce(kind: TestReadModels.Kind) async throws {
        let readModels = try await TestReadModels(kind)
        try await TenantLedger.makeTables(readModels, kind)
        let comment = Comment(rawValue: "seed \(random.withLockedValue { $0.seed })")
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants.prefix(2) { try await put(tenant, client) }
                // The last one has events, but no consumer yet.
                for tenant in tenants { try await append(60, tenant, client) }
                // Stopped wherever it is, and started again.
                for _ in 0..<3 {
                    try await whileRunning(runner(client, readModels)) {
                        for tenant in tenants { try await append(20, tenant, client) }
                    }
                }
                try await whileRunning(runner(client, readModels)) {
                    try await awaitHeads(client, of: Array(tenants.prefix(2)))
                    try await put(tenants[2], client)
                    for tenant in tenants { try await append(20, tenant, client) }
                    try await awaitHeads(client, of: tenants)
                }
                try await expectAll(client, readModels, comment)
            }
        }
    }

    @Test func runnersOfOneTenantAndOfAllHandOver() async throws {
        let readModels = try await TestReadModels(.sqlite)
        try await TenantLedger.makeTables(readModels, .sqlite)
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants { try await put(tenant, client) }
                let one = ProjectionRunner(
                    TenantLedger(), of: id(tenants[1]), as: try #require(WorkerName("one")), client: client,
                    database: readModels, logger: .silent)
                try await whileRunning(one) {
                    try await append(40, tenants[1], client)
                    try await awaitHeads(client, of: [tenants[1]])
                }
                try await whileRunning(runner(client, readModels)) {
                    for tenant in tenants { try await append(40, tenant, client) }
                    try await awaitHeads(client, of: tenants)
                    // Beside each other.
                    try await whileRunning(one) {
                        for tenant in tenants { try await append(40, tenant, client) }
                        try await awaitHeads(client, of: tenants)
                    }
                }
                try await whileRunning(one) {
                    try await append(40, tenants[1], client)
                    try await awaitHeads(client, of: [tenants[1]])
                }
                try await expectAll(client, readModels)
            }
        }
    }

    @Test func aTenantThatLosesItsConsumerIsToldAndLeavesTheOthersAlone() async throws {
        let readModels = try await TestReadModels(.sqlite)
        try await TenantLedger.makeTables(readModels, .sqlite)
        let log = CapturedLog()
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants { try await put(tenant, client) }
                try await whileRunning(runner(client, readModels, log)) {
                    for tenant in tenants { try await append(20, tenant, client) }
                    try await awaitHeads(client, of: tenants)
                    try await client.deleteConsumer(id(tenants[0]))
                    let tooLong = ContinuousClock.now + .seconds(60)
                    while !log.lines.contains(where: { $0.contains("CONSUMER_NOT_FOUND") }), .now < tooLong {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    for tenant in tenants { try await append(20, tenant, client) }
                    try await awaitHeads(client, of: Array(tenants[1...]))
                    // It begins anew, and nothing is taken in twice.
                    try await put(tenants[0], client)
                    try await awaitHeads(client, of: tenants)
                }
                try await expectAll(client, readModels)
            }
        }
        let warnings = log.lines.filter { $0.hasPrefix("warning ") && $0.contains("CONSUMER_NOT_FOUND") }
        #expect(warnings.count == 1 && warnings.first?.contains("tenant=\(tenants[0])") == true, "\(log.lines)")
    }

    /// The stream says that the consumer is gone, too, but perhaps later.
    @Test func aSlotThatIsClaimedWhileItsConsumerIsDeletedEndsNothing() async throws {
        let readModels = try await TestReadModels(.sqlite)
        try await TenantLedger.makeTables(readModels, .sqlite)
        let log = CapturedLog()
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants {
                    try await put(tenant, client)
                    try await append(20, tenant, client)
                }
                let isDeleted = NIOLockedValueBox(false)
                let deleted = id(tenants[0])
                let database = HookedDatabase(base: readModels) { sql, values in
                    guard sql.hasPrefix("INSERT INTO martlet_projection_slots"),
                        values[0] == .text("\(deleted.tenant)/\(deleted.name)")
                    else { return }
                    let isFirst = isDeleted.withLockedValue { isDeleted in
                        defer { isDeleted = true }
                        return !isDeleted
                    }
                    if isFirst { try await client.deleteConsumer(deleted) }
                }
                let runner = ProjectionRunner(
                    TenantLedger(), ofAll: name, as: worker, client: client, database: database, logger: log.logger)
                try await whileRunning(runner) {
                    try await awaitHeads(client, of: Array(tenants[1...]))
                    let tooLong = ContinuousClock.now + .seconds(60)
                    while !log.lines.contains(where: { $0.contains("CONSUMER_NOT_FOUND") }), .now < tooLong {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    try await put(tenants[0], client)
                    try await awaitHeads(client, of: tenants)
                }
                #expect(isDeleted.withLockedValue { $0 })
                try await expectAll(client, readModels)
            }
        }
    }

    @Test func anotherPastOfOneTenantEndsTheRunner() async throws {
        let readModels = try await TestReadModels(.sqlite)
        try await TenantLedger.makeTables(readModels, .sqlite)
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants { try await put(tenant, client) }
                try await whileRunning(runner(client, readModels)) {
                    for tenant in tenants { try await append(10, tenant, client) }
                    try await awaitHeads(client, of: tenants)
                }
                _ = try await readModels.withTransaction { transaction in
                    try await transaction.execute(
                        "UPDATE martlet_projection_slots SET event_id = $1 WHERE projection = $2",
                        [.text("\(UUID())".lowercased()), .text("\(tenants[1])/\(name)")])
                }
                let runner = runner(client, readModels)
                let error = try await #require(throws: MartletError.self) {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask { try await runner.run() }
                        group.addTask { try await Task.sleep(for: .seconds(20)) }
                        defer { group.cancelAll() }
                        try await group.next()
                    }
                }
                #expect(error.reason == .historyChanged && error.message.contains("tenant \(tenants[1])"), "\(error)")
            }
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func epochsAreAboveThoseOfAllTenantsOfTheName(kind: TestReadModels.Kind) async throws {
        let readModels = try await TestReadModels(kind)
        try await TenantLedger.makeTables(readModels, kind)
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants { try await put(tenant, client) }
                let runner = runner(client, readModels)
                try await runner.prepare()
                let other = TenantID(UUID())
                // Of another tenant; and of what is not this consumer's: a generation, and names that are like it.
                for (projection, epoch) in [
                    ("\(other)/\(name)", 5_000), ("\(other)/\(name)@2", 20_000), ("\(other)/\(name)x", 20_000),
                    ("\(other)/x\(name)", 20_000), ("\(other)/ledxger.a:b-c", 20_000),
                ] as [(String, Int64)] {
                    _ = try await readModels.withTransaction { transaction in
                        try await transaction.execute(
                            """
                            INSERT INTO martlet_projection_slots (projection, slot, epoch, position, event_id)
                            VALUES ($1, 0, $2, 0, NULL)
                            """, [.text(projection), .integer(epoch)])
                    }
                }
                try await whileRunning(runner) {
                    for tenant in tenants { try await append(10, tenant, client) }
                    try await awaitHeads(client, of: tenants)
                }
                for tenant in tenants {
                    let epochs = try await readModels.rows(
                        "SELECT epoch FROM martlet_projection_slots WHERE projection = '\(tenant)/\(name)'"
                    ).compactMap(\.[0].integer)
                    #expect(epochs.count == 4 && epochs.allSatisfy { (5_001..<20_000).contains($0) }, "\(epochs)")
                }
                try await expectAll(client, readModels)
            }
        }
    }

    @Test func aRebuildableProjectionIsRefused() async throws {
        let readModels = try await TestReadModels(.sqlite)
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                let runner = ProjectionRunner(
                    Ledger(), ofAll: name, as: worker, client: client, database: readModels, logger: .silent)
                for body in [runner.prepare, runner.run] as [@Sendable () async throws -> Void] {
                    let error = try await #require(throws: ProjectionRebuildError.self) { try await body() }
                    #expect(error.kind == .declaration && error.message.contains("Run it for each tenant"), "\(error)")
                }
            }
        }
        let tables = try await readModels.rows("SELECT name FROM sqlite_master")
        #expect(tables.isEmpty, "nothing is made")
    }
}

/// A database that does something before each statement.
private struct HookedDatabase: ProjectionDatabase {
    struct Transaction: ProjectionTransaction {
        let base: any ProjectionTransaction
        let hook: @Sendable (String, [SQLValue]) async throws -> Void

        func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            try await hook(sql, values)
            return try await base.execute(sql, values)
        }
    }

    let base: TestReadModels
    let hook: @Sendable (String, [SQLValue]) async throws -> Void

    var bytesType: String { base.bytesType }

    func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result {
        try await base.withTransaction { try await body(Transaction(base: $0, hook: hook)) }
    }
}
