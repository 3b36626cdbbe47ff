import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// Something that is wrong with a file, as raw SQL on a ``DamageSubject``, and what the check must say.
struct Damage: Sendable, CustomTestStringConvertible {
    var subject: FileCheck.Subject
    var sql: String
    /// What stands in one finding together.
    var words: [String]
    /// All ranges are told by the blocks still.
    var isInTail = false

    init(_ subject: FileCheck.Subject, _ sql: String, _ words: [String], inTail: Bool = false) {
        self.subject = subject
        self.sql = sql
        self.words = words
        isInTail = inTail
    }

    var testDescription: String { isInTail ? "\(sql) (in the tail)" : sql }

    static let all = file + blocks + eventIDs + aggregates + ranges + snapshots + settings

    private static let file = [
        Damage(.file, "PRAGMA application_id = 7", ["application id 7"]),
        Damage(.file, "PRAGMA user_version = 99", ["schema version 99"]),
        Damage(
            .pages,
            """
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET rootpage = (
                SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_documents_1')
            WHERE name = 'sqlite_autoindex_aggregates_1'
            """, ["index sqlite_autoindex_aggregates_1"]),
    ]

    private static let blocks = [
        Damage(.blocks, "DELETE FROM blocks WHERE key = {k4}", ["tenant {T}", "block at position 6", "at position 4"]),
        Damage(.blocks, "DELETE FROM blocks WHERE key = {k1}", ["tenant {T}", "block at position 4", "at position 1"]),
        Damage(.blocks, "DELETE FROM blocks WHERE key = {k8}", ["tenant {T}", "head", "position 9", "expected 7"]),
        Damage(.blocks, "UPDATE blocks SET count = 0 WHERE key = {k4}", ["block at position 4", "a count of 0"]),
        Damage(
            .blocks, "UPDATE blocks SET count = -9223372036854775808 WHERE key = {k4}",
            ["block at position 4", "a count of"]),
        Damage(
            .blocks, "UPDATE blocks SET count = 9223372036854775807 WHERE key = {k4}",
            ["block at position 4", "its count"]),
        Damage(
            .blocks, "UPDATE blocks SET count = 2 WHERE key = {k1}",
            ["block at position 1", "3 events in its entries", "2, its count"]),
        Damage(
            .blocks, "UPDATE blocks SET entries = substr(entries, 1, length(entries) - 3) WHERE key = {k1}",
            ["tenant {T}", "block at position 1", "at byte"]),
        Damage(
            .blocks, "UPDATE blocks SET entries = zeroblob(40) WHERE key = {k6}", ["block at position 6", "at byte 0"]),
        Damage(.blocks, "UPDATE blocks SET entries = x'' WHERE key = {k6}", ["block at position 6", "0 events"]),
        Damage(
            .blocks, "UPDATE blocks SET entries = (SELECT entries FROM blocks WHERE key = {k4}) WHERE key = {k8}",
            ["position 8", "an event with position 4"]),
        Damage(
            .blocks, "UPDATE blocks SET recorded_at = recorded_at + 1 WHERE key = {k1}",
            ["position 1", "an event recorded at"]),
        Damage(
            .blocks, "UPDATE blocks SET recorded_at = 1 WHERE key = {k6}",
            ["block at position 6", "recorded at", "not before"]),
        Damage(.blocks, "UPDATE tenants SET position = 10 WHERE no = 1", ["tenant {T}", "head", "position 10", "9"]),
        Damage(.blocks, "UPDATE tenants SET position = -1 WHERE no = 1", ["row of tenants", "head -1"]),
        Damage(.blocks, "UPDATE tenants SET recorded_at = 5 WHERE no = 1", ["tenant {T}", "head", "recorded at"]),
        Damage(.blocks, "UPDATE tenants SET id = x'11' WHERE no = 1", ["id has 1 bytes", "16 bytes"]),
        Damage(.blocks, "UPDATE tenants SET no = 1 << 23 WHERE no = 2", ["tenant {U}", "number 8388608"]),
        Damage(.blocks, "UPDATE tenants SET no = -4 WHERE no = 2", ["tenant {U}", "number -4"]),
        Damage(.blocks, "DELETE FROM tenants WHERE no = 1", ["block with key {k1}", "tenant number 1"]),
        Damage(.blocks, "INSERT INTO blocks VALUES (7 << 40 | 1, 1, 1, x'')", ["tenant number 7"]),
        Damage(.blocks, "INSERT INTO blocks VALUES (-5, 1, 1, x'')", ["block with key -5"]),
    ]

    private static let eventIDs = [
        Damage(
            .eventIDs, "DELETE FROM event_ids WHERE tenant_no = 1 AND position = 4",
            ["tenant {T}", "event {id4} at position 4", "no row in event_ids"]),
        Damage(
            .eventIDs, "UPDATE event_ids SET position = 5 WHERE tenant_no = 1 AND position = 4",
            ["tenant {T}", "event {id4} at position 4", "position 5 in event_ids"]),
        Damage(
            .eventIDs, "INSERT INTO event_ids VALUES (1, x'00112233445566778899aabbccddeeff', 3)",
            ["tenant {T}", "00112233-4455-6677-8899-aabbccddeeff", "position 3", "no row"]),
        Damage(
            .eventIDs, "INSERT INTO event_ids VALUES (1, x'00112233445566778899aabbccddeeff', -3)",
            ["tenant {T}", "00112233-4455-6677-8899-aabbccddeeff", "position -3", "no row"]),
        Damage(.eventIDs, "INSERT INTO event_ids VALUES (9, randomblob(16), 1)", ["number 9, which has no row"]),
        Damage(
            .eventIDs, "INSERT INTO event_ids VALUES (1, x'010203', 1)", ["tenant {T}", "an id that is not a UUID"]),
    ]

    private static let aggregates = [
        Damage(
            .aggregates, "DELETE FROM blocks WHERE key = {k1}",
            ["tenant {T}", "{A} at position 6", "from version 1 on"], inTail: true),
        Damage(
            .aggregates, "UPDATE ranges SET last_version = 6 WHERE aggregate_no = {a} AND last_version = 5",
            ["tenant {T}", "{A} at position 6", "up to version 6", "from version 4 on"]),
        Damage(
            .aggregates, "UPDATE ranges SET position = 1 WHERE aggregate_no = {a} AND last_version = 5",
            ["tenant {T}", "{A} version 4", "position 1", "after 3"]),
        Damage(
            .aggregates,
            """
            UPDATE blocks SET entries = CAST(substr(entries, 1, instr(entries, x'0802100218') - 1) || x'0802100718'
                || substr(entries, instr(entries, x'0802100218') + 5) AS BLOB)
            WHERE key = {k1}
            """, ["tenant {T}", "{A} at position 1", "3 events from version 1 to 3", "one more"]),
        Damage(
            .aggregates, "DELETE FROM aggregates WHERE no = {b}",
            ["tenant {T}", "{B} at position 4", "no row in aggregates"]),
        Damage(
            .aggregates, "DELETE FROM aggregates WHERE no = {b}",
            ["tenant {T}", "{B} at position 4", "no row in aggregates"], inTail: true),
        Damage(
            .aggregates, "UPDATE aggregates SET type = 'other' WHERE no = {b}",
            ["tenant {T}", "{B} at position 4", "no row in aggregates"]),
        Damage(.aggregates, "UPDATE aggregates SET tenant_no = 9 WHERE no = {b}", ["number 9, which has no row"]),
        Damage(
            .aggregates, "INSERT INTO aggregates (tenant_no, type, id) VALUES (1, 'order', randomblob(16))",
            ["tenant {T}", "no events"]),
    ]

    private static let ranges =
        ["count", "position", "before", "start", "length", "bytes"].map { column in
            Damage(
                .ranges, "UPDATE ranges SET \(column) = \(column) + 1 WHERE aggregate_no = {a} AND last_version = 3",
                ["tenant {T}", "{A} version 3", "as in the block"])
        } + [
            Damage(
                .ranges, "DELETE FROM ranges WHERE aggregate_no = {a} AND last_version = 3",
                ["tenant {T}", "{A} version 3", "no row in ranges"]),
            Damage(
                .ranges, "INSERT INTO ranges VALUES ({b}, 77, 1, 5, 0, 0, 10, 99999)",
                ["tenant {T}", "{B} version 77", "no row"]),
            Damage(
                .ranges, "INSERT INTO ranges VALUES ({b}, 77, -5, -9223372036854775808, 0, 0, 10, 99999)",
                ["tenant {T}", "{B} version 77", "no row"]),
            Damage(.ranges, "INSERT INTO ranges VALUES (999, 1, 1, 1, 0, 0, 10, 10)", ["aggregate number 999"]),
            Damage(
                .ranges, "INSERT INTO ranges VALUES ({c}, 2, 2, 8, 0, 1, 10, 10)",
                ["tenant {T}", "{C} version 2, beyond ranged", "as in the block"]),
            Damage(
                .ranges, "INSERT INTO ranges VALUES ({c}, 9, 1, 20, 0, 0, 10, 10)",
                ["tenant {T}", "{C} version 9, beyond ranged", "no row"]),
            Damage(
                .ranges,
                """
                UPDATE tenants SET ranged = 5 WHERE no = 1;
                UPDATE ranges SET bytes = bytes + 1 WHERE aggregate_no = {a} AND last_version = 5
                """, ["tenant {T}", "{A} version 5, beyond ranged", "bytes of records"]),
            Damage(
                .ranges, "UPDATE tenants SET ranged = 9 WHERE no = 1",
                ["tenant {T}", "{C} version 2", "no row in ranges"]),
            Damage(.ranges, "UPDATE tenants SET ranged = 6 WHERE no = 1", ["tenant {T}", "ranged up to 6"]),
            Damage(.ranges, "UPDATE tenants SET ranged = 100 WHERE no = 1", ["tenant {T}", "ranged up to 100"]),
            Damage(.ranges, "UPDATE tenants SET ranged = -1 WHERE no = 1", ["tenant {T}", "ranged up to -1"]),
        ]

    private static let snapshots = [
        Damage(
            .snapshots, "UPDATE snapshots SET payload = x'00'", ["tenant {T}", "{A}, snapshot of version 3", "CRC-32C"]),
        Damage(.snapshots, "UPDATE snapshots SET version = 50", ["tenant {T}", "{A}", "version 50", "from 1 to 5"]),
        Damage(.snapshots, "UPDATE snapshots SET schema_version = 0", ["tenant {T}", "{A}", "schema version 0"]),
        Damage(.snapshots, "DELETE FROM snapshots", ["tenant {T}", "{A}", "version 3", "0, because it has none"]),
        Damage(
            .snapshots, "UPDATE aggregates SET snapshot_version = 2 WHERE no = {a}",
            ["tenant {T}", "{A}", "newest snapshot of version 2", "expected 3"]),
        Damage(
            .snapshots, "UPDATE aggregates SET snapshot_bytes = 999999 WHERE no = {a}",
            ["tenant {T}", "{A}", "999999 bytes"]),
        Damage(
            .snapshots, "UPDATE aggregates SET snapshot_bytes = 1 WHERE no = {b}",
            ["tenant {T}", "{B}", "1 bytes", "0, because it has none"]),
        Damage(
            .snapshots, "INSERT INTO snapshots VALUES (999, 1, 1, 1, 'application/json', 0, 0, NULL, x'')",
            ["aggregate number 999"]),
    ]

    private static let settings = [
        Damage(
            .settings, "UPDATE tenants SET settings_revision = 0 WHERE no = 1",
            ["tenant {T}", "settings revision 0", "1 or more"]),
        Damage(
            .settings, "UPDATE tenants SET settings_revision = 9 WHERE no = 1",
            ["tenant {T}", "settings revision 9", "1, as in its copy"]),
        Damage(
            .settings, "UPDATE tenants SET settings_revision = 2 WHERE no = 2",
            ["tenant {U}", "settings revision 2", "0, as in its copy"]),
        Damage(.settings, "UPDATE documents SET value = x'7b'", ["tenant {T}", "snapshot-policies", "at byte"]),
        Damage(.settings, "UPDATE documents SET tenant_no = 9", ["number 9, which has no row", "snapshot-policies"]),
    ]
}

/// A small file in which everything is known.
///
/// The first tenant has an aggregate A with 3 events at position 1 and 2 at position 6, B with 2 at position 4, C with 2 at
/// position 8, a snapshot of A at version 3, and settings. The second has one event. Where ranges move
/// at once, those of the last commit only are not in the table: C's.
struct DamageSubject {
    private var words: [String: String] = [:]

    init(_ bench: Bench) throws {
        let (first, second) = (bench.tenant, TenantID(UUID()))
        let names = (0..<3).map { _ in AggregateName.new() }
        var id4 = ""
        for (index, (name, count)) in [(names[0], 3), (names[1], 2), (names[0], 2), (names[2], 2)].enumerated() {
            let request = try AppendRequest.sample(count, to: name, tenant: first)
            if index == 1 { id4 = request.ids[0].uuidString.lowercased() }
            try bench.writer.append(request, now: Timestamp(microseconds: Int64(index + 1) * 1_000))
            if index == 0 { try bench.writer.append(.sample(tenant: second), now: Timestamp(microseconds: 1_000)) }
            if index == 2 {
                _ = try bench.writer.apply(
                    .saveSnapshot(
                        SaveSnapshotRequest(
                            tenant: first, aggregate: name, version: Version(3),
                            snapshot: NewSnapshot(payload: ByteBuffer(string: #"{"n": 3}"#))), kept: 3),
                    now: Timestamp(microseconds: 3_000))
            }
        }
        _ = try bench.writer.apply(
            .putSettings(
                PutSettingsRequest(tenant: first, kind: .snapshotPolicies, document: ByteBuffer(string: "{}"))),
            now: Timestamp(microseconds: 4_000))
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        words = ["T": "\(first)", "U": "\(second)", "id4": id4]
        for (letter, name) in zip(["a", "b", "c"], names) {
            words[letter.uppercased()] = "\(name)"
            words[letter] = try connection.text(
                "SELECT no FROM aggregates WHERE hex(id) = '\(name.id.uuidString.replacing("-", with: ""))'")
        }
        for position in [1, 4, 6, 8] {
            words["k\(position)"] = String(try EventKeys.key(1, Position(UInt64(position))))
        }
    }

    /// The text with what stands for the words in braces.
    func fill(_ text: String) -> String {
        words.reduce(text) { $0.replacing("{\($1.key)}", with: $1.value) }
    }
}
