import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletService

/// What a server keeps for consumers while storage takes nothing, and how it goes on.
@Suite struct ConsumerOutageTests {
    /// Notes how many sessions each command says are over.
    private final class LeavingLog: WrappingEngine {
        let base: any StorageEngine
        private let counts = NIOLockedValueBox<[Int]>([])

        init(_ base: any StorageEngine) { self.base = base }

        var mostLeaving: Int { counts.withLockedValue { $0.max() ?? 0 } }

        func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), counts: counts) }

        private final class Writer: StorageWriter {
            let base: any StorageWriter
            let counts: NIOLockedValueBox<[Int]>

            init(base: any StorageWriter, counts: NIOLockedValueBox<[Int]>) {
                self.base = base
                self.counts = counts
            }

            func commit(
                _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
            ) throws(StorageError) -> CommitResult {
                for case .change(.consumer(let change)) in batch {
                    guard case .tend(let tending) = change.kind else { continue }
                    counts.withLockedValue { $0.append(tending.leaving.count) }
                }
                return try base.commit(batch, now: now, lockWait: lockWait)
            }
        }
    }

    private static let workersMax = 4

    private static func bench() throws -> (ConsumerBench, FaultyEngine, LeavingLog) {
        let engine = MemoryEngine()
        let faulty = FaultyEngine(engine)
        let log = LeavingLog(faulty)
        let bench = try ConsumerBench(engine, wrappedIn: log) { $0.workersPerConsumerMax = workersMax }
        try bench.put(ConsumerDefinition(slotCount: 2))
        return (bench, faulty, log)
    }

    @Test(arguments: [
        (FaultyEngine.CommitFault.unavailable, 0), (.full, 0), (.unknownWithoutCommit, workersMax),
        (.unknownAfterCommit, workersMax),
    ])
    func workersThatComeAndGoMeanwhileAreNotPiledUp(_ fault: FaultyEngine.CommitFault, leavingMax: Int) throws {
        let (bench, engine, log) = try Self.bench()
        let stays = try bench.worker("a")
        #expect(try stays.take().isEmpty && stays.slots.count == 2)
        engine.failCommits(fault)
        for number in 0..<100 {
            let worker = try bench.worker("w\(number)")
            worker.leave()
            bench.run()
        }
        #expect(log.mostLeaving <= leavingMax, "only sessions that may be stored are told of")
        engine.failCommits(.none)
        bench.advance(.seconds(2))
        _ = try stays.take()
        #expect(!stays.isOver && stays.slots.count == 2)
    }

    @Test func aWorkerThatLeftMeanwhileFreesItsSlotsAsSoonAsStorageIsBack() throws {
        let (bench, engine, log) = try Self.bench()
        let stays = try bench.worker("a")
        let leaves = try bench.worker("b")
        bench.advance(.seconds(2))
        #expect(try stays.take().isEmpty && leaves.take().isEmpty)
        #expect(stays.slots.count == 1 && leaves.slots.count == 1)
        stays.say(.alive)
        engine.failCommits(.unavailable)
        leaves.leave()
        for number in 0..<10 {
            let worker = try bench.worker("w\(number)")
            worker.leave()
            bench.run()
        }
        #expect(log.mostLeaving == 1)
        engine.failCommits(.none)
        bench.advance(.milliseconds(1_100))
        _ = try stays.take()
        #expect(stays.slots.count == 2, "before the other's lease is over")
    }
}
