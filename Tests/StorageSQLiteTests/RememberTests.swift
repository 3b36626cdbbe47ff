import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// What a writer remembers, it may forget at any time.
@Suite(.blocking) struct RememberTests {
    @Test func forgettingChangesNoAnswer() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(rangesHeldMax: 5)
        let oracle = MemoryEngine()
        let writers: [any StorageWriter] = [
            SQLiteWriter(file: bench.engine.file, logger: .silent, rememberedMax: 3), oracle.makeWriter(),
        ]
        let tenants = (0..<5).map { _ in TenantID(UUID()) }
        let names = (0..<6).map { _ in AggregateName.new() }
        var sent: [AppendRequest] = []
        for round in 0..<300 {
            var batch: [AppendRequest] = []
            for _ in 0..<Int.random(in: 1...4, using: &numbers) {
                if let old = sent.randomElement(using: &numbers), Int.random(in: 0..<5, using: &numbers) == 0 {
                    batch.append(old)
                    continue
                }
                let expected: ExpectedVersion =
                    [.any, .exists, .none, .exact(Version(.random(in: 0...20, using: &numbers)))][
                        Int.random(in: 0..<4, using: &numbers)]
                batch.append(
                    try .sample(
                        Int.random(in: 1...2, using: &numbers), to: names[Int.random(in: 0..<6, using: &numbers)],
                        expected, tenant: tenants[Int.random(in: 0..<5, using: &numbers)]))
            }
            sent += batch
            let now = Timestamp(microseconds: Int64(round))
            let results = try writers.map { try $0.commit(batch, now: now) }
            #expect(results[0].outcomes == results[1].outcomes, "seed \(random.seed), round \(round)")
        }
        let readers = [bench.engine.makeReader(), oracle.makeReader()]
        for tenant in tenants {
            #expect(try readers[0].events(of: tenant) == readers[1].events(of: tenant), "seed \(random.seed)")
        }
    }

    /// Tenants and aggregates come and go in the memory of a writer, and writers come and go.
    @Test(arguments: [2, 100_000]) func anyBatchComesToWhatTheOracleSays(rememberedMax: Int) throws {
        var comparison = WriteComparison()
        let bench = try Bench(rangesHeldMax: 5)
        func writer() -> any StorageWriter {
            SQLiteWriter(file: bench.engine.file, logger: .silent, rememberedMax: rememberedMax)
        }
        var (current, count) = (writer(), 0)
        try comparison.write(batches: 300) {
            count += 1
            if count % 50 == 0 { current = writer() }
            return current
        }
        try comparison.check(bench.engine.makeReader())
        // The consumers' checkpoints are made up, and so name events that are not there.
        let findings = try Findings(bench.path).all.filter { $0.subject != .consumers }
        #expect(findings.isEmpty, "seed \(comparison.seed): \(findings)")
    }

    /// A call that was stored before is answered as it was then, whatever else of its batch names one of its ids.
    @Test func aRepeatedCallBesideOneThatReusesItsIDIsReplayed() throws {
        let bench = try Bench()
        let stored = try AppendRequest.sample(2, tenant: bench.tenant)
        let receipt = try #require(try bench.writer.append(stored))
        let reusing = AppendRequest.of([stored.aggregates[0].events[0], try .sample()], tenant: bench.tenant)
        let outcomes = try bench.writer.commit([stored, reusing], now: .now()).outcomes
        #expect(outcomes[0].receipt?.replayed == true && outcomes[0].receipt?.lastPosition == receipt.lastPosition)
        guard case .eventIDsReused(let ids) = outcomes[1] else { throw BenchFailure("\(outcomes[1])") }
        #expect(ids.map(\.id) == [stored.ids[0]])
    }
}
