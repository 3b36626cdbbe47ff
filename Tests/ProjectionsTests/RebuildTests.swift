import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import Testing

/// Generations of a read model: built beside the live one, switched to, gone back from.
@Suite(.timeLimit(.minutes(3))) struct RebuildTests {
    @Test(arguments: TestReadModels.Kind.available)
    func aRebuildEndsLikeAFreshBuild(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        var random = SeededGenerator.fromEnvironment()
        print("rebuild: seed \(random.seed)")
        let seed = random.next()
        try await harness.with { client in
            var random = SeededGenerator(seed: seed)
            try await harness.append(120, client, &random)
            try await harness.takeIn(client)
            try await harness.expectAll(client)
            // What a handler with an error has left.
            _ = try await harness.readModels.rows("UPDATE ledger_sums_g1 SET cents = 0")
            _ = try await harness.readModels.rows("DELETE FROM ledger_effects_g1 WHERE version = 2")
            let progress = NIOLockedValueBox<[RebuildProgress]>([])
            var rebuilder = harness.rebuilder(client)
            rebuilder.onProgress = { step in progress.withLockedValue { $0.append(step) } }
            #expect(try await rebuilder.rebuild() == 2)
            #expect(try await harness.live() == 2)
            #expect(try await harness.generations() == [[.integer(2), .text("live")]])
            try await harness.expectAll(client)
            let replays = try await harness.readModels.rows("SELECT DISTINCT replay, marker FROM ledger_effects")
            #expect(replays == [[.integer(1), .integer(2)]])
            let steps = progress.withLockedValue { $0 }
            #expect(steps.map(\.position) == stride(from: 10, through: 120, by: 10).map { UInt64($0) })
            #expect(steps.allSatisfy { $0.end == 120 && $0.generation == 2 && $0.timeLeft != nil })
            // And it goes on.
            try await harness.append(30, client, &random)
            try await harness.takeIn(client)
            try await harness.expectAll(client)
            #expect(
                try await harness.readModels.rows("SELECT count(*) FROM ledger_effects WHERE replay = 0")
                    == [[.integer(30)]])
            #expect(try await rebuilder.rebuild() == 3)
            try await harness.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func aReadModelThatNobodyHasBuiltYet(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        try await harness.with { client in
            var random = SeededGenerator(seed: 1)
            #expect(try await harness.rebuilder(client).rebuild() == 2)
            try await harness.append(40, client, &random)
            #expect(try await harness.rebuilder(client).rebuild() == 3)
            try await harness.expectAll(client)
            // Nothing of it was settled: it is no replay.
            #expect(
                try await harness.readModels.rows("SELECT count(*) FROM ledger_effects WHERE replay = 0")
                    == [[.integer(40)]])
            try await harness.append(10, client, &random)
            // Slots that have no row begin where the generation began.
            try await harness.takeIn(client)
            try await harness.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func theTablesOfAPlainProjectionBecomeTheFirstGeneration(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        struct Plain: Projection {
            func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
                #expect(event.table("ledger_sums") == "ledger_sums")
                try await Ledger().handle(event, in: transaction)
            }
        }
        for table in Ledger().tables {
            _ = try await harness.readModels.rows("CREATE TABLE \(table.name) (\(table.columns))")
        }
        try await harness.with { client in
            var random = SeededGenerator(seed: 2)
            try await harness.append(40, client, &random)
            try await harness.takeIn(client, Plain())
            try await harness.append(10, client, &random)
            try await harness.takeIn(client)
            try await harness.expectAll(client)
            #expect(try await harness.live() == 1)
            #expect(try await harness.rebuilder(client).rebuild() == 2)
            try await harness.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func twoRebuildsAtOnceAreOne(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        try await harness.with { client in
            var random = SeededGenerator(seed: 3)
            try await harness.append(100, client, &random)
            try await harness.takeIn(client)
            let ends = await withTaskGroup(of: Result<Int64, any Error>.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        do { return .success(try await harness.rebuilder(client).rebuild()) } catch {
                            return .failure(error)
                        }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(ends.contains { (try? $0.get()) != nil })
            for case .failure(let error) in ends {
                #expect((error as? ProjectionRebuildError)?.kind == .takenOver, "\(error)")
            }
            try await harness.expectAll(client)
            let live = try #require(try await harness.live())
            #expect(try await harness.generations() == [[.integer(live), .text("live")]])
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func aGenerationThatWasKeptCanBeGoneBackTo(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let parks = NIOLockedValueBox(true)
        let ledger = Ledger(fails: { event in
            if event.key == RebuildHarness.key(1), parks.withLockedValue({ $0 }) {
                throw ProjectionFailure(.park, "parked")
            }
        })
        try await harness.with { client in
            var random = SeededGenerator(seed: 4)
            try await harness.append(60, client, &random)
            try await harness.append(1, client)
            try await harness.takeIn(client, ledger)
            var rebuilder = harness.rebuilder(client, ledger)
            rebuilder.keepsOld = true
            #expect(try await rebuilder.rebuild() == 2)
            #expect(try await harness.generations().map { $0[1] } == [.text("kept"), .text("live")])
            try await harness.append(30, client, &random)
            parks.withLockedValue { $0 = false }
            try await client.unblockKeys(
                UnblockKeysRequest(
                    harness.consumer, keys: try await client.blockedKeys(of: harness.consumer).map { .init($0.place) }))
            try await harness.whileRunning(client, ledger) {
                try await harness.awaitHead(client)
                while try await client.consumer(harness.consumer).blockedKeyCount > 0 {
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            try await harness.expectAll(client)
            #expect(try await rebuilder.switchBack() == 1)
            #expect(try await harness.generations().map { $0[1] } == [.text("live"), .text("kept")])
            try await harness.expectAll(client)
            try await harness.append(10, client, &random)
            try await harness.takeIn(client, ledger)
            try await harness.expectAll(client)
            try await rebuilder.abandon()
            let error = await #expect(throws: ProjectionRebuildError.self) { try await rebuilder.switchBack() }
            #expect(error?.kind == .nothingKept)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func programsOfTwoVersionsHandOver(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        try await harness.with { client in
            var random = SeededGenerator(seed: 5)
            try await harness.append(50, client, &random)
            try await harness.takeIn(client)
            let (old, new) = (Ledger(), Ledger(version: 2))
            let (oldRunner, newRunner) = (
                try harness.runner(client, old), try harness.runner(client, new, worker: "b")
            )
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    let error = await #expect(throws: ProjectionRebuildError.self) { try await oldRunner.run() }
                    #expect(error?.kind == .version)
                }
                group.addTask { try await newRunner.run() }
                try await harness.append(20, client, &random)
                try await harness.awaitHead(client)
                #expect(try await harness.live() == 1)
                _ = try await harness.rebuilder(client, new).rebuild()
                try await harness.append(20, client, &random)
                // The old one has ended by then.
                try await group.next()
                try await harness.awaitHead(client)
                group.cancelAll()
                try await group.waitForAll()
            }
            try await harness.expectAll(client)
            let error = await #expect(throws: ProjectionRebuildError.self) {
                try await harness.rebuilder(client).verify()
            }
            #expect(error?.kind == .version)
        }
    }

    /// The server is lost, and comes back with other events.
    @Test(arguments: TestReadModels.Kind.available)
    func aReadModelOfALostPastIsRefusedAndMadeAnew(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        try await harness.with { client in
            var random = SeededGenerator(seed: 6)
            try await harness.append(50, client, &random)
            try await harness.takeIn(client)
            try await harness.rebuilder(client).rebuild()
        }
        try await harness.with { client in
            var random = SeededGenerator(seed: 7)
            try await harness.append(20, client, &random)
            let error = await #expect(throws: MartletError.self) { try await harness.rebuilder(client).rebuild() }
            #expect(error?.reason == .historyChanged, "\(String(describing: error))")
            #expect(try await harness.live() == 2)
            try await harness.rebuilder(client).deleteEverything()
            #expect(try await harness.live() == nil)
            try await harness.takeIn(client)
            try await harness.expectAll(client)
        }
    }

    /// What a rebuild has stored of a past that was lost meanwhile is not gone on with.
    @Test(arguments: TestReadModels.Kind.available)
    func aRebuildOfALostPastIsRefused(_ kind: TestReadModels.Kind) async throws {
        let harness = try await RebuildHarness(kind)
        let fails = Ledger(fails: { event in
            if event.event.position == Position(15) { throw ProjectionFailure(.park, "it stops here") }
        })
        for count in [15, 40] {
            try await harness.with { client in
                var random = SeededGenerator(seed: UInt64(count))
                try await harness.append(count, client, &random)
                let ledger = count == 15 ? fails : Ledger()
                let error = await #expect(throws: (any Error).self) {
                    try await harness.rebuilder(client, ledger).rebuild()
                }
                if count == 15 {
                    #expect(
                        (error as? ProjectionRebuildError)?.kind == .event(Position(15), of: harness.consumer.tenant))
                } else {
                    #expect((error as? MartletError)?.reason == .historyChanged)
                    #expect((error as? MartletError)?.message.contains("generation 2") == true)
                    try await harness.rebuilder(client).abandon()
                    try await harness.rebuilder(client).rebuild()
                    try await harness.expectAll(client)
                }
            }
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func aRepeatableReadKeepsItsGeneration() async throws {
        let harness = try await RebuildHarness(.postgresql)
        try await harness.with { client in
            var random = SeededGenerator(seed: 8)
            try await harness.append(50, client, &random)
            try await harness.takeIn(client)
            try await withThrowingTaskGroup(of: Void.self) { group in
                let hasRead = NIOLockedValueBox(false)
                group.addTask {
                    while !hasRead.withLockedValue({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
                    try await harness.rebuilder(client).rebuild()
                }
                try await harness.readModels.withTransaction { transaction in
                    try await transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    let query = "SELECT (SELECT count(*) FROM ledger_sums), count(*), max(marker) FROM ledger_effects"
                    let first = try await transaction.execute("SELECT count(*) FROM ledger_sums")[0][0]
                    hasRead.withLockedValue { $0 = true }
                    // Longer than the switch waits for locks.
                    for _ in 0..<25 {
                        let rows = try await transaction.execute(query)
                        #expect(rows == [[first, .integer(50), .integer(1)]])
                        try await Task.sleep(for: .milliseconds(100))
                    }
                    // And nobody waits for the switch for longer than that.
                    #expect(
                        try await harness.readModels.rows("SELECT max(marker) FROM ledger_effects") == [[.integer(1)]])
                }
                try await group.waitForAll()
            }
            #expect(try await harness.live() == 2)
            try await harness.expectAll(client)
        }
    }

    @Test func namesOfTablesAreChecked() async throws {
        struct Named: RebuildableProjection {
            var names: [String]
            var tables: [ProjectionTable] { names.map { ProjectionTable($0, "a text") } }
            func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {}
        }
        let harness = try await RebuildHarness(.sqlite)
        let long = String(repeating: "n", count: 41)
        try await harness.with { client in
            for names in [[], [""], ["1a"], ["a b"], ["Ab"], ["a\";"], ["martlet_x"], [long], ["é"], ["a", "a"]] {
                let runner = try harness.runner(client, Named(names: names))
                let error = await #expect(throws: ProjectionRebuildError.self, "\(names)") {
                    try await runner.prepare()
                }
                #expect(error?.kind == .declaration)
                if let name = names.first { #expect(error?.message.contains(name) == true) }
            }
            try await harness.runner(client, Named(names: [String(long.dropLast()), "_a1"])).prepare()
        }
    }

    @Test func eventsOfUnknownTypes() async throws {
        let harness = try await RebuildHarness(.sqlite)
        try await harness.with { client in
            try await harness.append(1, client)
            let transaction = NIOLockedValueBox<[String]>([])
            struct Passes: Projection {
                var handlers: EventHandlers
                func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
                    try await handlers.handle(event, in: transaction)
                }
            }
            try await harness.takeIn(client, Passes(handlers: EventHandlers(unknown: .park, ["Other": { _, _ in }])))
            #expect(
                try await client.blockedKeys(of: harness.consumer).map(\.blocked.reason)
                    == ["no handler for events of type Moved"])
            let seen = EventHandlers(
                unknown: .ignore, ["Moved": { event, _ in transaction.withLockedValue { $0.append("\(event.key)") } }])
            try await harness.append(2, client)
            try await harness.takeIn(client, Passes(handlers: seen))
            #expect(transaction.withLockedValue { $0 } == ["\(RebuildHarness.key(2))"])
            try await harness.append(3, client)
            try await harness.takeIn(client, Passes(handlers: EventHandlers(unknown: .ignore, [:])))
            #expect(try await client.blockedKeys(of: harness.consumer).count == 1)
        }
    }
}
