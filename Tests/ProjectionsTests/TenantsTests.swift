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

    private let all: TenantsHarness
    private var tenants: [TenantID] { all.tenants }

    init() throws { all = try TenantsHarness() }

    private func runner(
        _ client: MartletClient, _ readModels: TestReadModels, _ logger: CapturedLog = CapturedLog(),
        in tenants: Set<TenantID> = []
    ) -> ProjectionRunner<TestReadModels> {
        ProjectionRunner(
            TenantLedger(), ofAll: all.name, in: tenants, as: all.worker, client: client, database: readModels,
            logger: logger.logger)
    }

    private func expectAll(
        _ client: MartletClient, _ readModels: TestReadModels, _ comment: Comment? = nil
    ) async throws {
        try await all.expectAll(
            client, readModels, effects: "SELECT tenant, id, account, version FROM effects ORDER BY no",
            sums: "SELECT tenant, account, cents FROM sums ORDER BY tenant, account", comment)
    }

    @Test(arguments: TestReadModels.Kind.available)
    func theEventsOfAllTenantsAreTakenInOnce(kind: TestReadModels.Kind) async throws {
        let readModels = try await TestReadModels(kind)
        try await TenantLedger.makeTables(readModels, kind)
        let comment = Comment(rawValue: "seed \(all.random.withLockedValue { $0.seed })")
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                for tenant in tenants.prefix(2) { try await all.put(tenant, client) }
                // The last one has events, but no consumer yet.
                for tenant in tenants { try await all.append(60, tenant, client) }
                // Stopped wherever it is, and started again.
                for _ in 0..<3 {
                    try await all.whileRunning(runner(client, readModels)) {
                        for tenant in tenants { try await all.append(20, tenant, client) }
                    }
                }
                try await all.whileRunning(runner(client, readModels)) {
                    try await all.awaitHeads(client, of: Array(tenants.prefix(2)))
                    try await all.put(tenants[2], client)
                    for tenant in tenants { try await all.append(20, tenant, client) }
                    try await all.awaitHeads(client, of: tenants)
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
                for tenant in tenants { try await all.put(tenant, client) }
                let one = ProjectionRunner(
                    TenantLedger(), of: all.id(tenants[1]), as: try #require(WorkerName("one")), client: client,
                    database: readModels, logger: .silent)
                try await all.whileRunning(one) {
                    try await all.append(40, tenants[1], client)
                    try await all.awaitHeads(client, of: [tenants[1]])
                }
                try await all.whileRunning(runner(client, readModels)) {
                    for tenant in tenants { try await all.append(40, tenant, client) }
                    try await all.awaitHeads(client, of: tenants)
                    // Beside each other.
                    try await all.whileRunning(one) {
                        for tenant in tenants { try await all.append(40, tenant, client) }
                        try await all.awaitHeads(client, of: tenants)
                    }
                }
                try await all.whileRunning(one) {
                    try await all.append(40, tenants[1], client)
                    try await all.awaitHeads(client, of: [tenants[1]])
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
                for tenant in tenants { try await all.put(tenant, client) }
                try await all.whileRunning(runner(client, readModels, log)) {
                    for tenant in tenants { try await all.append(20, tenant, client) }
                    try await all.awaitHeads(client, of: tenants)
                    try await client.deleteConsumer(all.id(tenants[0]))
                    let tooLong = ContinuousClock.now + .seconds(60)
                    while !log.lines.contains(where: { $0.contains("CONSUMER_NOT_FOUND") }), .now < tooLong {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    for tenant in tenants { try await all.append(20, tenant, client) }
                    try await all.awaitHeads(client, of: Array(tenants[1...]))
                    // It begins anew, and nothing is taken in twice.
                    try await all.put(tenants[0], client)
                    try await all.awaitHeads(client, of: tenants)
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
                    try await all.put(tenant, client)
                    try await all.append(20, tenant, client)
                }
                let isDeleted = NIOLockedValueBox(false)
                let deleted = all.id(tenants[0])
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
                    TenantLedger(), ofAll: all.name, as: all.worker, client: client, database: database,
                    logger: log.logger)
                try await all.whileRunning(runner) {
                    try await all.awaitHeads(client, of: Array(tenants[1...]))
                    let tooLong = ContinuousClock.now + .seconds(60)
                    while !log.lines.contains(where: { $0.contains("CONSUMER_NOT_FOUND") }), .now < tooLong {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    try await all.put(tenants[0], client)
                    try await all.awaitHeads(client, of: tenants)
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
                for tenant in tenants { try await all.put(tenant, client) }
                try await all.whileRunning(runner(client, readModels)) {
                    for tenant in tenants { try await all.append(10, tenant, client) }
                    try await all.awaitHeads(client, of: tenants)
                }
                _ = try await readModels.withTransaction { transaction in
                    try await transaction.execute(
                        "UPDATE martlet_projection_slots SET event_id = $1 WHERE projection = $2",
                        [.text("\(UUID())".lowercased()), .text("\(tenants[1])/\(all.name)")])
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
                for tenant in tenants { try await all.put(tenant, client) }
                let runner = runner(client, readModels)
                try await runner.prepare()
                let other = TenantID(UUID())
                // Of another tenant; and of what is not this consumer's: a generation, and names that are like it.
                for (projection, epoch) in [
                    ("\(other)/\(all.name)", 5_000), ("\(other)/\(all.name)@2", 20_000),
                    ("\(other)/\(all.name)x", 20_000),
                    ("\(other)/x\(all.name)", 20_000), ("\(other)/ledxger.a:b-c", 20_000),
                ] as [(String, Int64)] {
                    _ = try await readModels.withTransaction { transaction in
                        try await transaction.execute(
                            """
                            INSERT INTO martlet_projection_slots (projection, slot, epoch, position, event_id)
                            VALUES ($1, 0, $2, 0, NULL)
                            """, [.text(projection), .integer(epoch)])
                    }
                }
                try await all.whileRunning(runner) {
                    for tenant in tenants { try await all.append(10, tenant, client) }
                    try await all.awaitHeads(client, of: tenants)
                }
                for tenant in tenants {
                    let epochs = try await readModels.rows(
                        "SELECT epoch FROM martlet_projection_slots WHERE projection = '\(tenant)/\(all.name)'"
                    ).compactMap(\.[0].integer)
                    #expect(epochs.count == 4 && epochs.allSatisfy { (5_001..<20_000).contains($0) }, "\(epochs)")
                }
                try await expectAll(client, readModels)
            }
        }
    }
}
