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

/// What is told of a consumer's lag comes to be true, mostly within a second, as an independent count of what was handled
/// has it.
@Suite struct ConsumerLagTests {
    private static let rounds = TestRounds.count(15, long: 100)

    /// A worker that holds what it is delivered until it is told to handle some of it.
    private struct Held: Sendable {
        var events: [ConsumedEvent] = []
        var settled: Set<Position> = []
        var parked: Set<ConsumerKey> = []
        var slots = 0
    }

    @Test(arguments: [false, true]) func onSQLite(isFiltered: Bool) async throws {
        let folder = try TemporaryFolder()
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await check([server, server], isFiltered: isFiltered)
        }
    }

    @Test(
        .enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"),
        arguments: [false, true])
    func onTwoServersOfOnePostgreSQL(isFiltered: Bool) async throws {
        let database = try PostgresTestDatabase()
        @Sendable func engine() -> PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 2, logger: .silent)
        }
        try await TestServer.with(engine()) { first in
            try await TestServer.with(engine()) { second in try await check([first, second], isFiltered: isFiltered) }
        }
    }

    private func check(_ servers: [TestServer], isFiltered: Bool) async throws {
        let random = SeededGenerator.fromEnvironment()
        let seed = "seed \(random.seed)"
        let tenant = TenantID(UUID())
        let consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("lag")))
        let types = ["account", "order", "stock"]
        let names = try types.flatMap { type in
            try (0..<5).map { number in
                AggregateName(type: try #require(AggregateType(type)), id: UUID(high: 9, low: UInt64(number)))
            }
        }
        let definition = try Self.definition(isFiltered ? types.dropFirst() : [])
        let held = NIOLockedValueBox(Held())
        try await servers[0].withClient { client in
            try await client.putConsumer(PutConsumerRequest(consumer, definition))
            try await servers[1].withClient { second in
                let consumptions = try [client, second].enumerated().map { number, client in
                    client.consume(ConsumeRequest(consumer, worker: try #require(WorkerName("worker-\(number)"))))
                }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    var random = random
                    for consumption in consumptions { group.addTask { try await Self.hold(consumption, held) } }
                    // Before they share the slots, events may come to both.
                    let tooLong = ContinuousClock.now + .seconds(20)
                    while try await client.consumer(consumer).slots.count(where: { $0.worker != nil }) < 5,
                        .now < tooLong
                    {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    try await Task.sleep(for: .milliseconds(500))
                    var log: [(key: ConsumerKey, position: Position, recordedAt: Timestamp)] = []
                    var head = Position.start
                    var times: [Duration] = []
                    for round in 0..<Self.rounds {
                        for _ in 0..<Int.random(in: 0...6, using: &random) {
                            let name = names[Int.random(in: 0..<names.count, using: &random)]
                            let event = NewEvent(
                                type: EventType("Moved"), payload: ByteBuffer(string: "1"))
                            let receipt = try await client.append([event], to: name, expecting: .any, tenant: tenant)
                            head = receipt.lastPosition
                            guard definition.filter.matches(name, event.type) else { continue }
                            log.append(
                                (ConsumerKey(.aggregate, aggregate: name) { _ in nil }, head, receipt.recordedAt))
                        }
                        Self.handleSome(held, consumptions, &random)
                        let changedAt = ContinuousClock.now
                        let (settled, parked) = held.withLockedValue { ($0.settled, $0.parked) }
                        let oldest = log.first { !settled.contains($0.position) && !parked.contains($0.key) }
                        let behind = head.rawValue - (oldest.map { $0.position.rawValue - 1 } ?? head.rawValue)
                        var told = try await client.consumer(consumer)
                        func isTrue() -> Bool {
                            told.positionsBehind == behind && told.oldest?.position == oldest?.position
                                && told.oldest?.recordedAt == oldest?.recordedAt && told.head.position == head
                                && told.blockedKeyCount == parked.count
                        }
                        while !isTrue(), .now - changedAt < .seconds(20) {
                            try await Task.sleep(for: .milliseconds(5))
                            told = try await client.consumer(consumer)
                        }
                        #expect(
                            isTrue(),
                            "\(seed), round \(round): \(behind) behind, oldest \(oldest as Any); told \(told)")
                        times.append(.now - changedAt)
                    }
                    times.sort()
                    // Not each: a machine that is busy may hold up any of them.
                    #expect(times[times.count * 3 / 4] < .seconds(1), "\(seed): \(times)")
                    print("lag: true after \(times[times.count - 1]) at most, \(log.count) events, \(head) positions")
                    group.cancelAll()
                }
            }
        }
    }

    private static func definition(_ types: ArraySlice<String>) throws -> ConsumerDefinition {
        var definition = ConsumerDefinition(slotCount: 5)
        definition.filter.aggregateTypes = Set(try types.map { try #require(AggregateType($0)) })
        definition.delivery.acknowledgementTimeout = .seconds(300)
        return definition
    }

    private static func hold(_ consumption: Consumption, _ held: NIOLockedValueBox<Held>) async throws {
        for try await item in consumption {
            if case .events(let events) = item { held.withLockedValue { $0.events += events } }
            if Task.isCancelled { return }
        }
    }

    /// Acknowledges some of what is held, each key's in order, and parks a few keys.
    private static func handleSome(
        _ held: NIOLockedValueBox<Held>, _ consumptions: [Consumption], _ random: inout SeededGenerator
    ) {
        held.withLockedValue { held in
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                guard let key = held.events.randomElement(using: &random)?.key,
                    let index = held.events.firstIndex(where: { $0.key == key })
                else { return }
                let event = held.events.remove(at: index)
                if Int.random(in: 0..<12, using: &random) == 0 {
                    held.events.removeAll { $0.key == key }
                    held.parked.insert(key)
                    // Dropped by the one whose delivery it is not.
                    for consumption in consumptions { consumption.reject(event.delivery, .park, reason: "by chance") }
                } else {
                    held.settled.insert(event.event.position)
                    for consumption in consumptions { consumption.acknowledge(event.delivery) }
                }
            }
        }
    }
}
