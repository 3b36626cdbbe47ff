import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import Testing

/// Handlers that do not return: those that end when they are cancelled, and those that do not.
@Suite(.timeLimit(.minutes(3))) struct HandlerTimeoutTests {
    /// The ledger, whose handler hangs after it has written, in some way, for the events of one account.
    private struct Hanging: Projection {
        let account: ConsumerKey
        let isCorrected = NIOLockedValueBox(false)
        let attempts = NIOLockedValueBox<[UInt32]>([])
        let hang: @Sendable (any ProjectionTransaction) async throws -> Void

        func makeTables(_ readModels: TestReadModels) async throws {
            try await readModels.withTransaction { transaction in
                for table in Ledger().tables {
                    try await transaction.execute("CREATE TABLE \(table.name) (\(table.columns))")
                }
            }
        }

        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            try await Ledger().handle(event, in: transaction)
            guard event.key == account, !isCorrected.withLockedValue({ $0 }) else { return }
            attempts.withLockedValue { $0.append(event.attempt) }
            try await hang(transaction)
        }
    }

    enum Way: CaseIterable, Sendable { case sleep, statement, silence }

    /// Does something for ever, until the task is cancelled.
    private func hang(_ way: Way, _ kind: TestReadModels.Kind, _ transaction: any ProjectionTransaction) async throws {
        switch (way, kind) {
        case (.sleep, _): try await Task.sleep(for: .seconds(3_600))
        case (.silence, _): try? await Task.sleep(for: .seconds(3_600))
        case (.statement, .postgresql): try await transaction.execute("SELECT pg_sleep(3600)")
        case (.statement, .sqlite):
            try await transaction.execute(
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c")
        }
    }

    @Test(arguments: TestReadModels.Kind.available, Way.allCases)
    func anEventWhoseHandlerTakesTooLongFails(kind: TestReadModels.Kind, way: Way) async throws {
        var harness = try await RebuildHarness(kind)
        harness.definition.slotCount = 1
        harness.definition.delivery.triesMax = 2
        let projection = Hanging(account: RebuildHarness.key(3)) { try await hang(way, kind, $0) }
        try await projection.makeTables(harness.readModels)
        try await harness.with { [harness] client in
            for account in [1, 2, 3, 1, 3, 2] as [UInt64] { try await harness.append(account, client) }
            var runner = try harness.runner(client, projection)
            runner.handlerTimeout = .seconds(1)
            let life = runner
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await life.run() }
                try await harness.awaitHead(client)
                let parked = try await parked(1, harness, client)
                #expect(parked.first?.place.key == RebuildHarness.key(3))
                #expect(parked.first?.blocked.reason == "no answer from the handler within 1 s")
                // Each try was one of the event, and none of what they wrote is left.
                #expect(projection.attempts.withLockedValue { $0 } == [1, 2])
                try await harness.expectAll(client, without: [Position(3), Position(5)], "\(kind), \(way)")

                projection.isCorrected.withLockedValue { $0 = true }
                try await retry(parked, harness, client)
                try await harness.expectAll(client, "\(kind), \(way)")
                group.cancelAll()
                try await group.waitForAll()
            }
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func aHandlerThatCannotBeCancelledEndsItsRunnerAlone(kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let gate = Gate()
        let projection = Hanging(account: RebuildHarness.key(3)) { _ in await gate.wait() }
        let stuck = NIOLockedValueBox<StuckHandler?>(nil)
        let isOver = NIOLockedValueBox(false)
        try await projection.makeTables(harness.readModels)
        try await harness.with { client in
            for account in [1, 2, 3, 4, 3] as [UInt64] { try await harness.append(account, client) }
            var runner = try harness.runner(client, projection)
            runner.handlerTimeout = .milliseconds(500)
            runner.handlerGrace = .milliseconds(200)
            runner.onStuck = { error in stuck.withLockedValue { $0 = error } }
            let life = runner
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    defer { isOver.withLockedValue { $0 = true } }
                    let error = try await #require(throws: StuckHandler.self) { try await life.run() }
                    #expect(error == stuck.withLockedValue { $0 })
                }
                // It is not tried by the next worker, and gives up its slots although the handler goes on.
                let parked = try await parked(1, harness, client)
                #expect(parked.first?.place.key == RebuildHarness.key(3))
                let error = try #require(stuck.withLockedValue { $0 })
                #expect(error.position == Position(3) && error.key == RebuildHarness.key(3))
                #expect(error.time >= .milliseconds(700))
                #expect(parked.first?.blocked.reason == "\(error)")
                let tooLong = ContinuousClock.now + .seconds(60)
                while try await !client.consumer(harness.consumer).workers.isEmpty, .now < tooLong {
                    try await Task.sleep(for: .milliseconds(20))
                }
                #expect(try await client.consumer(harness.consumer).workers.isEmpty)
                #expect(!isOver.withLockedValue { $0 }, "the runner did not wait for its handler")

                try await harness.whileRunning(client, projection) {
                    if kind == .postgresql {
                        // The other slots are free at once; the whole file of SQLite is not.
                        let last = try await harness.append(otherSlot(harness), client)
                        try await client.awaitSlot(
                            harness.slot(of: otherSlot(harness)), of: harness.consumer, to: last)
                        #expect(!isOver.withLockedValue { $0 })
                    }
                    gate.open()
                    try await harness.awaitHead(client)
                    try await harness.expectAll(client, without: [Position(3), Position(5)], "\(kind)")
                    projection.isCorrected.withLockedValue { $0 = true }
                    try await retry(parked, harness, client)
                    try await harness.expectAll(client, "\(kind)")
                }
                try await group.waitForAll()
            }
        }
    }

    /// An account that is in another slot than the one whose handler is stuck.
    private func otherSlot(_ harness: RebuildHarness) -> UInt64 {
        (10...100).first { harness.slot(of: $0) != harness.slot(of: 3) } ?? 0
    }

    private func parked(_ count: Int, _ harness: RebuildHarness, _ client: MartletClient) async throws -> [ListedKey] {
        let tooLong = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < tooLong {
            let keys = try await client.blockedKeys(ListBlockedKeysRequest(harness.consumer))
            if keys.count == count, keys.allSatisfy({ $0.blocked.until == .asked }) { return keys }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("not \(count) keys are parked")
        return []
    }

    private func retry(_ keys: [ListedKey], _ harness: RebuildHarness, _ client: MartletClient) async throws {
        try await client.unblockKeys(
            UnblockKeysRequest(harness.consumer, keys: keys.map { UnblockKeysRequest.Key($0.place) }))
        let tooLong = ContinuousClock.now + .seconds(60)
        while try await client.consumer(harness.consumer).blockedKeyCount > 0, .now < tooLong {
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}

extension MartletClient {
    fileprivate func awaitSlot(_ number: Int, of consumer: ConsumerID, to position: Position) async throws {
        let tooLong = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < tooLong {
            let slots = try await self.consumer(consumer).slots
            if slots.contains(where: { $0.number == number && $0.checkpoint.position >= position }) { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("slot \(number) stands still")
    }
}

/// Holds up who waits, cancelled or not, until it is opened.
private final class Gate: Sendable {
    private let state = NIOLockedValueBox<(isOpen: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLockedValue { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiting = state.withLockedValue { state in
            defer { state = (true, []) }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}
