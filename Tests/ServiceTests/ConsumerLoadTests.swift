import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// What many consumers cost the storage.
@Suite struct ConsumerLoadTests {
    /// A commit is a sync. Leases are renewed beside: a third as often as they last, all consumers together.
    @Test func thatManyConsumersAcknowledgeTakesFewCommits() throws {
        let (consumers, seconds) = (1_000, 3)
        let bench = try ConsumerBench { $0.consumerLeaseMillis = 30_000 }
        var workers: [BenchWorker] = []
        for number in 0..<consumers {
            try bench.put(ConsumerDefinition(slotCount: 1), named: "consumer-\(number)")
            workers.append(try bench.worker("worker", of: "consumer-\(number)"))
        }
        bench.advance(.seconds(1))
        var (commits, saved) = (0, 0)
        for second in 0..<seconds {
            try bench.append("\(second)", to: .new("account"))
            let before = bench.commits
            // Each at a time of its own within the second.
            for part in 0..<20 {
                for number in stride(from: part, to: consumers, by: 20) {
                    workers[number].acknowledge(try workers[number].take())
                    saved += 1
                }
                bench.advance(.milliseconds(50))
            }
            commits += bench.commits - before
        }
        #expect(saved == consumers * seconds)
        #expect(commits * 50 <= saved, "\(commits) commits for \(saved) acknowledgements")
        bench.advance(.seconds(1))
        for worker in workers {
            _ = try worker.take()
            #expect(worker.committed[0]?.position == Position(UInt64(seconds)), "\(worker.error?.message ?? "")")
        }
    }
}
