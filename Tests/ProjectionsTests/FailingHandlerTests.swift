import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// A handler that fails on one event in a thousand: the keys of these events are parked with its reasons, all other keys are
/// complete, and once it is mended a retry completes the rest in order.
@Suite struct FailingHandlerTests {
    private static let tenant = TenantID(UUID(high: 4, low: 9))
    private static let events =
        ProcessInfo.processInfo.environment["MARTLET_TEST_PARKED_EVENTS"].flatMap { Int($0) } ?? 12_000
    private static let runners = 4
    private static let triesMax: UInt32 = 3

    private let consumer: ConsumerID

    init() throws { consumer = ConsumerID(tenant: Self.tenant, name: try #require(ConsumerName("effects"))) }

    @Test func oneServerAndAReadModelInSQLite() async throws {
        let folder = try TemporaryFolder()
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await run([server], try await TestReadModels(.sqlite), number: "integer PRIMARY KEY")
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func twoServersAndAReadModelInPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        @Sendable func engine() -> PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 2, logger: .silent)
        }
        try await TestServer.with(engine()) { first in
            try await TestServer.with(engine()) { second in
                try await run([first, second], try await TestReadModels(.postgresql), number: "bigserial PRIMARY KEY")
            }
        }
    }

    /// - Parameter number: the type of a column that numbers rows in their order.
    private func run(_ servers: [TestServer], _ readModels: TestReadModels, number: String) async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        _ = try await readModels.rows(
            "CREATE TABLE effects (no \(number), id text NOT NULL, key text NOT NULL, version bigint NOT NULL)")
        _ = try await readModels.rows("CREATE TABLE sums (key text PRIMARY KEY, amount bigint NOT NULL)")
        let history = FailingHistory(events: Self.events, &random)
        let projection = FailingEffects(faults: history.faults)
        try await servers[0].withClient { client in
            var definition = ConsumerDefinition(slotCount: 16)
            definition.delivery.triesMax = Self.triesMax
            definition.delivery.backoffMin = .milliseconds(10)
            definition.delivery.backoffMax = .milliseconds(50)
            try await client.putConsumer(PutConsumerRequest(consumer, definition))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<Self.runners {
                    let server = servers[number % servers.count]
                    group.addTask { try await follow(number, server, readModels, projection) }
                }
                try await history.append(client, Self.tenant)
                let parked = try await awaitRest(client, place)
                try await expectParked(history, parked, readModels, place)
                projection.isMended.withLockedValue { $0 = true }
                try await retry(parked, client)
                #expect(try await awaitRest(client, place).isEmpty, "\(place)")
                group.cancelAll()
                try await group.waitForAll()
            }
        }
        try await history.expectEffects(readModels, place) { _ in .max }
        let tried = projection.handled.withLockedValue { $0 }
        print(
            """
            failing handler: \(place), \(Self.events) events of \(history.keys.count) keys, \(history.faults.count) failed, \
            \(history.firstFaults.count) keys parked, \(tried) times handled
            """)
    }

    private func follow(
        _ number: Int, _ server: TestServer, _ readModels: TestReadModels, _ projection: FailingEffects
    ) async throws {
        let worker = try #require(WorkerName("worker-\(number)"))
        try await server.withClient { client in
            try await ProjectionRunner(
                projection, of: consumer, as: worker, client: client, database: readModels, logger: .silent
            ).run()
        }
    }

    /// Waits until all that is not of a blocked key is settled, and no key is tried again by itself.
    private func awaitRest(_ client: MartletClient, _ place: String) async throws -> [ListedKey] {
        let head = try await client.head(of: Self.tenant).position
        #expect(head == Position(UInt64(Self.events)), "\(place)")
        let tooLong = ContinuousClock.now + .seconds(120 + Self.events / 100)
        while .now < tooLong {
            let settled = try await client.consumer(consumer).settledTo
            let keys = try await client.blockedKeys(of: consumer)
            if settled == head, keys.allSatisfy({ $0.blocked.until == .asked }) { return keys }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("\(place): the group does not come to rest")
        throw TestReadModels.Interrupted()
    }

    /// Expects the keys of events that fail to be parked, and all others to be complete.
    private func expectParked(
        _ history: FailingHistory, _ parked: [ListedKey], _ readModels: TestReadModels, _ place: String
    ) async throws {
        #expect(Set(parked.map(\.place.key)) == Set(history.firstFaults.keys.map { history.key($0) }), "\(place)")
        for listed in parked {
            let blocked = listed.blocked
            guard let id = blocked.first.eventID, let fault = history.faults[id] else {
                Issue.record("\(place): \(listed) is parked at an event that does not fail")
                continue
            }
            #expect(history.key(fault.key) == listed.place.key && history.firstFaults[fault.key] == id, "\(place)")
            #expect(blocked.reason == fault.reason, "\(place)")
            #expect(blocked.tries == (fault.isParked ? 1 : Self.triesMax), "\(place): \(blocked)")
        }
        try await history.expectEffects(readModels, place) { key in
            history.firstFaults[key].flatMap { history.faults[$0]?.version }.map { $0 - 1 } ?? .max
        }
    }

    private func retry(_ parked: [ListedKey], _ client: MartletClient) async throws {
        let keys = parked.map { UnblockKeysRequest.Key($0.place) }
        for start in stride(from: 0, to: keys.count, by: UnblockKeysRequest.keysMax) {
            let some = Array(keys[start..<min(keys.count, start + UnblockKeysRequest.keysMax)])
            #expect(try await client.unblockKeys(UnblockKeysRequest(consumer, keys: some)) == some.count)
        }
    }
}

/// An event that the handler cannot take in.
private struct Fault: Error, CustomStringConvertible {
    /// The number of its key.
    var key: Int
    var version: Int
    /// The handler parks its key; otherwise it throws what handlers throw.
    var isParked: Bool

    var reason: String { "event \(version) of account \(key) \(isParked ? "is no amount" : "cannot be read")" }
    var description: String { reason }
}

/// Events of many accounts, of which one in a thousand fails.
private struct FailingHistory: Sendable {
    private struct Moved {
        var key: Int
        var id: UUID
        var amount: Int64
    }

    let keys: [AggregateName]
    private let moved: [Moved]
    /// By the ids of their events.
    let faults: [UUID: Fault]
    /// Of each account that has any, the first event that fails.
    let firstFaults: [Int: UUID]

    init(events: Int, _ random: inout SeededGenerator) {
        let keys = (0..<max(1, events / 50)).map {
            AggregateName(type: AggregateName.new("account").type, id: UUID(high: 5, low: UInt64($0)))
        }
        var (moved, versions): ([Moved], [Int]) = ([], keys.map { _ in 0 })
        var (faults, firstFaults): ([UUID: Fault], [Int: UUID]) = ([:], [:])
        var failing = 0
        while moved.count < events {
            let key = Int.random(in: 0..<keys.count, using: &random)
            for _ in 0..<min(events - moved.count, Int.random(in: 1...20, using: &random)) {
                if moved.count % 1_000 == 0 { failing = moved.count + Int.random(in: 0..<1_000, using: &random) }
                versions[key] += 1
                let event = Moved(key: key, id: UUID.v7(), amount: Int64.random(in: -100...100, using: &random))
                if moved.count == failing {
                    faults[event.id] = Fault(key: key, version: versions[key], isParked: faults.count % 2 == 1)
                    if firstFaults[key] == nil { firstFaults[key] = event.id }
                }
                moved.append(event)
            }
        }
        (self.keys, self.moved, self.faults, self.firstFaults) = (keys, moved, faults, firstFaults)
    }

    func key(_ number: Int) -> ConsumerKey { ConsumerKey(.aggregate, aggregate: keys[number]) { _ in nil } }

    /// Appends the events in their order, those of an account that follow each other in one call.
    func append(_ client: MartletClient, _ tenant: TenantID) async throws {
        let type = EventType("Moved")
        var rest = moved[...]
        while let first = rest.first {
            let run = rest.prefix(20).prefix { $0.key == first.key }
            rest = rest.dropFirst(run.count)
            let events = run.map { NewEvent(id: $0.id, type: type, payload: ByteBuffer(string: "\($0.amount)")) }
            _ = try await client.append(events, to: keys[first.key], expecting: .any, tenant: tenant)
        }
    }

    /// Expects the read model to have each event once and each account in its order, up to a version.
    func expectEffects(
        _ readModels: TestReadModels, _ place: String, upTo last: (Int) -> Int,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        var (expected, versions, sums): (Set<String>, [Int: Int64], [String: Int64]) = ([], [:], [:])
        for event in moved {
            let version = versions[event.key, default: 0] + 1
            versions[event.key] = version
            guard version <= last(event.key) else { continue }
            expected.insert("\(event.id)")
            sums["\(key(event.key))", default: 0] += event.amount
        }
        let effects = try await readModels.rows("SELECT id, key, version FROM effects ORDER BY no")
        var (done, reached, outOfOrder): (Set<String>, [String: Int64], Int) = ([], [:], 0)
        for row in effects {
            guard let id = row[0].text, let key = row[1].text, let version = row[2].integer else { continue }
            if version != reached[key, default: 0] + 1 { outOfOrder += 1 }
            reached[key] = version
            done.insert(id)
        }
        let missing = expected.subtracting(done).count
        #expect(missing == 0, "\(place): \(missing) events are missing", sourceLocation: sourceLocation)
        #expect(
            done.subtracting(expected).isEmpty, "\(place): events behind one that failed took effect",
            sourceLocation: sourceLocation)
        #expect(effects.count == done.count, "\(place): events took effect twice", sourceLocation: sourceLocation)
        #expect(outOfOrder == 0, "\(place): keys are out of order", sourceLocation: sourceLocation)
        var found: [String: Int64] = [:]
        for row in try await readModels.rows("SELECT key, amount FROM sums") {
            if let key = row[0].text { found[key] = row[1].integer }
        }
        #expect(found == sums, "\(place)", sourceLocation: sourceLocation)
    }
}

/// Writes down each event and sums up the amounts of accounts; fails on some events, after it has written them.
private struct FailingEffects: Projection {
    let faults: [UUID: Fault]
    let isMended = NIOLockedValueBox(false)
    let handled = NIOLockedValueBox(0)

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        handled.withLockedValue { $0 += 1 }
        let recorded = event.event
        try await transaction.execute(
            "INSERT INTO effects (id, key, version) VALUES ($1, $2, $3)", .text("\(recorded.event.id)"),
            .text("\(event.key)"), .integer(Int64(recorded.version.rawValue)))
        try await transaction.execute(
            """
            INSERT INTO sums (key, amount) VALUES ($1, $2)
            ON CONFLICT (key) DO UPDATE SET amount = sums.amount + excluded.amount
            """, .text("\(event.key)"), .integer(Int64(String(buffer: recorded.event.payload)) ?? .min))
        guard let fault = faults[recorded.event.id], !isMended.withLockedValue({ $0 }) else { return }
        if fault.isParked { throw ProjectionFailure(.park, fault.reason) }
        throw fault
    }
}
