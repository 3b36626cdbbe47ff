import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing

@testable import MartletStorageSQLite

/// Which tenants have a consumer of a name: found by an index, or by the keys of those that are asked about.
@Suite(.blocking) struct ConsumerTenantsTests {
    @Test func theyAreFoundInTheOrderOfTheirIDs() throws {
        let bench = try Bench()
        try ConsumerTenants.check(bench.engine)
    }

    private static func plan(_ sql: String, _ connection: SQLiteConnection) throws -> [String] {
        let statement = try connection.prepare("EXPLAIN QUERY PLAN " + sql)
        var plan: [String] = []
        try statement.visit { row throws(SQLiteFault) in plan.append(row.text(3)) }
        return plan
    }

    /// With statistics or without, of few rows and of many.
    @Test func noTableIsScannedForThem() throws {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine, of: bench.tenant)
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        let more = """
            WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
            INSERT INTO consumers SELECT n + 1, name, 1, 1, 0, NULL, definition, 0, randomblob(16) FROM consumers, n;
            """
        for step in ["SELECT 1", "ANALYZE", more, "ANALYZE"] {
            if step == more { try RawDatabase(bench.path).run(step) } else { try connection.run(step) }
            let all = try Self.plan(Query.selectTenantsWithConsumer.sql, connection)
            // By both of its keys the other table has one row.
            #expect(
                all.count == 2 && all[0] == "SEARCH c USING COVERING INDEX consumers_by_name (name=? AND tenant>?)"
                    && all[1].hasPrefix("SEARCH t USING "), "\(step): \(all)")
            let one = try Self.plan(Query.selectTenantWithConsumer.sql, connection)
            #expect(
                one.count == 2 && one[0].contains("INDEX sqlite_autoindex_tenants_1 (id=?)")
                    && one[1] == "SEARCH c USING PRIMARY KEY (tenant_no=? AND name=?)", "\(step): \(one)")
            // What is asked of one tenant is not looked for among all.
            let others: [Query] = [.selectConsumer, .selectConsumers, .countConsumers, .deleteConsumer]
            for query in others {
                let plan = try Self.plan(query.sql, connection)
                #expect(
                    plan.count == 1 && plan[0].hasPrefix("SEARCH consumers USING PRIMARY KEY (tenant_no=?"),
                    "\(step), \(query): \(plan)")
            }
        }
        #expect(try bench.engine.makeReader().consumer(subject.consumer) != nil)
    }

    /// It is for the check to say, and conceals no other tenant: a page is as long as it can be without it.
    @Test func aRowWithTheIDOfAnotherTenantIsLeftOut() throws {
        let bench = try Bench()
        let tenants = (1...3).map { TenantID(UUID(high: $0, low: 1)) }
        let name = try tenants.map { try ConsumerDamage.Subject(bench.engine, of: $0).consumer.name }[0]
        let reader = bench.engine.makeReader()
        func found(_ scope: TenantScope) throws -> [TenantID] {
            try reader.tenants(withConsumer: name, in: scope, after: nil, countMax: 2)
        }
        for damage in ["x'00000000000000000000000000000001'", "(SELECT id FROM tenants WHERE no = 2)", "x'7b7d'"] {
            try RawDatabase(bench.path).run("UPDATE consumers SET tenant = \(damage) WHERE tenant_no = 1")
            #expect(try found(.all) == [tenants[1], tenants[2]], "\(damage)")
            #expect(try found(.only(Set(tenants))) == [tenants[0], tenants[1]], "\(damage)")
        }
    }

    @Test func consumersOfTheEighthSchemaAreFoundByTheirNames() throws {
        let bench = try Bench(prepares: false)
        let folder = URL(fileURLWithPath: bench.path).deletingLastPathComponent().path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let tenants = (1...3).map { TenantID(UUID(high: 4 - $0, low: 1)) }
        let ids = tenants.map { tenant in
            "x'" + tenant.uuid.bytes.map { String(format: "%02x", $0) }.joined() + "'"
        }
        try RawDatabase(bench.path).run(
            Schema.migrations.prefix(8).map { $0.sql + $0.cleanUp }.joined() + """
                PRAGMA user_version = 8;
                PRAGMA application_id = \(Schema.applicationID);
                INSERT INTO tenants (no, id, position, recorded_at)
                VALUES (1, \(ids[0]), 0, 0), (2, \(ids[1]), 0, 0), (3, \(ids[2]), 0, 0);
                -- The last one's tenant is lost: that is for the check to say, and keeps no server from starting.
                INSERT INTO consumers VALUES (1, 'a', 1, 1, 0, NULL, x'7b7d', 0), (2, 'b', 1, 1, 0, NULL, x'7b7d', 0),
                                             (3, 'a', 1, 1, 0, NULL, x'7b7d', 0), (9, 'a', 1, 1, 0, NULL, x'7b7d', 0);
                """)
        try bench.engine.prepare()
        let reader = bench.engine.makeReader()
        let name = try #require(ConsumerName("a"))
        let found = try reader.tenants(withConsumer: name, in: .all, after: nil, countMax: 9)
        #expect(found == [tenants[2], tenants[0]])
        #expect(try reader.tenants(withConsumer: name, in: .only(Set(tenants)), after: nil, countMax: 9) == found)
        let findings = try Findings(bench.path).all.map { "\($0)" }
        #expect(findings.contains { $0.contains("number 9, which has no row, consumer a") }, "\(findings)")
        #expect(!findings.contains { $0.contains("column tenant") }, "\(findings)")
    }
}
