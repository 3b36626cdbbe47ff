import Foundation
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What sound tables say of themselves, and that whatever is changed in them is found.
@Suite(.blocking, .needsPostgres) struct DatabaseCheckTests {
    @Test func theTablesOfAServerAreSound() throws {
        let bench = try Bench()
        let count = try Self.fill(bench)
        let outcomes = try Self.outcomes(bench)
        #expect(outcomes.flatMap(\.findings).isEmpty, "\(outcomes.flatMap(\.findings))")
        #expect(
            outcomes.map(\.subject)
                == [
                    "schema", "events", "heads", "aggregates", "snapshots", "documents", "consumers", "schedules",
                    "indexes",
                ])
        #expect(outcomes[1].summary == "\(count) events, 0 without a checksum")
        #expect(outcomes[6].summary.hasPrefix("2 consumers"), "\(outcomes[6])")
    }

    /// Each is undone before the next.
    @Test func damageToConsumersIsFoundAndNamed() throws {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine(), of: bench.tenant)
        let sound = try Self.outcomes(bench)
        try #require(sound.allSatisfy { $0.findingsCount == 0 }, "\(sound)")
        #expect(sound[6].summary == "1 consumers, 2 slots, 1 workers, 1 blocked keys")
        let connection = try bench.connect()
        let check = DatabaseCheck(connectionString: bench.url, schema: bench.schema)
        for damage in ConsumerDamage.all(.postgreSQL) {
            let sql = subject.fill(damage.sql, .postgreSQL)
            try connection.run("BEGIN; SET LOCAL search_path = \(bench.schema); \(sql)")
            var texts: [String] = []
            _ = try check.run(on: connection) { if $0.subject == "consumers" { texts = $0.findings } }
            try connection.run("ROLLBACK")
            let words = damage.words.map { subject.fill($0, .postgreSQL) }
            #expect(
                texts.contains { text in words.allSatisfy { text.contains($0) } }, "\(sql): \(words) in \(texts)")
        }
    }

    @Test(arguments: DamagedSlot.statements)
    func aConsumerWithADamagedSlotCanBeResetAndDeleted(_ statement: String) throws {
        let bench = try Bench()
        try DamagedSlot.check(bench.engine(), of: bench.tenant) { try bench.run(statement) }
    }

    @Test func eventsOfBeforeAreCounted() throws {
        let bench = try Bench()
        _ = try Self.fill(bench)
        let event = try #require(try bench.engine().makeReader().events(of: bench.tenant).first)
        // Field 10 with its key.
        let place = "tenant_no = (SELECT no FROM tenants WHERE id = '\(bench.tenant)') AND position = 1"
        let record = try bench.rows("SELECT encode(record, 'hex') FROM events WHERE \(place)")[0][0]
        let bytes = stride(from: 0, to: record.count, by: 2).map { offset in
            UInt8(record.dropFirst(offset).prefix(2), radix: 16) ?? 0
        }
        let checksum = try #require(RecordOutline(ByteBuffer(bytes: bytes))?.checksum)
        let field = try #require(
            Data(bytes).firstRange(of: Data([0x55] + (0..<4).map { UInt8(truncatingIfNeeded: checksum >> ($0 * 8)) })))
        try bench.run(
            """
            UPDATE events SET record = overlay(record PLACING ''::bytea FROM \(field.lowerBound + 1) FOR 5) WHERE \(place);
            UPDATE events SET aggregate_bytes = aggregate_bytes - 5 WHERE tenant_no = (
                SELECT no FROM tenants WHERE id = '\(bench.tenant)') AND aggregate_no = (
                SELECT no FROM aggregates WHERE id = '\(event.aggregate.id)');
            """)
        let outcomes = try Self.outcomes(bench)
        #expect(outcomes[1].summary.hasSuffix("1 without a checksum"), "\(outcomes)")
    }

    /// How many bits are flipped; `make test-bits` flips 1,000. Nil is one in each column, and as many in records.
    private static let flips = Int(ProcessInfo.processInfo.environment["MARTLET_TEST_BITS"] ?? "")

    /// Columns whose damage the check does not always find, each with the reason why nothing damaged is served.
    private static let hints = [
        "tenants.changes": "not used any more",
        "aggregates.snapshot_bytes": "tells when a snapshot is due: within bounds that are checked, sooner or later",
        "listeners.server": "tells whether to notify: servers poll beside that",
        "listeners.until": "as listeners.server",
        "consumer_workers.name": "tells who is connected until a time that is checked; the slot says who works on it",
        "consumer_workers.session": "as consumer_workers.name",
        "consumer_workers.server": "as consumer_workers.name",
        "consumer_workers.until": "as consumer_workers.name",
        "schedules.server": "tells which server looks after it first: the others do so a moment later",
    ]

    /// A column and its type. A new one is in the catalog by itself.
    private struct Column {
        var table: String
        var name: String
        var type: String

        var id: String { "\(table).\(name)" }
        /// Which rows have a bit there.
        var condition: String {
            type == "bytea" || type == "text" ? "octet_length(\(name)) > 0" : "\(name) IS NOT NULL"
        }

        static func all(_ bench: Bench) throws -> [Column] {
            try bench.rows(
                """
                SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
                FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE c.relnamespace = '\(bench.schema)'::regnamespace AND c.relkind = 'r'
                ORDER BY 1, 2
                """, columns: 3
            ).map { Column(table: $0[0], name: $0[1], type: $0[2]) }
        }

        /// The column's value with another bit, the sign among them; nil for a type that is not known here.
        func flipped(_ seed: Int) -> String? {
            func inBytes(_ bytes: String) -> String {
                "set_bit(\(bytes), (\(seed) % (8 * octet_length(\(bytes))))::int, "
                    + "1 - get_bit(\(bytes), (\(seed) % (8 * octet_length(\(bytes))))::int))"
            }
            switch type {
            case "bytea": return inBytes(name)
            case "bigint": return "\(name) # (1::bigint << \(seed % 64))"
            case "integer": return "\(name) # (1 << \(seed % 32))"
            case "uuid": return "encode(\(inBytes("uuid_send(\(name))")), 'hex')::uuid"
            case "text": return "convert_from(\(inBytes("convert_to(\(name), 'UTF8')")), 'UTF8')"
            // Microseconds, as they are stored.
            case "timestamp with time zone":
                return """
                    timestamptz '2000-01-01 00:00:00+00' + interval '1 microsecond' * (
                        (extract(epoch FROM \(name) - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint
                        # (1::bigint << \(seed % 50)))
                    """
            default: return nil
            }
        }
    }

    /// Each value that is stored, a bit at a time: the check finds it, the database refuses it, or it is one of those
    /// that are not served, and all that a server answers is as before.
    @Test func bitsOfValuesAreFound() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench()
        _ = try Self.fill(bench)
        let history = try BitFlipHistory(bench.engine(), &numbers)
        let before = try history.answers(of: bench.engine())
        try Self.fillListeners(bench)
        // Numbers of tenants are the database's to give; damage does not ask.
        try bench.run("ALTER TABLE tenants ALTER no DROP IDENTITY, ALTER no SET DEFAULT 1000000")
        let columns = try Column.all(bench)
        for column in columns {
            let rows = try bench.rows("SELECT count(*) FROM \(column.table) WHERE \(column.condition)")
            #expect(rows != [["0"]], "\(column.id): no row has a value to damage")
        }
        let connection = try bench.connect()
        let check = DatabaseCheck(connectionString: bench.url, schema: bench.schema)
        var (found, refused, unserved) = (0, 0, [:] as [String: Int])
        let flips = Self.flips ?? 2 * columns.count
        for flip in 0..<flips {
            // Each column in turn; and records, which are most of what is stored.
            let column =
                flip % 2 == 0
                ? columns[flip / 2 % columns.count] : Column(table: "events", name: "record", type: "bytea")
            let seed = Int.random(in: 0..<1 << 30, using: &numbers)
            let flipped = try #require(column.flipped(seed), "\(column)")
            try connection.run("BEGIN; SET LOCAL search_path = \(bench.schema)")
            let change =
                "UPDATE \(column.table) SET \(column.name) = \(flipped) WHERE ctid = (SELECT ctid FROM \(column.table) "
                + "WHERE \(column.condition) ORDER BY md5(ctid::text || \(seed)) LIMIT 1)"
            do throws(PostgresFault) {
                try connection.run(change)
            } catch {
                // Bytes that are no text, or a key that is taken.
                try connection.run("ROLLBACK")
                refused += 1
                continue
            }
            let count = try check.run(on: connection) { _ in }
            if count > 0 {
                try connection.run("ROLLBACK")
                found += 1
            } else if Self.hints[column.id] != nil {
                // It stays, beside those that follow.
                try connection.run("COMMIT")
                #expect(try history.answers(of: bench.engine()) == before, "seed \(random.seed): \(change)")
                unserved[column.id, default: 0] += 1
            } else {
                try connection.run("ROLLBACK")
                Issue.record("seed \(random.seed): \(change) is not found")
                unserved[column.table, default: 0] += 1
            }
        }
        let rest = unserved.sorted { $0.key < $1.key }.map { "\($0.value) of \($0.key)" }.joined(separator: ", ")
        print(
            "seed \(random.seed): of \(flips) bits in \(columns.count) columns \(found) were found, \(refused) were "
                + "refused by the database, and these were not served: \(rest)")
        #expect(found + refused + unserved.values.reduce(0, +) == flips && found > flips * 3 / 5)
    }

    /// Rows that only a server writes that runs.
    private static func fillListeners(_ bench: Bench) throws {
        try bench.run("INSERT INTO listeners VALUES (gen_random_uuid(), now() + interval '1 hour');")
    }

    /// The revision beside the head is told from damage by its copy alone, whatever documents are left.
    @Test(arguments: ["settings_revision = 9", "settings_revision = 0", "settings_revision = -1"])
    func aRevisionThatIsNotItsCopyIsFound(_ change: String) throws {
        let bench = try Bench()
        _ = try Self.fill(bench)
        // A document that was deleted leaves no revision of its own behind.
        _ = try bench.engine().makeWriter().apply(
            .putSettings(PutSettingsRequest(tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer())),
            now: .now())
        #expect(try Self.outcomes(bench).allSatisfy { $0.findingsCount == 0 })
        try bench.run("UPDATE tenants SET \(change) WHERE id = '\(bench.tenant)'")
        let findings = try Self.outcomes(bench).flatMap(\.findings)
        #expect(findings.contains { $0.contains("its copy says 2") }, "\(findings)")
    }

    private static func outcomes(_ bench: Bench) throws -> [DatabaseCheck.Outcome] {
        var outcomes: [DatabaseCheck.Outcome] = []
        _ = try DatabaseCheck(connectionString: bench.url, schema: bench.schema).run { outcomes.append($0) }
        return outcomes
    }

    /// - Returns: how many events there are.
    private static func fill(_ bench: Bench) throws -> Int {
        let writer = bench.engine().makeWriter()
        let names = (0..<3).map { _ in AggregateName.new() }
        var count = 0
        for round in 0..<6 {
            let tenant = round % 3 == 0 ? TenantID(UUID(high: 1, low: 2)) : bench.tenant
            var request = try AppendRequest.sample(round + 1, to: names[round % 3], tenant: tenant)
            if round % 2 == 0 {
                request.aggregates[0].snapshot = NewSnapshot(payload: ByteBuffer(string: #"{"n":\#(round)}"#))
            }
            try writer.append(request)
            count += round + 1
        }
        _ = try writer.apply(
            .putSettings(
                PutSettingsRequest(
                    tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer(string: #"{"policies":[]}"#))),
            now: .now())
        var numbers = SeededGenerator.fromEnvironment()
        _ = try ConsumerHistory(bench.engine(), of: bench.tenant, label: "bench", &numbers)
        return count
    }
}
