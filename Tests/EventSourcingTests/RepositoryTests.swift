import MartletModel
import MartletStorage
import MartletTesting
import MartletStorageMemory
import FoundationEssentials
import Logging
import MartletClient
import NIOConcurrencyHelpers
import NIOCore
import MartletStoragePostgreSQL
import MartletStorageSQLite
import Testing

@testable import MartletEventSourcing

typealias Accounts = MartletEventSourcing.Repository<Account>

@Suite struct RepositoryTests {
    private let tenant = TenantID(UUID())

    private func with(
        _ engine: any StorageEngine = MemoryEngine(),
        _ body: @escaping @Sendable (MartletClient) async throws -> Void
    ) async throws {
        try await TestServer.with(engine) { try await $0.withClient(body) }
    }

    private func options(_ snapshots: Snapshots) -> RepositoryOptions {
        var options = RepositoryOptions()
        options.snapshots = snapshots
        return options
    }

    @Test func commandsAreCarriedOut() async throws {
        try await with { client in
            let accounts = try Accounts(client.tenant(tenant))
            let id = UUID()
            await #expect(throws: AggregateNotFound.self) { try await accounts.load(id) }
            await #expect(throws: Account.Refusal.isNotOpen) { try await accounts.execute(id, .deposit(1)) }
            try await accounts.execute(id, .open(owner: "Ada"))
            let executed = try await accounts.execute(id, .deposit(5))
            #expect(executed.aggregate.cents == 5 && executed.aggregate.version == Version(2))
            let nothing = try await accounts.execute(id, .nothing)
            #expect(nothing.receipt == nil && nothing.aggregate.version == Version(2))
            #expect(try await accounts.load(id, asOf: .version(Version(1))).cents == 0)
            await #expect(throws: AggregateNotFound.self) {
                try await accounts.load(id, asOf: .position(Position(0)))
            }
            #expect(try await client.head(of: tenant).position == Position(2))
        }
    }

    @Test func metadataFlows() async throws {
        try await with { client in
            let accounts = try Accounts(client.tenant(tenant))
            let id = UUID()
            var context = CommandContext()
            context.userID = "ada"
            context.correlationID = "transfer"
            context.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            context.tracestate = "congo=t61rcWkgMzE"
            try await CommandContext.$current.withValue(context) {
                _ = try await accounts.execute(id, .open(owner: "Ada"))
            }
            var stored: [RecordedEvent] = []
            for try await event in try await client.read(ReadRequest(tenant: tenant)) { stored.append(event) }
            let metadata = try #require(stored.first).event.metadata
            #expect(metadata.userID == "ada" && metadata.correlationID == "transfer")
            #expect(metadata.causationID == context.commandID.uuidString.lowercased())
            #expect(metadata.traceparent == context.traceparent && metadata.tracestate == context.tracestate)
            let next = CommandContext(causedBy: stored[0])
            #expect(next.traceparent == context.traceparent && next.tracestate == context.tracestate)
            #expect(next.correlationID == "transfer" && next.causationID == stored[0].event.id.uuidString.lowercased())
        }
    }

    @Test func lostAnswersAreAskedForAgain() async throws {
        try await with { client in
            let calls = FaultyCalls(client, [.answerLost, .notSent])
            let accounts = try Accounts(calls, tenant: tenant)
            let executed = try await accounts.execute(UUID(), .open(owner: "Ada"))
            #expect(executed.receipt?.replayed == true && executed.decisions == 1)
            #expect(accounts.figures.resends == 2)
            #expect(try await client.head(of: tenant).position == Position(1), "stored once")
        }
    }

    @Test func conflictsAreRebasedOnWhatTheServerSent() async throws {
        try await with { client in
            let others = try Accounts(client.tenant(tenant))
            let id = UUID()
            try await others.execute(id, .open(owner: "Ada"))
            try await others.execute(id, .deposit(10))
            let calls = FaultyCalls(client)
            let accounts = try Accounts(calls, tenant: tenant)
            calls.before.withLockedValue { $0 = [{ _ = try await others.execute(id, .deposit(7)) }] }
            let executed = try await accounts.execute(id, .withdraw(9))
            #expect(executed.decisions == 2)
            #expect(executed.aggregate.cents == 8 && executed.aggregate.changes == [10, 7, -9])
            #expect(calls.loads.withLockedValue { $0 } == 1, "nothing was loaded again")
            // A second decision may refuse what the first one did not.
            calls.before.withLockedValue { $0 = [{ _ = try await others.execute(id, .withdraw(5)) }] }
            await #expect(throws: Account.Refusal.tooLittle(3)) { try await accounts.execute(id, .withdraw(7)) }
        }
    }

    @Test func keysNameAggregates() async throws {
        try await with { client in
            let accounts = try Accounts(client.tenant(tenant))
            try await accounts.execute(key: "ada/1", .open(owner: "Ada"))
            try await accounts.execute(key: "ada/1") { _ in [.deposited(.init(cents: 7))] }
            #expect(try await accounts.load(key: "ada/1").cents == 7)
            #expect(try await accounts.load(accounts.id(ofKey: "ada/1")).version == 2)
            for try await event in try await client.tenant(tenant).read() { #expect(event.aggregateKey == "ada/1") }
            await #expect(throws: MartletError.self) { try await accounts.load(key: "") }
        }
    }

    private func move(
        _ cents: Int, _ from: UUID, _ to: UUID, _ accounts: Accounts
    ) async throws -> (Executed<Account>, Executed<Account>) {
        try await accounts.execute(from, with: to, of: accounts) { from, to in
            (try from.decide(.withdraw(cents)), try to.decide(.deposit(cents)))
        }
    }

    @Test func twoAggregatesDecideTogether() async throws {
        try await with { client in
            let others = try Accounts(client.tenant(tenant))
            let (ada, bob) = (UUID(), UUID())
            for account in [ada, bob] { try await others.execute(account, .open(owner: "A")) }
            try await others.execute(ada, .deposit(12))
            let calls = FaultyCalls(client, [.answerLost, .notSent])
            let accounts = try Accounts(calls, tenant: tenant)
            #expect(try await move(2, ada, bob, accounts).0.receipt?.replayed == true, "stored once")
            // A conflict of the second, and one of the first.
            calls.before.withLockedValue {
                $0 = [
                    { _ = try await others.execute(ada, .withdraw(1)) },
                    { _ = try await others.execute(bob, .deposit(2)) },
                ]
            }
            let moved = try await move(6, ada, bob, accounts)
            #expect(moved.0.decisions == 3 && moved.0.receipt == moved.1.receipt)
            #expect(moved.0.aggregate.cents == 3 && moved.1.aggregate.cents == 10)
            #expect(moved.0.receipt?.aggregates.count == 2, "one append")
            #expect(try await others.load(ada).state == moved.0.aggregate.state)
            #expect(try await others.load(bob).state == moved.1.aggregate.state)
            #expect(calls.loads.withLockedValue { $0 } == 4, "nothing was loaded again")
            // A second decision may refuse what the first one did not: nothing of either is stored.
            calls.before.withLockedValue { $0 = [{ _ = try await others.execute(ada, .withdraw(1)) }] }
            await #expect(throws: Account.Refusal.tooLittle(2)) { try await move(3, ada, bob, accounts) }
            #expect(try await others.load(bob).cents == 10)
            let idle = try await accounts.execute(ada, with: bob, of: accounts) { _, _ in ([], []) }
            #expect(idle.0.receipt == nil && idle.1.receipt == nil)
            let one = try await accounts.execute(ada, with: bob, of: accounts) { _, _ in ([], [.closed]) }
            #expect(one.0.aggregate.version == idle.0.aggregate.version && one.1.aggregate.owner == nil)
            await #expect(throws: MartletError.self) { try await move(1, ada, ada, accounts) }
        }
    }

    @Test func racingTransfersLoseNothing() async throws {
        try await with { client in
            var options = options(.every(5))
            options.decisionsMax = 1_000
            let accounts = try Accounts(client.tenant(tenant), options: options)
            let ids = (0..<3).map { _ in UUID() }
            for id in ids {
                try await accounts.execute(id, .open(owner: "A"))
                try await accounts.execute(id, .deposit(1_000))
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<3 {
                    group.addTask {
                        for step in 0..<30 {
                            let from = ids[(number + step) % 3]
                            _ = try await move(1, from, ids[(number + step + 1) % 3], accounts)
                        }
                    }
                }
                try await group.waitForAll()
            }
            var sum = 0
            for id in ids { sum += try await accounts.load(id).cents }
            #expect(sum == 3_000)
        }
    }

    @Test func snapshotsFollowTheServersAdvice() async throws {
        try await with { client in
            try await client.putSettings(
                PutSettingsRequest(
                    tenant: tenant, kind: .snapshotPolicies,
                    document: ByteBuffer(string: #"{"policies":[{"aggregate_type":"account","every_events":3}]}"#)))
            let accounts = try Accounts(client.tenant(tenant))
            let id = UUID()
            try await accounts.execute(id, .open(owner: "Ada"))
            for _ in 0..<9 { try await accounts.execute(id, .deposit(1)) }
            #expect(accounts.figures.snapshotsSaved == 3, "\(accounts.figures)")
            let loaded = try await accounts.load(id)
            #expect(loaded.snapshotVersion == Version(9) && loaded.eventsReplayed == 1 && loaded.cents == 9)
        }
    }

    @Test func aFailedSaveFailsNoCommand() async throws {
        try await with { client in
            let calls = FaultyCalls(client)
            let accounts = try Accounts(calls, tenant: tenant)
            let executed = try await accounts.execute(UUID(), .open(owner: "Ada"))
            calls.faults.withLockedValue { $0 = [.notSent] }
            #expect(await accounts.saveSnapshot(of: executed.aggregate) == false)
            #expect(accounts.figures.snapshotSavesFailed == 1)
        }
    }

    @Test func unusableSnapshotsAreReplayed() async throws {
        let engine = MemoryEngine()
        try await with(engine) { client in
            let accounts = try Accounts(client.tenant(tenant), options: options(.never))
            let id = UUID()
            let name = AggregateName(type: Account.type, id: id)
            try await accounts.execute(id, .open(owner: "Ada"))
            for _ in 0..<5 { try await accounts.execute(id, .deposit(1)) }
            let expected = try await accounts.load(id).state
            func save(_ version: UInt64, schema: UInt32, _ json: String) async throws {
                _ = try await client.saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: name, version: Version(version),
                        snapshot: NewSnapshot(schemaVersion: schema, payload: ByteBuffer(string: json))))
            }
            // Its upcaster fails.
            try await save(2, schema: 1, #"{"id":"nobody"}"#)
            #expect(try await accounts.load(id).state == expected)
            #expect(accounts.figures.snapshotsUndecodable == 1)
            // No upcaster, and it cannot be decoded.
            try await save(3, schema: 2, #"{"cents":"many"}"#)
            #expect(try await accounts.load(id).state == expected)
            #expect(accounts.figures.snapshotsUndecodable == 2)
            // One of version 1 whose upcaster works.
            try await save(
                4, schema: 1, #"{"id":"\#(id.uuidString)","owner":"Ada","cents":3}"#)
            let upcast = try await accounts.load(id)
            #expect(upcast.snapshotVersion == Version(4) && upcast.cents == 5 && upcast.eventsReplayed == 2)
            // Damaged, and of a newer schema: the server passes over both.
            let before = try await client.status().snapshotsSkipped
            try await save(5, schema: 2, #"{"id":"\#(id.uuidString)","cents":4,"changes":[]}"#)
            engine.damageSnapshot(of: name, in: tenant, at: Version(5))
            try await save(6, schema: 9, "{}")
            #expect(try await accounts.load(id).cents == 5)
            #expect(try await client.status().snapshotsSkipped >= before + 2)
            #expect(accounts.figures.snapshotsSkipped == 2)
        }
    }

    /// For random histories and snapshot policies, the state from snapshot and tail is that of a full replay.
    private func compareEverywhere(_ engine: any StorageEngine, rounds: Int) async throws {
        let seeded = SeededGenerator.fromEnvironment()
        print("snapshot and tail: MARTLET_TEST_SEED=\(seeded.seed)")
        try await with(engine) { client in
            var random = seeded
            for _ in 0..<rounds {
                let policy: Snapshots =
                    [.never, .whenDue, .every(1), .every(UInt64.random(in: 2...9, using: &random))]
                    .randomElement(using: &random) ?? .never
                let accounts = try Accounts(client.tenant(tenant), options: options(policy))
                let id = UUID()
                var states = [try await accounts.execute(id, .open(owner: "Ada")).aggregate]
                for _ in 0..<Int.random(in: 1...30, using: &random) {
                    let count = Int.random(in: 1...3, using: &random)
                    let amounts = (0..<count).map { _ in Int.random(in: 1...9, using: &random) }
                    states.append(
                        try await accounts.execute(id) { _ in amounts.map { .deposited(.init(cents: $0)) } }.aggregate)
                    if Int.random(in: 0..<5, using: &random) == 0, let any = states.randomElement(using: &random) {
                        await accounts.saveSnapshot(of: any)
                    }
                }
                let last = try #require(states.last)
                var replayed = Account(id: id)
                for try await event in try await client.load(
                    LoadRequest(tenant: tenant, aggregate: AggregateName(type: Account.type, id: id)))
                {
                    for case .event(let event) in try accounts.codec.decode(event) { replayed.apply(event) }
                    let target: LoadTarget =
                        Bool.random(using: &random) ? .version(event.version) : .position(event.position)
                    let loaded = try await accounts.load(id, asOf: target)
                    #expect(loaded.state == replayed && loaded.version == event.version, "\(target), \(policy)")
                }
                #expect(last.state == replayed)
                for state in states {
                    #expect(try await accounts.load(id, asOf: .version(state.version)).state == state.state)
                }
            }
        }
    }

    @Test func snapshotAndTailAreTheFullReplayInMemory() async throws {
        try await compareEverywhere(MemoryEngine(), rounds: 20)
    }

    @Test func snapshotAndTailAreTheFullReplayOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await compareEverywhere(SQLiteEngine(path: folder.path + "/m.db", logger: .silent), rounds: 10)
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func snapshotAndTailAreTheFullReplayOnPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        try await compareEverywhere(
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 1, logger: .silent),
            rounds: 10)
    }

    /// Two clients on one aggregate at full speed.
    @Test func noUpdateIsLost() async throws {
        let folder = try TemporaryFolder()
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            let id = UUID()
            try await withThrowingTaskGroup(of: Void.self) { group in
                try await server.withClient { client in
                    _ = try await Accounts(client.tenant(tenant)).execute(id, .open(owner: "Ada"))
                }
                for _ in 0..<2 {
                    group.addTask {
                        try await server.withClient { client in
                            var options = options(.every(10))
                            options.decisionsMax = 1_000
                            let accounts = try Accounts(client.tenant(tenant), options: options)
                            for _ in 0..<100 { try await accounts.execute(id, .deposit(1)) }
                        }
                    }
                }
                try await group.waitForAll()
                try await server.withClient { client in
                    let account = try await Accounts(client.tenant(tenant)).load(id)
                    #expect(account.cents == 200 && account.version == Version(201))
                }
            }
        }
    }
}
