import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// What many consumers cost the storage.
@Suite struct ConsumerLoadTests {
    @Test func manyWhoWaitForAConsumerShareALook() throws {
        let bench = try ConsumerBench()
        try bench.put(ConsumerDefinition(slotCount: 1))
        for number in 0..<3 { try bench.append("\(number)", to: .new("account")) }
        let worker = try bench.worker("a")
        let got = try worker.take()
        let waiting = (0..<900).map { number in
            bench.open(
                .awaitConsumer(AwaitConsumerRequest(bench.id(), position: Position(UInt64(1 + number % 3)))))
        }
        bench.advance(.milliseconds(300))
        let before = bench.reads
        bench.advance(.seconds(1))
        #expect(bench.reads - before <= 20, "\(bench.reads - before) reads")
        worker.acknowledge(Array(got.prefix(2)))
        bench.advance(.milliseconds(500))
        let reached = waiting.indices.filter { bench.answered(waiting[$0]) != nil }
        #expect(reached == waiting.indices.filter { $0 % 3 < 2 })
        for call in waiting { bench.cancel(call) }
        bench.advance(.milliseconds(300))
        let after = bench.reads
        bench.advance(.seconds(1))
        #expect(bench.reads - after <= 2, "nobody waits any more")
    }

    /// A commit is a sync, on any engine. Leases, which last as long as they do where nobody has set it, are renewed beside:
    /// each at least once, and not counted as what is acknowledged.
    @Test func thatManyConsumersAcknowledgeTakesFewCommits() throws {
        let (consumers, seconds) = (1_000, 6)
        let lease = Limits().consumerLeaseMillis
        let bench = try ConsumerBench { $0.consumerLeaseMillis = lease }
        var workers: [BenchWorker] = []
        for number in 0..<consumers {
            try bench.put(ConsumerDefinition(slotCount: 1), named: "consumer-\(number)")
            workers.append(try bench.worker("worker", of: "consumer-\(number)"))
            // Each has its own time to look after its lease.
            if number % 5 == 4 { bench.advance(.milliseconds(5), step: .milliseconds(5)) }
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
                bench.advance(.milliseconds(50), step: .milliseconds(5))
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
