import Foundation
import MartletClient
import MartletEventSourcing
import MartletModel
import MartletProcesses
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Runners of a process that takes no look at its state and fails by chance, on one server or two, which are stopped in the
/// middle of anything: each event is noted once by each instance that it concerns.
@Suite struct ProcessRaceTests {
    private static let eventCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_REACTION_EVENTS"].flatMap { Int($0) } ?? 300

    private let tenant = TenantID(UUID())
    private let consumer: ConsumerID

    init() throws { consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("notes"))) }

    @Test func oneServerOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await race([server])
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func twoServersOnPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        @Sendable func engine() -> PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 2, logger: .silent)
        }
        try await TestServer.with(engine()) { first in
            try await TestServer.with(engine()) { second in try await race([first, second]) }
        }
    }

    private func race(_ servers: [TestServer]) async throws {
        let random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        try await servers[0].withClient { client in
            var definition = ConsumerDefinition(filter: Notes.filter(reactingTo: Notes.sources), slotCount: 6)
            definition.delivery.backoffMin = .milliseconds(20)
            definition.delivery.triesMax = 1_000
            try await client.putConsumer(PutConsumerRequest(consumer, definition))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<4 {
                    group.addTask { try await work(number, servers, seed: random.seed &+ UInt64(number)) }
                }
                try await append(client, seed: random.seed)
                let head = try await client.head(of: tenant).position
                try await client.awaitConsumer(consumer, position: head, timeout: .seconds(120))
                // Up to there, all is settled or blocked: the rest is tried again.
                let tooLong = ContinuousClock.now + .seconds(120)
                while try await client.consumer(consumer).blockedKeyCount > 0, .now < tooLong {
                    try await Task.sleep(for: .milliseconds(20))
                }
                group.cancelAll()
            }
            var notes: [String: [UUID]] = [:]
            for try await event in try await client.read(ReadRequest(tenant: tenant)) {
                guard event.aggregate.type == Note.type else { continue }
                notes[String(buffer: event.event.payload), default: []].append(event.aggregate.id)
            }
            #expect(notes.count == Self.eventCount, "\(place): an event that nobody noted")
            #expect(
                notes.values.allSatisfy { $0.count == 2 && $0[0] != $0[1] }, "\(place): noted again, or by one only")
        }
    }

    private func append(_ client: MartletClient, seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let type = EventType("Moved")
        for _ in 0..<Self.eventCount {
            let source = AggregateName(type: Notes.sources, id: UUID(high: 5, low: .random(in: 0..<30, using: &random)))
            let event = NewEvent(type: type, payload: ByteBuffer(string: "{}"))
            _ = try await client.append([event], to: source, expecting: .any, tenant: tenant)
        }
    }

    /// A runner's lives, one after the other.
    private func work(_ number: Int, _ servers: [TestServer], seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let notes = Notes(random: NIOLockedValueBox(SeededGenerator(seed: random.next())))
        let worker = try #require(WorkerName("runner-\(number)"))
        while !Task.isCancelled {
            let server = servers[Int.random(in: 0..<servers.count, using: &random)]
            let life = Duration.milliseconds(Int.random(in: 50...600, using: &random))
            try? await server.withClient { client in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await ProcessRunner(notes, of: consumer, as: worker, client: client).run() }
                    group.addTask { try await Task.sleep(for: life) }
                    try await group.next()
                    group.cancelAll()
                }
            }
        }
    }
}

private struct Note: Aggregate {
    /// Its payload is the noted event's id. The aggregate has no events but these: no enum is needed.
    struct Event: EventPayload {
        static let eventType: EventType = "noted"
        var id: UUID
    }

    static let type: AggregateType = "note"
    static let schema = Schema<Note>().event { (event: Event) in event }

    init(id: UUID) {}
    mutating func apply(_ event: Event) {}
}

/// Notes each event in two instances of five.
private struct Notes: ProcessManager {
    typealias State = Note

    static let sources = AggregateType("source")
    let random: NIOLockedValueBox<SeededGenerator>

    func correlate(_ event: ProcessEvent) -> [UUID] {
        guard event.recorded.aggregate.type == Self.sources else { return [] }
        let number = event.recorded.position.rawValue
        return [UUID(high: 6, low: number % 5), UUID(high: 6, low: (number + 1) % 5)]
    }

    func plan(_ event: ProcessEvent, for note: Loaded<Note>) throws -> Plan {
        if random.withLockedValue({ Int.random(in: 0..<40, using: &$0) }) == 0 {
            throw PlanFailure(.retry(after: .milliseconds(10)), "by chance")
        }
        return Plan().record(.init(id: event.recorded.event.id))
    }
}
