import MartletModel
import MartletStorage
import MartletTesting
import Testing

@testable import MartletStoragePostgreSQL

/// The blocked key that failed last: found by its index, and never believed where its row is damaged.
@Suite(.blocking, .needsPostgres) struct LastBlockedKeyTests {
    @Test func itIsFoundWithoutReadingTheOthers() throws {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine(), of: bench.tenant)
        // Older ones, whose rows nobody can read.
        try bench.run(
            """
            INSERT INTO blocked_keys
            SELECT tenant_no, consumer, slot, convert_to('a:' || n, 'UTF8'), position, event_id, 0, NULL, tries, since - n,
                   reason, 0
            FROM blocked_keys, generate_series(1, 5000) AS n;
            ANALYZE blocked_keys, tenants;
            """)
        let id = subject.consumer
        let last = try bench.engine().makeReader().lastBlockedKey(of: id)
        #expect(last?.blocked.reason == "no such account" && last?.blocked.since == Timestamp(microseconds: 4))
        let statement = try #require(
            Schema(name: bench.schema).ofConsumers.first { $0.name == "last_blocked_key" }?.sql)
        let plan = try bench.rows(
            "EXPLAIN " + statement.replacing("$1", with: "'\(bench.tenant)'").replacing("$2", with: "'balances'")
        ).joined().joined(separator: "\n")
        #expect(plan.contains("Index Scan Backward using blocked_keys_by_failure"), "\(plan)")
        #expect(!plan.contains("Sort"), "\(plan)")
    }

    @Test(arguments: ["seal = seal + 1", "reason = 'other'", "tries = tries + 1", "since = 9", "position = -1"])
    func aDamagedRowIsAnswered(_ damage: String) throws {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine(), of: bench.tenant)
        try bench.run("UPDATE blocked_keys SET \(damage)")
        let (id, reader) = (subject.consumer, bench.engine().makeReader())
        let expected = refusal { () throws(StorageError) in
            _ = try reader.blockedKeys(of: id, slot: nil, after: nil, countMax: 9)
        }
        let found = refusal { () throws(StorageError) in _ = try reader.lastBlockedKey(of: id) }
        #expect(found?.kind == .corrupted && found == expected, "\(String(describing: found))")
    }
}
