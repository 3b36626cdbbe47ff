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
}
