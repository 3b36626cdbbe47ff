import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

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
        #expect(try ManualPage("OPERATIONS").words.contains("and \(Schema.version) of PostgreSQL"))
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

    @Test func aggregatesOfVersion3GoOnWhereTheyAre() throws {
        let (bench, old) = (try Bench(), try Bench(prepares: false))
        let names = (0..<2).map { _ in AggregateName.new() }
        let appends = try [3, 1].enumerated().map { index, count in
            try AppendRequest.sample(count, to: names[index], tenant: bench.tenant)
        }
        let writer = bench.engine().makeWriter()
        for request in appends { try writer.append(request) }
        // The same, as version 3 has it.
        try old.run("CREATE SCHEMA \(old.schema); CREATE TABLE \(old.schema).schema_version (version integer NOT NULL)")
        try old.run("INSERT INTO schema_version VALUES (3)")
        for step in Schema(name: old.schema).migrations.prefix(3) { try old.run(step) }
        try old.run(
            """
            INSERT INTO tenants (id, position, recorded_at, aggregates)
            SELECT id, position, recorded_at, aggregate_count FROM \(bench.schema).tenants;
            INSERT INTO events
            SELECT tenant_no, position, aggregate_no, version, recorded_at, event_id, type, content_type,
                   schema_version, payload_bytes, record
            FROM \(bench.schema).events;
            INSERT INTO aggregates (tenant_no, no, type, id, version, bytes)
            SELECT a.tenant_no, a.no, a.type, a.id, max(e.version), sum(octet_length(e.record))
            FROM \(bench.schema).aggregates a JOIN events e ON e.tenant_no = a.tenant_no AND e.aggregate_no = a.no
            GROUP BY a.tenant_no, a.no, a.type, a.id;
            """)
        let log = "SELECT position, version, event_id, payload FROM event_log ORDER BY position"
        let before = try old.rows(log, columns: 4)
        try old.engine().prepare()
        #expect(try old.rows(log, columns: 4) == before && before.count == 4)
        let reader = old.engine().makeReader()
        #expect(try reader.events(of: bench.tenant) == bench.engine().makeReader().events(of: bench.tenant))
        #expect(try reader.version(of: names[0], in: bench.tenant, asOf: .max) == Version(3))

        let migrated = old.engine().makeWriter()
        #expect(try migrated.append(appends[0])?.replayed == true)
        for (index, name) in names.enumerated() {
            for version in [3, 1][index]...5 {
                let request = try AppendRequest.sample(
                    to: name, .exact(Version(UInt64(version))), tenant: bench.tenant)
                #expect(try migrated.append(request) != nil, "aggregate \(index), version \(version)")
            }
        }
        // The bytes go on from those of before.
        #expect(
            try old.rows(
                """
                SELECT count(*) FROM events e
                WHERE aggregate_bytes <> (
                    SELECT sum(octet_length(record)) FROM events
                    WHERE tenant_no = e.tenant_no AND aggregate_no = e.aggregate_no AND version <= e.version)
                """) == [["0"]])
        #expect(try old.rows("SELECT count(aggregate_bytes) FROM events") == [["8"]])
    }

    @Test(arguments: ["version FROM aggregates", "aggregates FROM tenants"])
    func serversOfBeforeCanNoLongerAppend(_ column: String) throws {
        let bench = try Bench()
        let connection = try bench.connect()
        try connection.run("SET search_path = \(bench.schema)")
        let error = #expect(throws: PostgresFault.self) { try connection.run("SELECT \(column)") }
        #expect(error?.sqlState == "42703")
    }

    @Test func whatIsKeptBesideTheEventsOfVersion4IsMoved() throws {
        let bench = try Bench(prepares: false)
        try bench.run(
            """
            CREATE SCHEMA \(bench.schema);
            CREATE TABLE \(bench.schema).schema_version (version integer NOT NULL);
            INSERT INTO \(bench.schema).schema_version VALUES (4);
            """)
        for step in Schema(name: bench.schema).migrations.prefix(4) { try bench.run(step) }
        let id = UUID()
        try bench.run(
            """
            INSERT INTO tenants (id, position, recorded_at, aggregates, settings_revision)
            VALUES ('\(bench.tenant)', 1, 5, 1, 4), ('\(UUID())', 0, 0, 0, 0);
            INSERT INTO settings VALUES (1, 'snapshot-policies', convert_to('{}', 'UTF8'));
            INSERT INTO events VALUES (1, 1, 1, 1, 5, '\(id)', 'A', 'a/b', 1, 1, '\\x01');
            INSERT INTO snapshots VALUES (1, 1, 1, 5, 1, 'a/b', 0, '\\x010203');
            """)
        try bench.engine().prepare()
        #expect(
            try bench.rows("SELECT head_id FROM tenants ORDER BY no") == [[id.uuidString.lowercased()], ["∅"]])
        #expect(try bench.rows("SELECT payload_bytes, seal FROM snapshots", columns: 2) == [["3", "∅"]])
        let tenantState = try bench.engine().makeReader().tenantState(of: bench.tenant)
        #expect(tenantState.head.eventID == id && tenantState.settingsRevision == 4)
        let put = PutSettingsRequest(
            tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer(string: "[]"), expectedRevision: 4)
        let settings = try bench.engine().makeReader().settings(of: bench.tenant)
        #expect(settings.documents == [.snapshotPolicies: ByteBuffer(string: "{}")])
        #expect(try bench.engine().makeWriter().apply(.putSettings(put), now: .now()) == .settingsPut(revision: 5))
        let changed = try bench.engine().makeReader().settings(of: bench.tenant)
        #expect(changed.documents == [.snapshotPolicies: put.document] && changed.revision == 5)
        #expect(
            try bench.rows("SELECT kind, key, revision FROM documents ORDER BY kind", columns: 3)
                == [["revision", "", "5"], ["settings", "snapshot-policies", "5"]])
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
