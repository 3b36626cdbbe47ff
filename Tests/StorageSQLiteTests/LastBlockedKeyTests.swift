import MartletModel
import MartletStorage
import MartletTesting
import Testing

@testable import MartletStorageSQLite

/// The blocked key that failed last: found by its index, and never believed where its row is damaged.
@Suite struct LastBlockedKeyTests {
    @Test func itIsFoundWithoutReadingTheOthers() throws {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine, of: bench.tenant)
        let file = try RawDatabase(bench.path)
        // Older ones, whose rows nobody can read.
        try file.run(
            subject.fill(
                """
                WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
                INSERT INTO blocked_keys
                SELECT tenant_no, consumer, slot, CAST('a:' || n AS BLOB), position, event_id, 0, NULL, tries, since - n,
                       reason, 0
                FROM blocked_keys, n
                """, .sqlite))
        let id = subject.consumer
        let last = try bench.engine.makeReader().lastBlockedKey(of: id)
        #expect(last?.blocked.reason == "no such account" && last?.blocked.since == Timestamp(microseconds: 4))
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        let statement = try connection.prepare("EXPLAIN QUERY PLAN " + Query.selectLastBlockedKey.sql)
        var plan: [String] = []
        try statement.visit { row throws(SQLiteFault) in plan.append(row.text(3)) }
        #expect(plan.contains { $0.contains("INDEX blocked_keys_by_failure") }, "\(plan)")
        #expect(!plan.contains { $0.contains("TEMP B-TREE") }, "\(plan)")
    }

    @Test(arguments: ["seal = seal + 1", "reason = 'other'", "tries = tries + 1", "since = 9", "position = -1"])
    func aDamagedRowIsAnswered(_ damage: String) throws {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine, of: bench.tenant)
        try RawDatabase(bench.path).run("UPDATE blocked_keys SET \(damage)")
        let (id, reader) = (subject.consumer, bench.engine.makeReader())
        let expected = refusal { () throws(StorageError) in
            _ = try reader.blockedKeys(of: id, slot: nil, after: nil, countMax: 9)
        }
        let found = refusal { () throws(StorageError) in _ = try reader.lastBlockedKey(of: id) }
        #expect(found?.kind == .corrupted && found == expected, "\(String(describing: found))")
    }
}
