import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Comparisons of a read model with a replay; single keys that are rebuilt; the pace of a rebuild.
@Suite(.timeLimit(.minutes(3))) struct VerificationTests {
    @Test(arguments: TestReadModels.Kind.available)
    func itFindsWhatDiffers(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(true)
        let ledger = Ledger(fails: { event in
            if event.key == RebuildHarness.key(1), event.event.version > Version(1), fails.withLockedValue({ $0 }) {
                throw ProjectionFailure(.park, "parked")
            }
        })
        try await harness.with { client in
            // The last two events of account 1 are not in the live generation, and must not be in the replay.
            for account in [1, 2, 2, 1, 1, 3] as [UInt64] { try await harness.append(account, client, "four") }
            try await harness.takeIn(client, ledger)
            fails.withLockedValue { $0 = false }
            // What is not taken in yet is no difference.
            try await harness.append(7, client)
            let rebuilder = harness.rebuilder(client, ledger)
            let same = try await rebuilder.verify()
            #expect(same.differences.isEmpty && same.generation == 1, "\(same)")
            #expect(try await harness.generations().map { $0[1] } == [.text("live")])

            for statement in [
                "UPDATE ledger_sums_g1 SET cents = 9 WHERE account = '\(RebuildHarness.key(2))'",
                "DELETE FROM ledger_sums_g1 WHERE account = '\(RebuildHarness.key(3))'",
                "INSERT INTO ledger_sums_g1 (account, cents, marker) VALUES ('nobody', 1, 1)",
                "INSERT INTO ledger_effects_g1 SELECT * FROM ledger_effects_g1 WHERE account = '\(RebuildHarness.key(3))'",
            ] { _ = try await harness.readModels.rows(statement) }
            let found = try await rebuilder.verify()
            #expect(found.differences.map(\.name) == ["ledger_sums", "ledger_effects"])
            let sums = try #require(found.differences.first)
            func row(_ account: String, _ cents: Int64) -> ProjectionVerification.Row {
                ProjectionVerification.Row(values: [.text(account), .integer(cents)], count: 1)
            }
            #expect(
                Set(sums.expected) == [row("\(RebuildHarness.key(2))", 8), row("\(RebuildHarness.key(3))", 4)])
            #expect(Set(sums.found) == [row("\(RebuildHarness.key(2))", 9), row("nobody", 1)])
            #expect(!sums.hasMore)
            #expect(found.differences.last?.expected.map(\.count) == [1])
            #expect(found.differences.last?.found.map(\.count) == [2])
            let few = try await rebuilder.verify(rowsMax: 1).differences[0]
            #expect(few.expected.count == 1 && few.found.count == 1 && few.hasMore)
        }
    }

    /// Runs while runners take in and keys fail: the two are compared at one position.
    @Test(arguments: TestReadModels.Kind.available)
    func itFindsNothingBesideLiveRunners(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let random = SeededGenerator.fromEnvironment()
        let chance = NIOLockedValueBox(SeededGenerator(seed: random.seed &+ 1))
        let ledger = Ledger(fails: { event in
            guard !event.isReplay, chance.withLockedValue({ Int.random(in: 0..<20, using: &$0) }) == 0 else { return }
            throw ProjectionFailure(.park, "by chance")
        })
        try await harness.with { client in
            let isDone = NIOLockedValueBox(false)
            try await harness.whileRunning(client, ledger) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        var random = random
                        while !isDone.withLockedValue({ $0 }) {
                            try await harness.append(10, client, &random)
                            try await Task.sleep(for: .milliseconds(20))
                            let blocked = try await client.blockedKeys(of: harness.consumer, max: 3)
                            guard !blocked.isEmpty else { continue }
                            try await client.unblockKeys(
                                UnblockKeysRequest(harness.consumer, keys: blocked.map { .init($0.place) }))
                        }
                    }
                    while try await client.head(of: harness.consumer.tenant).position < Position(100) {
                        try await Task.sleep(for: .milliseconds(10))
                    }
                    var plain = harness.rebuilder(client)
                    plain.batchEventsMax = 40
                    for _ in 0..<8 {
                        let verification = try await plain.verify()
                        #expect(verification.differences.isEmpty, "seed \(random.seed): \(verification)")
                    }
                    isDone.withLockedValue { $0 = true }
                    try await group.waitForAll()
                }
            }
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func oneKeyAlone(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(false)
        let ledger = Ledger(fails: { event in
            if event.event.event.payload.readableBytes == 4, fails.withLockedValue({ $0 }) {
                throw ProjectionFailure(.park, "four")
            }
        })
        try await harness.with { client in
            var random = SeededGenerator(seed: 21)
            try await harness.append(60, client, &random)
            let count = try await harness.takeIn(client, ledger, andCount: RebuildHarness.key(3))
            _ = try await harness.readModels.rows("UPDATE ledger_sums_g1 SET cents = 0")
            #expect(try await harness.rebuilder(client, ledger).rebuild(RebuildHarness.key(3)) == count)
            // The others are as wrong as they were.
            let sums = try await harness.readModels.rows("SELECT account FROM ledger_sums WHERE cents > 0")
            #expect(sums == [[.text("\(RebuildHarness.key(3))")]])
            for account in 0..<20 as Range<UInt64> {
                try await harness.rebuilder(client, ledger).rebuild(RebuildHarness.key(account))
            }
            try await harness.expectAll(client)

            // What the live generation lacks of a key is not taken in.
            fails.withLockedValue { $0 = true }
            let parked = try await harness.append(3, client, "four")
            for account in 0..<20 as Range<UInt64> where account != 3 { try await harness.append(account, client) }
            try await harness.takeIn(client, ledger)
            fails.withLockedValue { $0 = false }
            try await harness.rebuilder(client, ledger).rebuild(RebuildHarness.key(3))
            try await harness.expectAll(client, without: [parked])
            try await harness.whileRunning(client, ledger) {
                let keys = try await client.blockedKeys(of: harness.consumer).map { UnblockKeysRequest.Key($0.place) }
                try await client.unblockKeys(UnblockKeysRequest(harness.consumer, keys: keys))
                while try await client.consumer(harness.consumer).blockedKeyCount > 0 {
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            try await harness.expectAll(client)

            // One that fails leaves all as it was.
            fails.withLockedValue { $0 = true }
            let error = await #expect(throws: ProjectionRebuildError.self) {
                try await harness.rebuilder(client, ledger).rebuild(RebuildHarness.key(3))
            }
            #expect(error?.message.contains("Nothing was changed") == true)
            try await harness.expectAll(client)
        }
    }

    /// A clock that moves by what is slept, and by a little with each look.
    private final class TestClock: _Concurrency.Clock {
        struct Instant: InstantProtocol {
            var time: Duration
            func advanced(by duration: Duration) -> Instant { Instant(time: time + duration) }
            func duration(to other: Instant) -> Duration { other.time - time }
            static func < (a: Instant, b: Instant) -> Bool { a.time < b.time }
        }

        private let time = NIOLockedValueBox(Duration.zero)
        let slept = NIOLockedValueBox(Duration.zero)

        var now: Instant {
            time.withLockedValue { time in
                time += .milliseconds(1)
                return Instant(time: time)
            }
        }
        var minimumResolution: Duration { .zero }

        func sleep(until deadline: Instant, tolerance: Duration?) async throws {
            time.withLockedValue { time in
                slept.withLockedValue { $0 += max(.zero, deadline.time - time) }
                time = max(time, deadline.time)
            }
        }
    }

    @Test func itKeepsToAPace() async throws {
        let harness = try await RebuildHarness(.sqlite)
        try await harness.with { client in
            var random = SeededGenerator(seed: 22)
            try await harness.append(100, client, &random)
            try await harness.takeIn(client)
            let clock = TestClock()
            var rebuilder = harness.rebuilder(client, clock: clock)
            rebuilder.eventsPerSecondMax = 20
            let last = NIOLockedValueBox<RebuildProgress?>(nil)
            rebuilder.onProgress = { step in last.withLockedValue { $0 = step } }
            try await rebuilder.rebuild()
            let slept = clock.slept.withLockedValue { $0 }
            #expect(slept > .milliseconds(4_700) && slept < .milliseconds(5_000), "\(slept)")
            let step = try #require(last.withLockedValue { $0 })
            // The last pause comes after it.
            #expect(step.eventsPerSecond > 20 && step.eventsPerSecond < 23 && step.timeLeft == .zero, "\(step)")
            #expect(step.events == 100)

            let other = TestClock()
            rebuilder = harness.rebuilder(client, clock: other)
            rebuilder.timeShare = 0.25
            try await rebuilder.rebuild()
            // Three times as long as the looks at the clock around each of ten transactions.
            let rest = other.slept.withLockedValue { $0 }
            #expect(rest >= .milliseconds(30) && rest <= .milliseconds(90), "\(rest)")
            try await harness.expectAll(client)
        }
    }
}

extension RebuildHarness {
    /// Takes in all that is there.
    /// - Returns: how many events the read model has of a key.
    fileprivate func takeIn(_ client: MartletClient, _ ledger: Ledger, andCount key: ConsumerKey) async throws -> Int {
        try await takeIn(client, ledger)
        return try await readModels.rows("SELECT id FROM ledger_effects WHERE account = '\(key)'").count
    }
}
