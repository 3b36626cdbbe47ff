import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// Sums of accounts by tenant, and a list of all that was done, which has no key that would hide what is done twice.
struct TenantsLedger: KeyRebuildableProjection {
    var kind: TestReadModels.Kind
    var fails: @Sendable (ProjectedEvent) throws -> Void = { _ in }
    var version = 1

    var tables: [ProjectionTable] {
        let number = kind == .sqlite ? "integer PRIMARY KEY" : "bigserial PRIMARY KEY"
        return [
            ProjectionTable(
                "tenant_sums",
                "tenant text, account text, cents bigint NOT NULL, marker bigint, PRIMARY KEY (tenant, account)",
                comparing: "tenant, account, cents"),
            ProjectionTable(
                "tenant_effects",
                "no \(number), tenant text, id text, account text, version bigint, marker bigint, replay bigint",
                comparing: "tenant, id, account, version"),
        ]
    }

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let marker = SQLValue.integer(event.generation.number ?? 0)
        let (tenant, account) = ("\(event.tenant)", "\(event.event.aggregate.id)")
        try await transaction.execute(
            """
            INSERT INTO \(event.table("tenant_effects")) (tenant, id, account, version, marker, replay)
            VALUES ($1, $2, $3, $4, $5, $6)
            """, .text(tenant), .text("\(event.event.event.id)".lowercased()), .text(account),
            .integer(Int64(event.event.version.rawValue)), marker, .integer(event.isReplay ? 1 : 0))
        let sums = event.table("tenant_sums")
        try await transaction.execute(
            """
            INSERT INTO \(sums) (tenant, account, cents, marker) VALUES ($1, $2, $3, $4)
            ON CONFLICT (tenant, account) DO UPDATE SET cents = \(sums).cents + excluded.cents
            """, .text(tenant), .text(account), .integer(Int64(event.event.event.payload.readableBytes)), marker)
        // After it has written something.
        try fails(event)
    }

    func reset(
        _ key: ConsumerKey, of tenant: TenantID, generation: ProjectionGeneration,
        in transaction: any ProjectionTransaction
    ) async throws {
        let account = "\(key)".split(separator: "/").last.map(String.init) ?? ""
        for table in tables {
            try await transaction.execute(
                "DELETE FROM \(generation.table(table.name)) WHERE tenant = $1 AND account = $2",
                .text("\(tenant)"), .text(account))
        }
    }
}

/// A read model over tenants that can be rebuilt.
struct TenantRebuildHarness: Sendable {
    let all: TenantsHarness
    let readModels: TestReadModels
    let kind: TestReadModels.Kind

    init(_ kind: TestReadModels.Kind, tenants: Int = 3) async throws {
        all = try TenantsHarness(tenants: tenants)
        readModels = try await TestReadModels(kind)
        self.kind = kind
    }

    func with(_ body: @escaping @Sendable (MartletClient) async throws -> Void) async throws {
        try await TestServer.with(MemoryEngine()) { server in try await server.withClient(body) }
    }

    /// A consumer and some events of each tenant, and all of them in the read model.
    func begin(_ client: MartletClient, events: Int = 40) async throws {
        for tenant in all.tenants {
            try await all.put(tenant, client)
            try await all.append(events, tenant, client)
        }
        try await takeIn(client)
    }

    func runner(
        _ client: MartletClient, _ ledger: TenantsLedger? = nil, worker: WorkerName? = nil
    ) -> ProjectionRunner<TestReadModels> {
        var runner = ProjectionRunner(
            ledger ?? TenantsLedger(kind: kind), ofAll: all.name, as: worker ?? all.worker, client: client,
            database: TestReadModels(readModels), logger: .silent)
        runner.batchEventsMax = 20
        runner.databaseBackoff = (.milliseconds(5), .milliseconds(50))
        return runner
    }

    func rebuilder(
        _ client: MartletClient, _ ledger: TenantsLedger? = nil, _ database: TestReadModels? = nil
    ) -> ProjectionRebuilder<TestReadModels> {
        var rebuilder = ProjectionRebuilder(
            ledger ?? TenantsLedger(kind: kind), ofAll: all.name, client: client,
            database: database ?? TestReadModels(readModels), logger: .silent)
        rebuilder.batchEventsMax = 10
        rebuilder.databaseBackoff = (.milliseconds(5), .milliseconds(50))
        return rebuilder
    }

    func takeIn(
        _ client: MartletClient, _ ledger: TenantsLedger? = nil, of tenants: [TenantID]? = nil
    ) async throws {
        try await all.whileRunning(runner(client, ledger)) { try await all.awaitHeads(client, of: tenants) }
    }

    func expectAll(
        _ client: MartletClient, of tenants: [TenantID]? = nil, without missing: [TenantID: Set<Position>] = [:],
        _ place: String = "", sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try await all.expectAll(
            client, readModels, of: tenants, without: missing,
            effects: "SELECT tenant, id, account, version FROM tenant_effects ORDER BY no",
            sums: "SELECT tenant, account, cents FROM tenant_sums ORDER BY tenant, account",
            "\(all.seed) \(place)", sourceLocation: sourceLocation)
    }

    func count(_ condition: String) async throws -> Int64? {
        try await readModels.rows("SELECT count(*) FROM tenant_effects WHERE \(condition)")[0][0].integer
    }

    func states() async throws -> [String] {
        try await readModels.rows(
            """
            SELECT state FROM martlet_projection_generations WHERE projection = '*/\(all.name)' ORDER BY generation
            """
        ).compactMap(\.[0].text)
    }
}
