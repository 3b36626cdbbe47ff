import FoundationEssentials
import MartletModel
import MartletStorage
import MartletTesting
import Testing

@testable import MartletStoragePostgreSQL

/// Which tenants have a consumer of a name: found by an index, or by the keys of those that are asked about.
@Suite(.blocking, .needsPostgres) struct ConsumerTenantsTests {
    @Test func theyAreFoundInTheOrderOfTheirIDs() throws { try ConsumerTenants.check(Bench().engine()) }

    /// The plan of a statement with as many parameters, as a session with such settings makes it.
    private static func plan(
        _ sql: String, _ parameters: Int, _ settings: String, _ bench: Bench
    ) throws -> String {
        let connection = try bench.connect()
        try connection.run(settings)
        try connection.run("PREPARE asked AS \(sql)")
        let nulls = Array(repeating: "NULL", count: parameters).joined(separator: ", ")
        let rows = try connection.run("EXPLAIN (COSTS OFF) EXECUTE asked(\(nulls))")
        return (0..<rows.rowCount).map { rows.text($0, 0) }.joined(separator: "\n")
    }

    /// With statistics or without, of few rows and of many, of one tenant or of all.
    @Test func noTableIsScannedForThem() throws {
        let bench = try Bench()
        _ = try ConsumerDamage.Subject(bench.engine(), of: bench.tenant)
        let schema = Schema(name: bench.schema)
        func more(_ tenantNo: String, _ name: String) -> String {
            """
            INSERT INTO consumers
            SELECT \(tenantNo), \(name), 1, 1, 0, NULL, definition, 0, gen_random_uuid()
            FROM consumers, generate_series(1, 3000) AS n WHERE name = 'balances'
            """
        }
        let steps = [
            "DELETE FROM consumers WHERE name = 'none'", "ANALYZE consumers, tenants",
            more("n + 100", "name"), "ANALYZE consumers, tenants",
            "DELETE FROM consumers WHERE tenant_no > 100;" + more("tenant_no", "name || n"),
            "ANALYZE consumers, tenants",
        ]
        for (number, step) in steps.enumerated() {
            try bench.run(step)
            for (name, sql) in schema.ofConsumers where sql.contains(".consumers ") {
                let plan = try Self.plan(sql, name == "consumer" ? 2 : 3, PostgreSQLReader.settings, bench)
                let isByName = name == "tenants_with_consumer"
                let index = isByName ? "consumers_by_name" : "consumers_pkey"
                let isUsed = plan.contains("using \(index) on consumers")
                #expect(isUsed && !plan.contains("Seq Scan") && !plan.contains("Sort"), "\(number), \(name): \(plan)")
                #expect(plan.contains("consumers_by_name") == isByName, "\(number), \(name): \(plan)")
                if isByName {
                    #expect(plan.contains("((name)::text = $1) AND (tenant >= COALESCE($2"), "\(number): \(plan)")
                }
            }
            for (name, sql) in schema.consumerLookUps + schema.consumerChanges where sql.contains(".consumers ") {
                let settings = PostgreSQLReader.settings.replacing("SET enable_sort = off;", with: "")
                    .replacing("SET default_transaction_read_only = on;", with: "")
                let count = ["lock_consumers": 2, "consumer_tenants": 1, "delete_consumer": 2][name] ?? 9
                let plan = try Self.plan(sql, count, settings, bench)
                let isByKey = !plan.contains("consumers_by_name") && !plan.contains("Seq Scan")
                #expect(isByKey, "\(number), \(name): \(plan)")
            }
        }
    }

    /// It is for the check to say, and conceals no other tenant: a page is as long as it can be without it.
    @Test func aRowWithTheIDOfAnotherTenantIsLeftOut() throws {
        let bench = try Bench()
        let tenants = (1...3).map { TenantID(UUID(high: $0, low: 1)) }
        let name = try tenants.map { try ConsumerDamage.Subject(bench.engine(), of: $0).consumer.name }[0]
        let reader = bench.engine().makeReader()
        func found(_ scope: TenantScope) throws -> [TenantID] {
            try reader.tenants(withConsumer: name, in: scope, after: nil, countMax: 2)
        }
        for damage in [Schema.zeroID, "(SELECT id FROM tenants WHERE id > '\(tenants[0])' ORDER BY id LIMIT 1)"] {
            try bench.run(
                """
                UPDATE consumers SET tenant = \(damage)
                WHERE tenant_no = (SELECT no FROM tenants WHERE id = '\(tenants[0])')
                """)
            #expect(try found(.all) == [tenants[1], tenants[2]], "\(damage)")
            #expect(try found(.only(Set(tenants))) == [tenants[0], tenants[1]], "\(damage)")
        }
    }

    /// An index that the database did not keep up for a while. Nothing but the check would tell.
    @Test func anIndexThatLacksARowIsFound() throws {
        let bench = try Bench()
        _ = try ConsumerDamage.Subject(bench.engine(), of: bench.tenant)
        func setReady(_ isReady: Bool) throws {
            try bench.run(
                "UPDATE pg_index SET indisready = \(isReady) WHERE indexrelid = 'consumers_by_name'::regclass")
        }
        func findings() throws -> [String] {
            var texts: [String] = []
            _ = try DatabaseCheck(connectionString: bench.url, schema: bench.schema).run { outcome in
                if outcome.subject == "indexes" { texts += outcome.findings }
            }
            return texts
        }
        #expect(try findings() == [])
        try setReady(false)
        try bench.run(
            "INSERT INTO consumers SELECT tenant_no, 'b', 1, 1, 0, NULL, definition, 0, tenant FROM consumers")
        try setReady(true)
        let found = try findings()
        #expect(found.count == 1 && found[0].contains("index consumers_by_name: found 1 rows"), "\(found)")
    }

    @Test func consumersOfVersion9AreFoundByTheirNames() throws {
        let bench = try Bench(prepares: false)
        try bench.run(
            """
            CREATE SCHEMA \(bench.schema);
            CREATE TABLE \(bench.schema).schema_version (version integer NOT NULL);
            INSERT INTO \(bench.schema).schema_version VALUES (9);
            """)
        for step in Schema(name: bench.schema).migrations.prefix(9) { try bench.run(step) }
        let tenants = (1...3).map { TenantID(UUID(high: 4 - $0, low: 1)) }
        try bench.run(
            """
            INSERT INTO tenants (id, position, recorded_at, aggregate_count)
            VALUES \(tenants.map { "('\($0)', 0, 0, 0)" }.joined(separator: ", "));
            -- The last one's tenant is lost: that is for the check to say, and keeps no server from starting.
            INSERT INTO consumers
            SELECT no, name, 1, 1, 0, NULL, '\\x7b7d', 0
            FROM (VALUES (1, 'a'), (2, 'b'), (3, 'a'), (99, 'a')) AS q (no, name);
            """)
        try bench.engine().prepare()
        let reader = bench.engine().makeReader()
        let name = try #require(ConsumerName("a"))
        let found = try reader.tenants(withConsumer: name, in: .all, after: nil, countMax: 9)
        #expect(found == [tenants[2], tenants[0]])
        #expect(try reader.tenants(withConsumer: name, in: .only(Set(tenants)), after: nil, countMax: 9) == found)
    }

    /// They would leave out whose the consumer is.
    @Test func serversOfVersion9CanNoLongerPutConsumers() throws {
        let bench = try Bench()
        let connection = try bench.connect()
        try connection.run("SET search_path = \(bench.schema)")
        let error = #expect(throws: PostgresFault.self) {
            try connection.run(
                """
                INSERT INTO consumers (tenant_no, name, revision, base_epoch, position, event_id, definition, seal)
                VALUES (1, 'a', 1, 1, 0, NULL, '', 0)
                """)
        }
        #expect(error?.sqlState == "23502")
    }
}
