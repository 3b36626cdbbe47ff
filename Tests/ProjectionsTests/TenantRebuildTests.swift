import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Rebuilds of a read model over all tenants: one set of tables, built and switched for all of them.
@Suite(.timeLimit(.minutes(5))) struct TenantRebuildTests {
    @Test(arguments: TestReadModels.Kind.available)
    func aRebuildEndsLikeAFreshBuild(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind, tenants: 4)
        let (all, tenants) = (setup.all, setup.all.tenants)
        try await setup.with { client in
            // The last one has events, but no consumer yet.
            for tenant in tenants.prefix(3) {
                try await all.put(tenant, client)
                try await all.append(40, tenant, client)
            }
            try await all.append(15, tenants[3], client)
            try await setup.takeIn(client, of: Array(tenants.prefix(3)))
            // What a handler with an error has left.
            _ = try await setup.readModels.rows("UPDATE tenant_sums_g1 SET cents = 0 WHERE tenant = '\(tenants[1])'")
            _ = try await setup.readModels.rows("DELETE FROM tenant_effects_g1 WHERE tenant = '\(tenants[2])'")
            let steps = NIOLockedValueBox<[RebuildProgress]>([])
            var rebuilder = setup.rebuilder(client)
            rebuilder.onProgress = { step in steps.withLockedValue { $0.append(step) } }
            #expect(try await rebuilder.rebuild() == 2)
            try await setup.expectAll(client, of: Array(tenants.prefix(3)))
            #expect(try await setup.states() == ["live"])
            #expect(try await setup.count("replay = 1 AND marker = 2") == 120)
            let seen = steps.withLockedValue { $0 }
            #expect(seen.map(\.tenant) == tenants.prefix(3).flatMap { Array(repeating: $0, count: 4) })
            #expect(seen.map(\.position) == Array(repeating: [10, 20, 30, 40], count: 3).flatMap(\.self))
            #expect(seen.map(\.events) == Array(stride(from: 10, through: 120, by: 10)))
            #expect(seen.allSatisfy { $0.end == 40 && $0.generation == 2 } && seen.last?.timeLeft == .zero)
            let times = seen.compactMap(\.timeLeft)
            #expect(times.count == 12 && times[0] > .zero, "of all tenants")

            // A tenant that comes while it is built, and events of the others.
            let isBegun = NIOLockedValueBox(false)
            var slow = setup.rebuilder(client)
            slow.batchEventsMax = 40
            slow.timeShare = 0.2
            slow.onProgress = { _ in isBegun.withLockedValue { $0 = true } }
            let second = slow
            try await all.whileRunning(setup.runner(client)) {
                try await withThrowingTaskGroup(of: Int64.self) { group in
                    group.addTask { try await second.rebuild() }
                    while !isBegun.withLockedValue({ $0 }) { try await Task.sleep(for: .milliseconds(1)) }
                    try await all.put(tenants[3], client)
                    for tenant in tenants { try await all.append(20, tenant, client) }
                    #expect(try await group.next() == 3)
                }
                try await all.awaitHeads(client)
            }
            try await setup.expectAll(client)
            #expect(try await setup.count("marker <> 3") == 0)
            let verification = try await setup.rebuilder(client).verify()
            #expect(verification.differences.isEmpty && verification.generation == 3, "\(verification)")
            #expect(verification.positions == [tenants[0]: 60, tenants[1]: 60, tenants[2]: 60, tenants[3]: 35])
        }
    }

    /// Rebuilds one after the other, beside runners that come and go, tenants that come later, handlers that fail now and then,
    /// appends and readers.
    @Test(arguments: TestReadModels.Kind.available)
    func nothingIsLostOrDoneTwice(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind, tenants: 5)
        let (all, tenants) = (setup.all, setup.all.tenants)
        let place = all.seed
        let chance = NIOLockedValueBox(SeededGenerator(seed: all.random.withLockedValue { $0.seed } &+ 1))
        let ledger = TenantsLedger(
            kind: kind,
            fails: { event in
                guard chance.withLockedValue({ Int.random(in: 0..<100, using: &$0) }) == 0 else { return }
                throw ProjectionFailure(.retry(after: .milliseconds(10)), "by chance")
            })
        try await setup.with { client in
            try await setup.runner(client, ledger).prepare()
            let isDone = NIOLockedValueBox(false)
            let rebuilds = NIOLockedValueBox(0)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<2 as Range<UInt64> {
                    let worker = try #require(WorkerName("worker-\(number)"))
                    group.addTask {
                        var random = SeededGenerator(seed: number)
                        while !isDone.withLockedValue({ $0 }) {
                            let time = Duration.milliseconds(Int.random(in: 100...1_500, using: &random))
                            try await all.whileRunning(setup.runner(client, ledger, worker: worker)) {
                                try await Task.sleep(for: time)
                            }
                        }
                    }
                }
                group.addTask {
                    while !isDone.withLockedValue({ $0 }) {
                        let number = rebuilds.withLockedValue { $0 }
                        var rebuilder = setup.rebuilder(client, ledger)
                        rebuilder.triesMax = 1_000
                        rebuilder.batchEventsMax = 50
                        rebuilder.keepsOld = number % 3 == 1
                        if number % 3 == 2 {
                            try await rebuilder.switchBack()
                        } else {
                            try await rebuilder.rebuild()
                        }
                        rebuilds.withLockedValue { $0 += 1 }
                        // What a generation had lost would be there again in the next one.
                        let verification = try await setup.rebuilder(client).verify()
                        #expect(verification.differences.isEmpty, "\(place): \(verification)")
                    }
                }
                group.addTask {
                    var last: Int64 = 0
                    while !isDone.withLockedValue({ $0 }) {
                        let row = try await setup.readModels.rows(
                            "SELECT count(*), max(marker), min(marker), count(DISTINCT id) FROM tenant_effects")[0]
                        #expect(row[1] == row[2], "\(place): a reader sees two generations")
                        #expect(row[0] == row[3], "\(place): an event is taken in twice")
                        #expect(row[0].integer ?? 0 >= last, "\(place): a reader sees less than before")
                        last = row[0].integer ?? 0
                        try await Task.sleep(for: .milliseconds(5))
                    }
                }
                var count = 0
                for number in 0..<150 where number < 30 || rebuilds.withLockedValue({ $0 }) < 9 {
                    if number % 6 == 0, count < tenants.count {
                        try await all.put(tenants[count], client)
                        count += 1
                    }
                    for tenant in tenants { try await all.append(number < 30 ? 5 : 1, tenant, client) }
                    try await Task.sleep(for: .milliseconds(20))
                }
                #expect(count == tenants.count)
                try await all.awaitHeads(client)
                try await all.unblockAll(client)
                isDone.withLockedValue { $0 = true }
                try await group.waitForAll()
            }
            try await setup.expectAll(client)
            print("rebuild race over tenants: \(place), \(rebuilds.withLockedValue { $0 }) switches")
        }
    }

    /// Ends the rebuild in each of its transactions in turn, before the commit and after it, and calls again.
    @Test(arguments: TestReadModels.Kind.available, [false, true])
    func aRebuildThatIsInterruptedGoesOn(_ kind: TestReadModels.Kind, isAfterCommit: Bool) async throws {
        let setup = try await TenantRebuildHarness(kind, tenants: 2)
        let (all, tenants) = (setup.all, setup.all.tenants)
        let ledger = TenantsLedger(
            kind: kind,
            fails: { event in
                guard event.event.event.payload.readableBytes == 13 else { return }
                throw ProjectionFailure(.park, "thirteen")
            })
        try await setup.with { client in
            try await setup.begin(client, events: 12)
            var parked: [TenantID: Set<Position>] = [:]
            // Every other one before the commit, and the others after it.
            let step = TestRounds.count(2, long: 1)
            var (number, isInterrupted) = (isAfterCommit ? 1 : 2 - step, true)
            while isInterrupted {
                number += step
                let place = "transaction \(number)"
                for tenant in tenants {
                    let text = String(repeating: "x", count: tenant == tenants[1] ? 13 : 2)
                    let position = try await all.append(text, to: 1, tenant, client)
                    if tenant == tenants[1] { parked[tenant, default: []].insert(position) }
                    try await all.append("one", to: 2, tenant, client)
                }
                try await setup.takeIn(client, ledger)
                let faulty = TestReadModels(
                    setup.readModels, TestReadModels.Fault(number: number, isAfterCommit: isAfterCommit))
                var rebuilder = setup.rebuilder(client, ledger, faulty)
                rebuilder.batchEventsMax = 60
                rebuilder.keepsOld = number % 4 < 2
                do {
                    try await rebuilder.rebuild()
                    // The old generation's tables may have been left.
                    isInterrupted = faulty.transactions.withLockedValue { $0 } >= number
                } catch is TestReadModels.Interrupted {}
                // Readers and runners go on in between.
                try await setup.expectAll(client, without: parked, place)
                for tenant in tenants { try await all.append("two", to: 2, tenant, client) }
                try await setup.takeIn(client, ledger)
                try await setup.expectAll(client, without: parked, place)
                try await setup.rebuilder(client, ledger).rebuild()
                try await setup.expectAll(client, without: parked, place)
                for tenant in tenants { try await all.append("three", to: 3, tenant, client) }
                try await setup.takeIn(client, ledger)
                try await setup.expectAll(client, without: parked, place)
                #expect(Set(try await setup.states()).isSubset(of: ["live", "kept"]), "\(place)")
            }
            #expect(number > 10)
            print("interrupted rebuild over tenants: \(number - step) transactions")
            try await all.whileRunning(setup.runner(client)) { try await all.unblockAll(client) }
            try await setup.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func aGenerationThatWasKeptCanBeGoneBackTo(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind)
        let (all, tenants) = (setup.all, setup.all.tenants)
        try await setup.with { client in
            for tenant in tenants.prefix(2) {
                try await all.put(tenant, client)
                try await all.append(30, tenant, client)
            }
            try await setup.takeIn(client, of: Array(tenants.prefix(2)))
            var rebuilder = setup.rebuilder(client)
            rebuilder.keepsOld = true
            #expect(try await rebuilder.rebuild() == 2)
            // One more tenant than the kept generation has.
            try await all.put(tenants[2], client)
            for tenant in tenants { try await all.append(20, tenant, client) }
            try await setup.takeIn(client)
            #expect(try await rebuilder.switchBack() == 1)
            #expect(try await setup.states() == ["live", "kept"])
            try await setup.expectAll(client)
            #expect(try await setup.count("replay = 1 AND tenant = '\(tenants[2])'") == 20, "it was settled by then")
            for tenant in tenants { try await all.append(10, tenant, client) }
            try await setup.takeIn(client)
            #expect(try await rebuilder.switchBack() == 2)
            try await setup.expectAll(client)
            for tenant in tenants {
                let replayed = try await setup.count("replay = 1 AND tenant = '\(tenant)'")
                #expect(replayed == (tenant == tenants[2] ? 10 : 40), "as settled when it was gone back to")
            }
            for tenant in tenants { try await all.append(10, tenant, client) }
            try await setup.takeIn(client)
            try await setup.expectAll(client)
            try await rebuilder.abandon()
            let error = await #expect(throws: ProjectionRebuildError.self) { try await rebuilder.switchBack() }
            #expect(error?.kind == .nothingKept)
            let rows = try await setup.readModels.rows(
                """
                SELECT count(*) FROM martlet_projection_slots WHERE projection LIKE '%@%'
                UNION ALL SELECT count(*) FROM martlet_projection_generations
                """)
            #expect(rows == [[.integer(0)], [.integer(1 + Int64(tenants.count))]], "the live one, and its tenants")
        }
    }

    /// Runners of all tenants wait for the switch.
    @Test func theSwitchDoesNotTakeMoreStatementsForMoreTenants() async throws {
        var counts: [Int] = []
        for tenants in [2, 40] {
            let setup = try await TenantRebuildHarness(.sqlite, tenants: tenants)
            let statements = NIOLockedValueBox<(now: Int, last: Int?)>((0, nil))
            let database = HookedDatabase(base: TestReadModels(setup.readModels)) { sql, _ in
                statements.withLockedValue { counts in
                    counts.now = sql.contains("SET generation = generation") ? 1 : counts.now + 1
                    if sql.contains("switches = switches + 1") { counts.last = counts.now }
                }
            }
            let (all, kind) = (setup.all, setup.kind)
            try await setup.with { client in
                try await setup.begin(client, events: 2)
                let rebuilder = ProjectionRebuilder(
                    TenantsLedger(kind: kind), ofAll: all.name, client: client, database: database, logger: .silent)
                #expect(try await rebuilder.rebuild() == 2)
                try await setup.expectAll(client)
            }
            counts.append(try #require(statements.withLockedValue { $0.last }))
        }
        #expect(counts[0] == counts[1] && counts[0] < 30, "\(counts)")
    }

    @Test(arguments: TestReadModels.Kind.available)
    func aTenantWhoseConsumerIsGoneIsLeftOutOnlyWhenToldSo(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind)
        let (all, tenants) = (setup.all, setup.all.tenants)
        let gone = tenants[1]
        let others = [tenants[0], tenants[2]]
        try await setup.with { client in
            try await setup.begin(client)
            var rebuilder = setup.rebuilder(client)
            func expectRefusal(_ text: String, _ call: (ProjectionRebuilder<TestReadModels>) async throws -> Int64)
                async throws
            {
                let error = await #expect(throws: ProjectionRebuildError.self) { try await call(rebuilder) }
                #expect(
                    error?.kind == .tenant(gone) && error?.message.contains(text) == true,
                    "\(String(describing: error))")
                try await setup.expectAll(client)
            }
            rebuilder.leftOut = [gone]
            try await expectRefusal("delete the consumer before") { try await $0.rebuild() }
            rebuilder.leftOut = []
            rebuilder.keepsOld = true
            #expect(try await rebuilder.rebuild() == 2)
            // Slots that are not all at one place.
            for tenant in tenants { try await all.append(5, tenant, client) }
            try await setup.takeIn(client)
            try await client.deleteConsumer(all.id(gone))
            try await expectRefusal("add the tenant to `leftOut`") { try await $0.rebuild() }
            rebuilder.leftOut = [gone]
            try await expectRefusal("has events of it already") { try await $0.switchBack() }
            #expect(try await rebuilder.rebuild() == 3)
            try await setup.expectAll(client, of: others)
            #expect(try await setup.count("tenant = '\(gone)'") == 0)

            // It comes back, and no worker has begun with it yet: the kept generation has all of it but for that.
            try await all.put(gone, client)
            rebuilder.leftOut = []
            #expect(try await rebuilder.switchBack() == 2)
            try await setup.expectAll(client)
            for tenant in tenants { try await all.append(10, tenant, client) }
            try await setup.takeIn(client)
            try await setup.expectAll(client)
            // The other one lacks all of it.
            #expect(try await rebuilder.switchBack() == 3)
            try await setup.expectAll(client)
            for tenant in tenants { try await all.append(10, tenant, client) }
            try await setup.takeIn(client)
            try await setup.expectAll(client)
        }
    }

    /// A consumer that is put when the tenant is about to be left out: the switch sees it.
    @Test(arguments: TestReadModels.Kind.available)
    func aConsumerThatComesBackIsNotLeftOut(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind)
        let (all, gone) = (setup.all, setup.all.tenants[1])
        try await setup.with { client in
            try await setup.begin(client)
            try await client.deleteConsumer(all.id(gone))
            let locks = NIOLockedValueBox(0)
            let database = HookedDatabase(base: TestReadModels(setup.readModels)) { sql, _ in
                guard sql.contains("SET generation = generation") else { return }
                // The first one begins the generation, the second one is the switch's.
                guard
                    locks.withLockedValue({
                        $0 += 1; return $0
                    }) == 2
                else { return }
                try await all.put(gone, client)
            }
            var rebuilder = ProjectionRebuilder(
                TenantsLedger(kind: kind), ofAll: all.name, client: client, database: database, logger: .silent)
            rebuilder.leftOut = [gone]
            let error = await #expect(throws: ProjectionRebuildError.self) { try await rebuilder.rebuild() }
            #expect(error?.kind == .tenant(gone) && locks.withLockedValue { $0 } == 2)
            for tenant in all.tenants { try await all.append(10, tenant, client) }
            try await setup.takeIn(client)
            try await setup.expectAll(client)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func verificationsAndKeysAreOfATenant(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind)
        let (all, tenants) = (setup.all, setup.all.tenants)
        try await setup.with { client in
            try await setup.begin(client)
            for tenant in tenants { try await all.append("four", to: 1, tenant, client) }
            try await setup.takeIn(client)
            let key = RebuildHarness.key(1)
            let account = RebuildHarness.account(1).id
            _ = try await setup.readModels.rows(
                "UPDATE tenant_sums_g1 SET cents = cents + 1 WHERE account = '\("\(account)".lowercased())'")
            let rebuilder = setup.rebuilder(client)
            func differing() async throws -> Set<String> {
                let verification = try await rebuilder.verify()
                #expect(Set(verification.positions.keys) == Set(tenants))
                return Set(verification.differences.flatMap { $0.found + $0.expected }.compactMap(\.values[0].text))
            }
            #expect(try await differing() == Set(tenants.map { "\($0)" }))
            let count = try await setup.count("tenant = '\(tenants[1])' AND account = '\("\(account)".lowercased())'")
            #expect(try await rebuilder.rebuild(key, of: tenants[1]) == count.map { Int($0) })
            #expect(try await differing() == ["\(tenants[0])", "\(tenants[2])"])
            for tenant in tenants { try await rebuilder.rebuild(key, of: tenant) }
            #expect(try await differing() == [])
            try await setup.expectAll(client)
            let error = await #expect(throws: ProjectionRebuildError.self) { try await rebuilder.rebuild(key) }
            #expect(error?.kind == .declaration && error?.message.contains("say whose key") == true)
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func anEventThatOnlyTheRebuildFailsOnStopsIt(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind)
        let (all, tenants) = (setup.all, setup.all.tenants)
        try await setup.with { client in
            try await setup.begin(client, events: 10)
            // The same position in each tenant.
            let bad = try await all.append("bad", to: 1, tenants[1], client)
            for tenant in [tenants[0], tenants[2]] { try await all.append("good", to: 1, tenant, client) }
            try await setup.takeIn(client)
            let ledger = TenantsLedger(
                kind: kind,
                fails: { event in
                    if event.event.event.payload.readableBytes == 3, event.event.position == bad {
                        throw ProjectionFailure(.park, "bad")
                    }
                })
            var rebuilder = setup.rebuilder(client, ledger)
            let error = await #expect(throws: ProjectionRebuildError.self) { try await rebuilder.rebuild() }
            #expect(error?.kind == .event(bad, of: tenants[1]) && error?.message.contains("\(tenants[1])") == true)
            try await setup.expectAll(client)
            rebuilder.skipped[tenants[0]] = [bad]
            await #expect(throws: ProjectionRebuildError.self) { try await rebuilder.rebuild() }
            rebuilder.skipped = [tenants[1]: [bad]]
            try await rebuilder.rebuild()
            try await setup.expectAll(client, without: [tenants[1]: [bad]])
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func tablesOfOneTenantAndOfAllAreKeptApart(_ kind: TestReadModels.Kind) async throws {
        let setup = try await TenantRebuildHarness(kind)
        let (all, tenants) = (setup.all, setup.all.tenants)
        try await setup.with { client in
            for tenant in tenants {
                try await all.put(tenant, client)
                try await all.append(5, tenant, client)
            }
            func one(_ tenant: TenantID) -> ProjectionRunner<TestReadModels> {
                ProjectionRunner(
                    TenantsLedger(kind: kind), of: all.id(tenant), as: all.worker, client: client,
                    database: setup.readModels, logger: .silent)
            }
            try await all.whileRunning(one(tenants[0])) { try await all.awaitHeads(client, of: [tenants[0]]) }
            let refused = await #expect(throws: ProjectionRebuildError.self) { try await setup.runner(client).run() }
            #expect(
                refused?.kind == .declaration && refused?.message.contains("over one tenant, \(tenants[0])") == true,
                "\(String(describing: refused))")
            let rebuilder = ProjectionRebuilder(
                TenantsLedger(kind: kind), of: all.id(tenants[0]), client: client, database: setup.readModels,
                logger: .silent)
            try await rebuilder.deleteEverything()
            try await client.resetConsumer(ResetConsumerRequest(all.id(tenants[0]), start: .after(.start)))
            try await setup.takeIn(client)
            try await setup.expectAll(client)
            let other = await #expect(throws: ProjectionRebuildError.self) { try await one(tenants[1]).run() }
            #expect(
                other?.kind == .declaration && other?.message.contains("over all tenants") == true,
                "\(String(describing: other))")
            try await setup.rebuilder(client).deleteEverything()
            for table in ["martlet_projections", "martlet_projection_generations", "martlet_projection_slots"] {
                #expect(try await setup.readModels.rows("SELECT * FROM \(table)").isEmpty, "\(table)")
            }
            await #expect(throws: ProjectionDatabaseError.self) {
                try await setup.readModels.rows("SELECT * FROM tenant_sums")
            }
        }
    }

    @Test(arguments: TestReadModels.Kind.available)
    func theTablesOfAPlainProjectionBecomeTheFirstGeneration(_ kind: TestReadModels.Kind) async throws {
        struct Plain: Projection {
            let ledger: TenantsLedger
            func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
                try await ledger.handle(event, in: transaction)
            }
        }
        let setup = try await TenantRebuildHarness(kind)
        let (all, tenants) = (setup.all, setup.all.tenants)
        try await setup.with { client in
            for tenant in tenants {
                try await all.put(tenant, client)
                try await all.append(20, tenant, client)
            }
            let ledger = TenantsLedger(kind: kind)
            for table in ledger.tables {
                _ = try await setup.readModels.rows("CREATE TABLE \(table.name) (\(table.columns))")
            }
            let plain = ProjectionRunner(
                Plain(ledger: ledger), ofAll: all.name, as: all.worker, client: client, database: setup.readModels,
                logger: .silent)
            try await all.whileRunning(plain) { try await all.awaitHeads(client) }
            for tenant in tenants { try await all.append(20, tenant, client) }
            try await setup.takeIn(client)
            try await setup.expectAll(client)
            #expect(try await setup.count("marker = 0") == 60)
            #expect(try await setup.count("marker = 1") == 60)
            #expect(try await setup.rebuilder(client).rebuild() == 2)
            try await setup.expectAll(client)
        }
    }
}
