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
                == ["schema", "events", "heads", "aggregates", "snapshots", "documents", "indexes"])
        #expect(outcomes[1].summary == "\(count) events, 0 without a checksum")
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

    /// How many bits are flipped; `make test-bits` flips 1,000.
    private static let flips = Int(ProcessInfo.processInfo.environment["MARTLET_TEST_BITS"] ?? "") ?? 200

    /// Each value that is stored, a bit at a time.
    @Test func bitsOfValuesAreFound() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench()
        _ = try Self.fill(bench)
        let columns = try bench.rows(
            """
            SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = '\(bench.schema)'::regnamespace AND c.relkind = 'r'
              AND c.relname IN ('tenants', 'aggregates', 'events', 'snapshots', 'documents')
              AND NOT (c.relname = 'tenants' AND a.attname IN ('settings_revision', 'changes', 'no'))
              AND NOT (c.relname = 'aggregates' AND a.attname IN ('bytes_v3', 'snapshot_bytes'))
            ORDER BY 1, 2
            """, columns: 3)
        let connection = try bench.connect()
        let check = DatabaseCheck(connectionString: bench.url, schema: bench.schema)
        var (found, refused) = (0, 0)
        for _ in 0..<Self.flips {
            // Records are most of what is stored.
            let pick = columns.randomElement(using: &numbers) ?? []
            let column = Bool.random(using: &numbers) ? pick : ["events", "record", "bytea"]
            let seed = Int.random(in: 0..<1 << 30, using: &numbers)
            let flipped = try #require(Self.flipped(column[1], column[2], seed), "\(column)")
            try connection.run("BEGIN; SET LOCAL search_path = \(bench.schema)")
            let change =
                "UPDATE \(column[0]) SET \(column[1]) = \(flipped) WHERE ctid = "
                + "(SELECT ctid FROM \(column[0]) WHERE \(column[1]) IS NOT NULL ORDER BY md5(ctid::text || \(seed)) LIMIT 1)"
            do throws(PostgresFault) {
                try connection.run(change)
            } catch {
                // Bytes that are no text, or a key that is taken.
                try connection.run("ROLLBACK")
                refused += 1
                continue
            }
            var subjects: [String] = []
            let count = try check.run(on: connection) { if $0.findingsCount > 0 { subjects.append($0.subject) } }
            try connection.run("ROLLBACK")
            #expect(count > 0, "seed \(random.seed): \(change)")
            found += count > 0 ? 1 : 0
        }
        print("seed \(random.seed): of \(Self.flips) bits \(found) were found, \(refused) were refused by the database")
        #expect(found + refused == Self.flips && found > Self.flips * 4 / 5, "seed \(random.seed)")
    }

    private static func flipped(_ column: String, _ type: String, _ seed: Int) -> String? {
        func inBytes(_ bytes: String) -> String {
            "set_bit(\(bytes), (\(seed) % (8 * octet_length(\(bytes))))::int, "
                + "1 - get_bit(\(bytes), (\(seed) % (8 * octet_length(\(bytes))))::int))"
        }
        switch type {
        case "bytea": return inBytes(column)
        case "bigint": return "\(column) # (1::bigint << \(seed % 63))"
        case "integer": return "\(column) # (1 << \(seed % 31))"
        case "uuid": return "encode(\(inBytes("uuid_send(\(column))")), 'hex')::uuid"
        case "text": return "convert_from(\(inBytes("convert_to(\(column), 'UTF8')")), 'UTF8')"
        default: return nil
        }
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
        return count
    }
}
