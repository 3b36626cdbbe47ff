import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import Testing
@testable import MartletStorageSQLite

/// Where the ranges are, in memory or in the table, changes no answer.
@Suite(.blocking) struct PendingRangesTests {
    /// Every now and then the process "ends", and another one finds the file as it is.
    @Test func aFileThatIsOpenedAnewTellsItsRangesAgain() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(prepares: false)
        let oracle = MemoryEngine()
        let memory = oracle.makeWriter()
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let names = (0..<6).map { _ in AggregateName.new() }
        for life in 0..<25 {
            let file = DatabaseFile(path: bench.path, rangesHeldMax: Int.random(in: 1...40, using: &numbers))
            let engine = SQLiteEngine(file: file, logger: .silent)
            if life == 0 { try engine.prepare() }
            let writer = engine.makeWriter()
            for _ in 0..<Int.random(in: 1...30, using: &numbers) {
                let batch = try (0..<Int.random(in: 1...5, using: &numbers)).map { _ in
                    try AppendRequest.sample(
                        Int.random(in: 1...3, using: &numbers), to: names[Int.random(in: 0..<6, using: &numbers)],
                        .any, tenant: tenants[Int.random(in: 0..<3, using: &numbers)])
                }
                let now = Timestamp(microseconds: Int64(life))
                let outcomes = try [writer, memory].map { try $0.commit(batch, now: now).outcomes }
                #expect(outcomes[0] == outcomes[1], "seed \(random.seed), life \(life)")
            }
            let readers = [engine.makeReader(), oracle.makeReader()]
            for tenant in tenants {
                for name in names {
                    let bounds = PageBounds(
                        direction: Bool.random(using: &numbers) ? .forward : .backward,
                        eventsMax: Int.random(in: 1...50, using: &numbers),
                        bytesMax: Int.random(in: 1...20_000, using: &numbers))
                    let range = PageRange(
                        after: Version(.random(in: 0...20, using: &numbers)),
                        to: Version(.random(in: 0...300, using: &numbers)))
                    let pages = try readers.map { try $0.page(of: name, in: tenant, versions: range, bounds: bounds) }
                    #expect(pages[0] == pages[1], "seed \(random.seed), life \(life), \(range), \(bounds)")
                    let position = Position(.random(in: 0...400, using: &numbers))
                    let versions = try readers.map { try $0.version(of: name, in: tenant, asOf: position) }
                    #expect(versions[0] == versions[1], "seed \(random.seed), life \(life)")
                }
            }
        }
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        #expect(try connection.text("SELECT count(*) > 0 FROM ranges") == "1")
    }

    /// Readers meet ranges while they move: an aggregate is always whole up to the head that was seen before.
    @Test func readersMissNothingWhileRangesMove() async throws {
        let bench = try Bench(rangesHeldMax: 7)
        let names = (0..<5).map { _ in AggregateName.new() }
        let isDone = NIOLockedValueBox(false)
        let (tenant, engine) = (bench.tenant, bench.engine)
        _ = try await Threads.race(4) { thread in
            guard thread > 0 else {
                defer { isDone.withLockedValue { $0 = true } }
                let writer = engine.makeWriter()
                for round in 0..<TestRounds.count(600, long: 5_000) {
                    _ = try writer.commit(
                        [.sample(1, to: names[round % 5], .any, tenant: tenant)], now: Timestamp(microseconds: 1))
                }
                return
            }
            let reader = engine.makeReader()
            var reads = 0
            while !isDone.withLockedValue({ $0 }) || reads == 0 {
                let head = try reader.head(of: tenant).position.rawValue
                var found: UInt64 = 0
                for name in names {
                    let page = try reader.page(
                        of: name, in: tenant, versions: PageRange(after: .none, to: .max),
                        bounds: PageBounds(bytesMax: .max))
                    let last = page.lastVersion?.rawValue ?? 0
                    guard last == UInt64(page.count) else {
                        throw BenchFailure("\(page.count) events up to version \(last)")
                    }
                    found += last
                }
                guard found >= head else { throw BenchFailure("\(found) events below head \(head)") }
                reads += 1
            }
        }
        #expect(bench.engine.file.ranges.count < 20)
    }

    @Test func whatFailedLeavesNoRangeBehind() throws {
        let bench = try Bench(rangesHeldMax: 1_000)
        let name = AggregateName.new()
        let other = AggregateName.new()
        try bench.writer.append(.sample(3, to: name, tenant: bench.tenant))
        FaultyDisk.fail(bench.path, .full, after: 0)
        let lost = try AppendRequest.sample(5, to: name, tenant: bench.tenant)
        #expect(refusal { () throws(StorageError) in try bench.writer.append(lost) } != nil)
        FaultyDisk.fail(bench.path, nil)
        // The positions of what was lost are given to events of another aggregate.
        try bench.writer.append(.sample(4, to: other, tenant: bench.tenant))
        let reader = bench.engine.makeReader()
        for (name, count) in [(name, 3), (other, 4)] {
            let page = try reader.page(
                of: name, in: bench.tenant, versions: PageRange(after: .none, to: .max),
                bounds: PageBounds(bytesMax: .max))
            #expect(page.count == count && page.lastVersion?.rawValue == UInt64(count))
        }
    }
}
