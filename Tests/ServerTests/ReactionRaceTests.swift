import FoundationEssentials
import MartletClient
import MartletModel
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Workers that react to each event of a consumer by an append that settles it, on one server or two, while they die, fall
/// silent past their lease and go on as if nothing had happened, and fail on events. Each reaction has an id of its own, so
/// that a second one would be stored: each event has one all the same.
@Suite struct ReactionRaceTests {
    private static let tenant = TenantID(UUID(high: 4, low: 5))
    private static let eventCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_REACTION_EVENTS"].flatMap { Int($0) } ?? 300
    private static let lease = 600

    private struct Tally {
        var fenced = 0
        var settled = 0
        var takenBack = 0
        var rejected = 0
    }

    private let consumer: ConsumerID
    private let tally = NIOLockedValueBox(Tally())

    init() throws { consumer = ConsumerID(tenant: Self.tenant, name: try #require(ConsumerName("reactions"))) }

    private static var limits: Limits {
        var limits = Limits()
        limits.consumerLeaseMillis = lease
        return limits
    }

    @Test func oneServerOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await TestServer.with(
            SQLiteEngine(path: folder.path + "/m.db", logger: .silent), limits: Self.limits
        ) { server in try await race([server]) }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func twoServersOnPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        @Sendable func engine() -> PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 2, logger: .silent)
        }
        try await TestServer.with(engine(), limits: Self.limits) { first in
            try await TestServer.with(engine(), limits: Self.limits) { second in try await race([first, second]) }
        }
    }

    private func race(_ servers: [TestServer]) async throws {
        let random = SeededGenerator.fromEnvironment()
        try await servers[0].withClient { client in
            var definition = ConsumerDefinition(slotCount: 6)
            definition.filter.aggregateTypes = [AggregateName.new("account").type]
            definition.delivery.acknowledgementTimeout = .seconds(1)
            definition.delivery.backoffMin = .milliseconds(20)
            definition.delivery.triesMax = 1_000
            try await client.putConsumer(PutConsumerRequest(consumer, definition))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<5 {
                    group.addTask { try await work(number, servers, seed: random.seed &+ UInt64(number)) }
                }
                try await append(client, seed: random.seed)
                let head = try await client.head(of: Self.tenant).position
                try await client.awaitConsumer(consumer, position: head, timeout: .seconds(300))
                // Up to there, all is settled or blocked: the rest is tried again.
                let tooLong = ContinuousClock.now + .seconds(300)
                while try await client.consumer(consumer).blockedKeyCount > 0, .now < tooLong {
                    try await Task.sleep(for: .milliseconds(20))
                }
                group.cancelAll()
            }
            var reactions: [String: Int] = [:]
            for try await event in try await client.read(ReadRequest(tenant: Self.tenant)) {
                guard event.event.type.text == "Reacted" else { continue }
                reactions[String(buffer: event.event.payload), default: 0] += 1
            }
            let seed = "seed \(random.seed)"
            #expect(reactions.count == Self.eventCount, "\(seed): an event without a reaction")
            #expect(reactions.values.allSatisfy { $0 == 1 }, "\(seed): a second reaction")
        }
        let tally = tally.withLockedValue { $0 }
        print(
            "reactions: \(tally.fenced) fenced, \(tally.settled) settled before, \(tally.takenBack) taken back, \(tally.rejected) rejected"
        )
    }

    private func append(_ client: MartletClient, seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let keys = (0..<30).map { AggregateName(type: AggregateName.new("account").type, id: UUID(high: 5, low: $0)) }
        let type = EventType("Moved")
        for _ in 0..<Self.eventCount {
            let key = keys[Int.random(in: 0..<keys.count, using: &random)]
            let event = NewEvent(type: type, payload: ByteBuffer(string: "{}"))
            _ = try await client.append([event], to: key, expecting: .any, tenant: Self.tenant)
        }
    }

    /// A worker's lives, one after the other.
    private func work(_ number: Int, _ servers: [TestServer], seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let name = try #require(WorkerName("worker-\(number)"))
        while !Task.isCancelled {
            let server = servers[Int.random(in: 0..<servers.count, using: &random)]
            let seed = random.next()
            try? await server.withClient { client in
                var random = SeededGenerator(seed: seed)
                try await live(client, name, &random)
            }
        }
    }

    /// One life: until it dies by chance, or the stream ends.
    private func live(_ client: MartletClient, _ name: WorkerName, _ random: inout SeededGenerator) async throws {
        let consumption = client.consume(ConsumeRequest(consumer, worker: name))
        // Of each slot, what waits, and up to where it must be stored first.
        var waiting: [Int: [ConsumedEvent]] = [:]
        var rejected: [Int: Position] = [:]
        // Of each slot's keys, what was rejected: later events of a key are passed over until that comes again.
        var failed: [Int: [ConsumerKey: Position]] = [:]
        let (type, target) = (EventType("Reacted"), AggregateName.new("reactions"))
        for try await item in consumption {
            if Task.isCancelled { return }
            switch item {
            case .revoked(let slots):
                for slot in slots { (waiting[slot], rejected[slot], failed[slot]) = (nil, nil, nil) }
            case .committed(let slot, let checkpoint):
                if let position = rejected[slot], checkpoint.position >= position { rejected[slot] = nil }
            case .events(let events): for event in events { waiting[event.slot, default: []].append(event) }
            default: break
            }
            for slot in waiting.keys.sorted() {
                while rejected[slot] == nil, let event = waiting[slot]?.first {
                    waiting[slot]?.removeFirst()
                    if let position = failed[slot]?[event.key], event.event.position > position { continue }
                    failed[slot]?[event.key] = nil
                    switch Int.random(in: 0..<100, using: &random) {
                    case 0: return
                    case 1: try await Task.sleep(for: .milliseconds(2 * Self.lease))
                    case 2...5:
                        tally.withLockedValue { $0.rejected += 1 }
                        consumption.reject(event.delivery, .retry(after: .milliseconds(10)), reason: "by chance")
                        rejected[slot] = event.event.position
                        failed[slot, default: [:]][event.key] = event.event.position
                        continue
                    default: break
                    }
                    let reaction = NewEvent(type: type, payload: ByteBuffer(string: "\"\(event.event.event.id)\""))
                    do throws(MartletError) {
                        _ = try await client.append(
                            [NewAggregateEvents(aggregate: target, expected: .any, events: [reaction])],
                            tenant: Self.tenant, checkpoint: event.checkpoint(of: consumer.name))
                    } catch {
                        switch error.reason {
                        case .eventTakenBack:
                            tally.withLockedValue { $0.takenBack += 1 }
                            continue
                        case .fenced:
                            tally.withLockedValue { $0.fenced += 1 }
                            continue
                        case .eventSettled: tally.withLockedValue { $0.settled += 1 }
                        default: throw error
                        }
                    }
                    consumption.acknowledge(event.delivery)
                }
            }
        }
    }
}
