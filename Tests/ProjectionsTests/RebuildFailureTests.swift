import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Rebuilds with events that fail, and rebuilds that are interrupted.
@Suite(.timeLimit(.minutes(5))) struct RebuildFailureTests {
    /// Fails for events of account 1, other than those that the harness appends by chance, while it is set.
    private static func ledger(_ fails: NIOLockedValueBox<Bool>, _ kind: ProjectionFailure.Kind = .park) -> Ledger {
        Ledger(fails: { event in
            let text = String(buffer: event.event.event.payload)
            if event.key == RebuildHarness.key(1), text == "bad", fails.withLockedValue({ $0 }) {
                throw ProjectionFailure(kind, "account 1 fails")
            }
        })
    }

    private static func unblockAll(_ harness: RebuildHarness, _ client: MartletClient) async throws {
        let keys = try await client.blockedKeys(of: harness.consumer).map { UnblockKeysRequest.Key($0.place) }
        try await client.unblockKeys(UnblockKeysRequest(harness.consumer, keys: keys))
        while try await client.consumer(harness.consumer).blockedKeyCount > 0 {
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// A key is parked in the live generation; the rebuild has the same error, or none; then the key is retried.
    @Test(arguments: TestReadModels.Kind.available, [true, false])
    func eventsOfAParkedKeyAreTakenInOnce(_ kind: TestReadModels.Kind, failsAgain: Bool) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(false)
        let ledger = Self.ledger(fails)
        try await harness.with { client in
            var random = SeededGenerator(seed: 11)
            var parked: Set<Position> = []
            try await harness.append(40, client, &random)
            try await harness.append(1, client)
            try await harness.takeIn(client, ledger)
            fails.withLockedValue { $0 = true }
            for _ in 0..<3 {
                parked.insert(try await harness.append(1, client, "bad"))
                // Never account 1: others move the slot's floor on.
                for account in 2...20 as ClosedRange<UInt64> { try await harness.append(account, client) }
            }
            try await harness.takeIn(client, ledger)
            try await harness.expectAll(client, without: parked)

            fails.withLockedValue { $0 = failsAgain }
            try await harness.rebuilder(client, ledger).rebuild()
            try await harness.expectAll(client, without: failsAgain ? parked : [])
            // It had no effects yet.
            let replays = try await harness.readModels.rows(
                "SELECT count(*) FROM ledger_effects WHERE replay = 0 AND account = '\(RebuildHarness.key(1))'")
            #expect(replays == [[.integer(failsAgain ? 0 : 3)]])

            fails.withLockedValue { $0 = true }
            // Passed over by the server, behind those of other accounts.
            parked = failsAgain ? parked : []
            parked.insert(try await harness.append(1, client, "bad"))
            for account in 2...20 as ClosedRange<UInt64> { try await harness.append(account, client) }
            try await harness.takeIn(client, ledger)
            try await harness.expectAll(client, without: parked)
            fails.withLockedValue { $0 = false }
            try await harness.whileRunning(client, ledger) {
                try await Self.unblockAll(harness, client)
                try await harness.append(1, client, "bad")
                try await harness.awaitHead(client)
            }
            try await harness.expectAll(client)
        }
    }

    /// A worker that has a key's row in mind misses a switch to another generation, and back.
    @Test(arguments: TestReadModels.Kind.available)
    func aWorkerNoticesThatItsGenerationHasComeBack(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(true)
        // An unblocked key has its slot come under another epoch; one that waits for its time does not.
        let ledger = Self.ledger(fails, .retry(after: .seconds(2)))
        try await harness.with { client in
            try await harness.append(1, client)
            let parked = try await harness.append(1, client, "bad")
            try await harness.whileRunning(client, ledger) {
                try await harness.awaitHead(client)
                while try await client.consumer(harness.consumer).blockedKeyCount == 0 {
                    try await Task.sleep(for: .milliseconds(10))
                }
                try await harness.expectAll(client, without: [parked])
                fails.withLockedValue { $0 = false }
                var rebuilder = harness.rebuilder(client, ledger)
                rebuilder.keepsOld = true
                #expect(try await rebuilder.rebuild() == 2)
                #expect(try await rebuilder.switchBack() == 1)
                try await harness.expectAll(client)
                #expect(try await client.consumer(harness.consumer).blockedKeyCount == 1)
                while try await client.consumer(harness.consumer).blockedKeyCount > 0 {
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            try await harness.expectAll(client)
        }
    }

    /// The server passes over later events of a key that waits, while others move the slot's floor on.
    @Test(arguments: TestReadModels.Kind.available)
    func aKeyThatWaitsOverTheSwitchKeepsARow(_ kind: TestReadModels.Kind) async throws {
        var harness = try await RebuildHarness(kind)
        harness.definition.slotCount = 1
        let fails = NIOLockedValueBox(true)
        let ledger = Self.ledger(fails, .retry(after: .seconds(2)))
        let shared = harness
        try await shared.with { client in
            let waiting = try await shared.append(1, client, "bad")
            try await shared.whileRunning(client, ledger) {
                while try await client.consumer(shared.consumer).blockedKeyCount == 0 {
                    try await Task.sleep(for: .milliseconds(10))
                }
                fails.withLockedValue { $0 = false }
                // The event succeeds here: the key is in the new generation, and waits on the server only.
                #expect(try await shared.rebuilder(client, ledger).rebuild() == 2)
                let passedOver = try await shared.append(1, client)
                for account in 2...9 as ClosedRange<UInt64> { try await shared.append(account, client) }
                try await shared.awaitHead(client)
                #expect(try await client.consumer(shared.consumer).blockedKeyCount == 1)
                try await shared.expectAll(client, without: [passedOver])
                while try await client.consumer(shared.consumer).blockedKeyCount > 0 {
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            #expect(waiting == Position(1))
            try await shared.expectAll(client)
        }
    }

    /// The live generation takes in what the rebuild has passed over, before the switch.
    @Test(arguments: TestReadModels.Kind.available)
    func aKeyThatIsRetriedDuringTheRebuildIsNotLost(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(true)
        let ledger = Self.ledger(fails)
        try await harness.with { client in
            try await harness.append(1, client, "bad")
            for account in 2...30 as ClosedRange<UInt64> { try await harness.append(account, client) }
            try await harness.append(1, client, "bad")
            for account in 2...30 as ClosedRange<UInt64> { try await harness.append(account, client) }
            try await harness.takeIn(client, ledger)
            #expect(try await client.consumer(harness.consumer).blockedKeyCount == 1)
            var rebuilder = harness.rebuilder(client, ledger)
            // The first call stops here, as a process that is killed does.
            struct Stop: Error {}
            let seen = NIOLockedValueBox(UInt64(0))
            rebuilder.onProgress = { step in seen.withLockedValue { $0 = step.position } }
            let stopping = rebuilder
            try await withThrowingTaskGroup(of: Void.self) { group in
                var slow = stopping
                slow.eventsPerSecondMax = 100
                let call = slow
                group.addTask { _ = try? await call.rebuild() }
                while seen.withLockedValue({ $0 }) < 10 { try await Task.sleep(for: .milliseconds(1)) }
                group.cancelAll()
            }
            #expect(try await harness.live() == 1)
            fails.withLockedValue { $0 = false }
            try await harness.whileRunning(client, ledger) { try await Self.unblockAll(harness, client) }
            try await harness.expectAll(client)
            #expect(try await stopping.rebuild() == 2)
            try await harness.expectAll(client)
            try await harness.append(1, client, "bad")
            try await harness.takeIn(client, ledger)
            try await harness.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func anEventThatOnlyTheRebuildFailsOnStopsIt(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(false)
        let ledger = Self.ledger(fails)
        try await harness.with { client in
            var random = SeededGenerator(seed: 12)
            try await harness.append(30, accounts: 1, client, &random)
            let position = try await harness.append(1, client, "bad")
            try await harness.append(30, accounts: 1, client, &random)
            try await harness.takeIn(client, ledger)
            fails.withLockedValue { $0 = true }
            for _ in 0..<2 {
                let error = await #expect(throws: ProjectionRebuildError.self) {
                    try await harness.rebuilder(client, ledger).rebuild()
                }
                #expect(error?.kind == .event(position, of: harness.consumer.tenant))
                for word in ["position 31", "\(RebuildHarness.key(1))", "account 1 fails", "generation 2"] {
                    #expect(error?.message.contains(word) == true, "\(word): \(error?.message ?? "")")
                }
                #expect(try await harness.live() == 1)
                try await harness.expectAll(client)
            }
            var rebuilder = harness.rebuilder(client, ledger)
            rebuilder.skipped[harness.consumer.tenant] = [position]
            #expect(try await rebuilder.rebuild() == 2)
            try await harness.expectAll(client, without: [position])
            fails.withLockedValue { $0 = false }
            try await harness.rebuilder(client, ledger).rebuild()
            try await harness.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func anEventIsTriedMoreThanOnce(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let attempts = NIOLockedValueBox<[UInt32]>([])
        let fails = NIOLockedValueBox(false)
        let ledger = Ledger(fails: { event in
            guard event.key == RebuildHarness.key(1), fails.withLockedValue({ $0 }) else { return }
            attempts.withLockedValue { $0.append(event.attempt) }
            if event.attempt < 3 { throw ProjectionFailure(.retry(after: .milliseconds(1)), "not yet") }
        })
        try await harness.with { client in
            for account in 0...3 as ClosedRange<UInt64> { try await harness.append(account, client) }
            try await harness.takeIn(client, ledger)
            fails.withLockedValue { $0 = true }
            try await harness.rebuilder(client, ledger).rebuild()
            try await harness.expectAll(client)
            // Once with the others.
            #expect(attempts.withLockedValue { $0 } == [1, 1, 2, 3])
        }
    }

    /// A key that was passed over is taken in by itself, in a transaction of its own.
    @Test(arguments: TestReadModels.Kind.available)
    func anEventOfAKeyThatIsBehindIsTriedMoreThanOnce(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let attempts = NIOLockedValueBox<[[UInt32]]>([])
        let isParking = NIOLockedValueBox(true)
        let ledger = Ledger(fails: { event in
            guard event.key == RebuildHarness.key(1) else { return }
            if isParking.withLockedValue({ $0 }) { throw ProjectionFailure(.park, "account 1 fails") }
            guard event.generation.number == 2 else { return }
            attempts.withLockedValue { $0.append([UInt32(event.event.version.rawValue), event.attempt]) }
            if event.attempt < 3 { throw ProjectionFailure(.retry(after: .milliseconds(1)), "not yet") }
        })
        try await harness.with { client in
            try await harness.append(1, client)
            try await harness.append(1, client)
            for account in 2...20 as ClosedRange<UInt64> { try await harness.append(account, client) }
            try await harness.takeIn(client, ledger)
            // Stops when it has passed over the key.
            let seen = NIOLockedValueBox(UInt64(0))
            var rebuilder = harness.rebuilder(client, ledger)
            rebuilder.eventsPerSecondMax = 1
            rebuilder.onProgress = { step in seen.withLockedValue { $0 = step.position } }
            let slow = rebuilder
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { _ = try? await slow.rebuild() }
                while seen.withLockedValue({ $0 }) < 10 { try await Task.sleep(for: .milliseconds(1)) }
                group.cancelAll()
            }
            isParking.withLockedValue { $0 = false }
            try await harness.whileRunning(client, ledger) { try await Self.unblockAll(harness, client) }
            #expect(try await harness.rebuilder(client, ledger).rebuild() == 2)
            try await harness.expectAll(client)
            // The first event is taken in again with each try of the second.
            let expected: [[UInt32]] = [[1, 1], [1, 2], [1, 3], [2, 1], [1, 3], [2, 2], [1, 3], [2, 3]]
            #expect(attempts.withLockedValue { $0 } == expected)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func anEventIsTriedMoreThanOnceWhenItsKeyIsRebuilt(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let attempts = NIOLockedValueBox<[UInt32]>([])
        let failsUntil = NIOLockedValueBox(UInt32(0))
        let ledger = Ledger(fails: { event in
            let until = failsUntil.withLockedValue { $0 }
            guard event.event.version == 2, until > 0 else { return }
            attempts.withLockedValue { $0.append(event.attempt) }
            if event.attempt < until { throw ProjectionFailure(.retry(after: .milliseconds(1)), "not yet") }
        })
        try await harness.with { client in
            for _ in 0..<3 { try await harness.append(1, client) }
            try await harness.takeIn(client, ledger)
            failsUntil.withLockedValue { $0 = 3 }
            #expect(try await harness.rebuilder(client, ledger).rebuild(RebuildHarness.key(1)) == 3)
            #expect(attempts.withLockedValue { $0 } == [1, 2, 3])
            try await harness.expectAll(client)
            failsUntil.withLockedValue { $0 = 4 }
            let error = await #expect(throws: ProjectionRebuildError.self) {
                try await harness.rebuilder(client, ledger).rebuild(RebuildHarness.key(1))
            }
            #expect(error?.kind == .event(Position(2), of: harness.consumer.tenant))
            #expect(attempts.withLockedValue { $0 } == [1, 2, 3, 1, 2, 3])
            try await harness.expectAll(client)
        }
    }

    /// Ends the rebuild in each of its transactions in turn, before the commit and after it, and calls again.
    @Test(arguments: TestReadModels.Kind.available, [false, true])
    func aRebuildThatIsInterruptedGoesOn(_ kind: TestReadModels.Kind, isAfterCommit: Bool) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = NIOLockedValueBox(false)
        let ledger = Self.ledger(fails)
        try await harness.with { client in
            var random = SeededGenerator.fromEnvironment()
            print("interrupted rebuild: seed \(random.seed)")
            let seed = random.seed
            for account in 1...9 as ClosedRange<UInt64> { try await harness.append(account, client) }
            try await harness.takeIn(client, ledger)
            fails.withLockedValue { $0 = true }
            var parked: Set<Position> = [try await harness.append(1, client, "bad")]
            var (number, isInterrupted) = (0, true)
            while isInterrupted {
                number += 1
                let place = "seed \(seed), transaction \(number)"
                try await harness.append(2, accounts: 1, client, &random)
                parked.insert(try await harness.append(1, client, "bad"))
                try await harness.takeIn(client, ledger)
                let faulty = TestReadModels(
                    harness.readModels, TestReadModels.Fault(number: number, isAfterCommit: isAfterCommit))
                var rebuilder = harness.rebuilder(client, ledger, faulty)
                rebuilder.batchEventsMax = 60
                rebuilder.keepsOld = number % 2 == 0
                do {
                    try await rebuilder.rebuild()
                    // The old generation's tables may have been left.
                    isInterrupted = faulty.transactions.withLockedValue { $0 } >= number
                } catch is TestReadModels.Interrupted {}
                // Readers and runners go on in between.
                try await harness.expectAll(client, without: parked, place)
                try await harness.append(2, client)
                try await harness.takeIn(client, ledger)
                try await harness.expectAll(client, without: parked, place)
                try await harness.rebuilder(client, ledger).rebuild()
                try await harness.expectAll(client, without: parked, place)
                try await harness.append(3, client)
                try await harness.takeIn(client, ledger)
                try await harness.expectAll(client, without: parked, place)
                let states = try await harness.generations().map { $0[1].text ?? "" }
                #expect(Set(states).isSubset(of: ["live", "kept"]), "\(place): \(states)")
            }
            #expect(number > 8)
            print("interrupted rebuild: \(number - 1) transactions")
            fails.withLockedValue { $0 = false }
            try await harness.whileRunning(client, ledger) { try await Self.unblockAll(harness, client) }
            try await harness.expectAll(client)
        }
    }
}
