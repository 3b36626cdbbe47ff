import EventModel
import EventStorage
import EventTesting
import Testing
@testable import StoragePostgreSQL

/// What becomes of a schema before the first append.
@Suite(.blocking, .needsPostgres) struct MigrationTests {
    @Test func aFreshSchemaIsMadeAndASecondTimeChangesNothing() throws {
        let bench = try Bench()
        let request = try AppendRequest.sample(2, tenant: bench.tenant)
        try bench.engine().makeWriter().append(request)
        let objects = "SELECT oid FROM pg_class WHERE relnamespace = '\(bench.schema)'::regnamespace ORDER BY oid"
        let before = try bench.rows(objects)
        try bench.engine().prepare()
        #expect(try bench.rows(objects) == before)
        #expect(try bench.rows("SELECT version FROM schema_version") == [["\(Schema.version)"]])
        #expect(Schema(name: "x").migrations.count == Schema.version)
        #expect(try bench.holds(request.ids))
    }

    @Test func enginesThatStartAtOnceAllFindTheSchemaWhole() async throws {
        for round in 0..<8 {
            let bench = try Bench(prepares: false)
            let receipts = try await Threads.race(4) { _ in
                let engine = bench.engine()
                try engine.prepare()
                return try engine.makeWriter().append(.sample(tenant: bench.tenant))
            }
            #expect(Set(receipts.map { $0?.firstPosition.rawValue }) == [1, 2, 3, 4], "round \(round)")
            #expect(try bench.rows("SELECT version FROM schema_version") == [["\(Schema.version)"]], "round \(round)")
        }
    }

    @Test func aNewerSchemaIsRefused() throws {
        let bench = try Bench()
        try bench.run("UPDATE schema_version SET version = 99")
        let error = refusal { () throws(StorageError) in try bench.engine().prepare() }
        #expect(error?.kind == .schemaTooNew)
        #expect(
            error?.description.contains("version 99") == true && error?.description.contains("newer server") == true)
        #expect(try bench.rows("SELECT version FROM schema_version") == [["99"]])
    }

    @Test(arguments: 0..<Schema.version)
    func anOlderSchemaIsMigratedFromThere(_ version: Int) throws {
        let bench = try Bench(prepares: false)
        try bench.run(
            """
            CREATE SCHEMA \(bench.schema);
            CREATE TABLE \(bench.schema).schema_version (version integer NOT NULL);
            INSERT INTO \(bench.schema).schema_version VALUES (\(version));
            """)
        for step in Schema(name: bench.schema).migrations.prefix(version) { try bench.run(step) }
        try bench.engine().prepare()
        #expect(try bench.rows("SELECT version FROM schema_version") == [["\(Schema.version)"]])
        let request = try AppendRequest.sample(2, tenant: bench.tenant)
        try bench.engine().makeWriter().append(request)
        #expect(try bench.holds(request.ids))
    }

    @Test func aMigrationThatFailsLeavesNothing() throws {
        let bench = try Bench(prepares: false)
        // In the way of the first migration's last step.
        try bench.run("CREATE SCHEMA \(bench.schema); CREATE TABLE \(bench.schema).event_log (n integer)")
        #expect(refusal { () throws(StorageError) in try bench.engine().prepare() } != nil)
        #expect(
            try bench.rows("SELECT relname FROM pg_class WHERE relnamespace = '\(bench.schema)'::regnamespace")
                == [["event_log"]])
        try bench.run("DROP TABLE event_log")
        try bench.engine().prepare()
        try bench.engine().makeWriter().append(.sample(tenant: bench.tenant))
    }
}
