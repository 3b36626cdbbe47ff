import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Rebuilds one after the other, beside runners that come and go, handlers that fail now and then, appends and readers.
@Suite(.timeLimit(.minutes(5))) struct RebuildRaceTests {
    @Test(arguments: TestReadModels.Kind.available)
    func nothingIsLostOrDoneTwice(_ kind: TestReadModels.Kind) async throws {
        var harness = try await RebuildHarness(kind)
        harness.definition.delivery.triesMax = 1_000
        harness.definition.delivery.backoffMin = .milliseconds(5)
        let random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        let chance = NIOLockedValueBox(SeededGenerator(seed: random.seed &+ 1))
        let ledger = Ledger(fails: { event in
            guard chance.withLockedValue({ Int.random(in: 0..<100, using: &$0) }) == 0 else { return }
            throw ProjectionFailure(.retry(after: .milliseconds(10)), "by chance")
        })
        let shared = harness
        try await harness.with { client in
            try await shared.runner(client, ledger).prepare()
            let isDone = NIOLockedValueBox(false)
            let rebuilds = NIOLockedValueBox(0)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<2 {
                    group.addTask {
                        try await Self.live(number, shared, client, ledger, random.seed &+ UInt64(number), isDone)
                    }
                }
                group.addTask {
                    while !isDone.withLockedValue({ $0 }) {
                        var rebuilder = shared.rebuilder(client, ledger)
                        rebuilder.triesMax = 1_000
                        rebuilder.batchEventsMax = 50
                        rebuilder.keepsOld = rebuilds.withLockedValue { $0 } % 3 == 1
                        if rebuilds.withLockedValue({ $0 }) % 3 == 2 {
                            try await rebuilder.switchBack()
                        } else {
                            try await rebuilder.rebuild()
                        }
                        rebuilds.withLockedValue { $0 += 1 }
                        // What a generation had lost would be there again in the next one.
                        let verification = try await shared.rebuilder(client).verify()
                        #expect(verification.differences.isEmpty, "\(place): \(verification)")
                    }
                }
                group.addTask {
                    var last: Int64 = 0
                    while !isDone.withLockedValue({ $0 }) {
                        let row = try await shared.readModels.rows(
                            "SELECT count(*), max(marker), min(marker), count(DISTINCT id) FROM ledger_effects")[0]
                        #expect(row[1] == row[2], "\(place): a reader sees two generations")
                        #expect(row[0] == row[3], "\(place): an event is taken in twice")
                        #expect(row[0].integer ?? 0 >= last, "\(place): a reader sees less than before")
                        last = row[0].integer ?? 0
                    }
                }
                var numbers = random
                for number in 0..<150 where number < 30 || rebuilds.withLockedValue({ $0 }) < 12 {
                    try await shared.append(number < 30 ? 20 : 2, client, &numbers)
                    try await Task.sleep(for: .milliseconds(Int.random(in: 1...100, using: &numbers)))
                }
                try await shared.awaitHead(client)
                while try await client.consumer(shared.consumer).blockedKeyCount > 0 {
                    try await Task.sleep(for: .milliseconds(20))
                }
                isDone.withLockedValue { $0 = true }
                try await group.waitForAll()
            }
            try await shared.expectAll(client, without: [], place)
            print("rebuild race: \(place), \(rebuilds.withLockedValue { $0 }) switches")
        }
    }

    /// A worker's lives, one after the other.
    private static func live(
        _ number: Int, _ harness: RebuildHarness, _ client: MartletClient, _ ledger: Ledger, _ seed: UInt64,
        _ isDone: NIOLockedValueBox<Bool>
    ) async throws {
        var random = SeededGenerator(seed: seed)
        while !isDone.withLockedValue({ $0 }) {
            let time = Duration.milliseconds(Int.random(in: 50...1_500, using: &random))
            let runner = try harness.runner(client, ledger, worker: "worker-\(number)")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await runner.run() }
                group.addTask { try? await Task.sleep(for: time) }
                try await group.next()
                group.cancelAll()
            }
        }
    }
}
