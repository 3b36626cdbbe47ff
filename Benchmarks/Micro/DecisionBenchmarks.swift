import Benchmark
import MartletModel
import MartletStorage

/// Deciding a batch, which encodes its events as they will be stored. No event id is known, as in most batches.
func decisionBenchmarks() {
    for (calls, events, operations) in [(1, 1, 1_000), (64, 1, 50), (8, 100, 5)] {
        Benchmark.micro(
            "decision-\(calls)x\(events)", operations: operations, { try Samples.batch(calls: calls, events: events) },
            { batch, _ in blackHole(WriteDecision.decide(batch, facts: BatchFacts(), now: Samples.now)) })
    }
}
