import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Servers that come back with another past than the one that a read model has taken in, checkpoints and all.
@Suite(.timeLimit(.minutes(2))) struct PastTests {
    private let consumer: ConsumerID
    private let worker: WorkerName

    init() throws {
        consumer = ConsumerID(
            tenant: TenantID(UUID(high: 4, low: 7)), name: try #require(ConsumerName("rows")))
        worker = try #require(WorkerName("a"))
    }

    /// Writes down each event.
    private struct Rows: Projection {
        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            let text = String(buffer: event.event.event.payload)
            guard text != "bad" else { throw ProjectionFailure(.park, "it is bad") }
            try await transaction.execute("INSERT INTO rows (text) VALUES ($1)", .text(text))
        }
    }

    private static func event(_ number: UInt64, _ text: String) throws -> NewEvent {
        NewEvent(
            id: UUID(high: 9, low: number), type: EventType("Noted"), contentType: "text/plain",
            payload: ByteBuffer(string: text))
    }

    /// Appends events with the ids of these numbers, each to the aggregate of its own number in turn.
    private func append(_ numbers: ClosedRange<UInt64>, _ client: MartletClient, text: String = "old") async throws {
        let type = AggregateName.new("note").type
        for number in numbers {
            _ = try await client.append(
                [Self.event(number, "\(text) \(number)")],
                to: AggregateName(type: type, id: UUID(high: 8, low: number % 7)), expecting: .any,
                tenant: consumer.tenant)
        }
    }

    private func put(_ client: MartletClient, slots: Int = 4) async throws {
        try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: slots)))
    }

    private func readModel(_ folder: TemporaryFolder) async throws -> SQLiteReadModels {
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        _ = try await readModels.withTransaction { try await $0.execute("CREATE TABLE rows (text text NOT NULL)") }
        return readModels
    }

    private func rows<Database: ProjectionDatabase>(_ readModels: Database) async throws -> [String] {
        try await readModels.withTransaction { try await $0.execute("SELECT text FROM rows ORDER BY text") }
            .compactMap { $0[0].text }
    }

    private func runner<Database: ProjectionDatabase>(
        _ client: MartletClient, _ readModels: Database
    ) -> ProjectionRunner<Database> {
        ProjectionRunner(Rows(), of: consumer, as: worker, client: client, database: readModels, logger: .silent)
    }

    /// Runs until everything that is there is taken in.
    private func takeIn<Database: ProjectionDatabase>(_ client: MartletClient, _ readModels: Database) async throws {
        let head = try await client.head(of: consumer.tenant).position
        try await withThrowingTaskGroup(of: Void.self) { group in
            let runner = runner(client, readModels)
            group.addTask { try await runner.run() }
            try await client.awaitConsumer(consumer, position: head, timeout: .seconds(20))
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    /// Fills a read model from a server that is lost afterwards, then runs `body` with one that knows nothing.
    private func afterALoss<Database: ProjectionDatabase>(
        of count: UInt64, slots: Int = 4, _ readModels: Database,
        _ body: @escaping @Sendable (MartletClient) async throws -> Void
    ) async throws {
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await put(client, slots: slots)
                try await append(1...count, client)
                try await takeIn(client, readModels)
            }
        }
        #expect(try await rows(readModels).count == Int(count))
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await put(client, slots: slots)
                try await body(client)
            }
        }
    }

    private func error<Database: ProjectionDatabase>(
        of client: MartletClient, _ readModels: Database
    ) async throws -> MartletError {
        let runner = runner(client, readModels)
        return try await #require(throws: MartletError.self) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await runner.run() }
                group.addTask { try await Task.sleep(for: .seconds(5)) }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
    }

    @Test func otherEventsAtPositionsThatWerePassedStopTheRunner() async throws {
        let readModels = try await readModel(TemporaryFolder())
        try await afterALoss(of: 12, readModels) { client in
            // The first 8 are kept, the others are lost, and more come than there were.
            try await append(1...8, client)
            try await append(100...110, client, text: "new")
            let before = try await rows(readModels)
            for _ in 0..<3 {
                let error = try await error(of: client, readModels)
                #expect(error.reason == .historyChanged && !error.isRetryable)
                let words = [
                    "rows", "\(consumer.tenant)", "position 12", "slot ", "\(UUID(high: 9, low: 12))".lowercased(),
                    "\(UUID(high: 9, low: 103))".lowercased(), "martlet_projection_slots", "reset",
                ]
                for word in words { #expect(error.message.contains(word), "\(word): \(error.message)") }
                #expect(try await rows(readModels) == before, "something of another past was taken in")
            }
            // What the message says to do.
            try await readModels.withTransaction {
                for table in ["rows", "martlet_projection_slots", "martlet_projection_keys"] {
                    try await $0.execute("DELETE FROM \(table)")
                }
            }
            try await client.resetConsumer(ResetConsumerRequest(consumer, start: .after(.start)))
            try await takeIn(client, readModels)
            let all = (1...8).map { "old \($0)" } + (100...110).map { "new \($0)" }
            #expect(try await rows(readModels) == all.sorted())
        }
    }

    @Test func aHeadBelowWhatWasTakenInStopsTheRunner() async throws {
        let readModels = try await readModel(TemporaryFolder())
        try await afterALoss(of: 12, readModels) { client in
            for kept in 0...5 as ClosedRange<UInt64> {
                if kept > 0 { try await append(kept...kept, client) }
                let error = try await error(of: client, readModels)
                #expect(error.reason == .historyChanged && error.message.contains("its last position is \(kept)"))
            }
            #expect(try await rows(readModels).count == 12)
        }
    }

    @Test func theSamePastGoesOn() async throws {
        let readModels = try await readModel(TemporaryFolder())
        try await afterALoss(of: 12, readModels) { client in
            // Everything is there again, but for how far the consumer had come.
            try await append(1...20, client)
            try await takeIn(client, readModels)
            #expect(try await rows(readModels) == (1...20).map { "old \($0)" }.sorted())
        }
    }

    @Test func theSlotsOwnRowIsComparedToo() async throws {
        let readModels = try await readModel(TemporaryFolder())
        try await afterALoss(of: 12, readModels) { client in
            try await append(1...13, client)
            // Another slot has gone on in the new past, before this one was claimed in it.
            let lowest = try await readModels.withTransaction { transaction in
                let slots = try await transaction.execute(
                    "SELECT slot, position FROM martlet_projection_slots WHERE position > 0 ORDER BY position")
                #expect(slots.count > 1)
                let (slot, position) = (slots[0][0], slots[0][1])
                try await transaction.execute(
                    "UPDATE martlet_projection_slots SET event_id = $1 WHERE slot = $2",
                    .text("\(UUID(high: 9, low: 500))"), slot)
                return (slot: slot.integer ?? -1, position: position.integer ?? -1)
            }
            let error = try await error(of: client, readModels)
            #expect(error.reason == .historyChanged)
            #expect(error.message.contains("position \(lowest.position) in slot \(lowest.slot),"), "\(error.message)")
        }
    }

    @Test func aPositionWithoutAnEventIDIsNotTrusted() async throws {
        let readModels = try await readModel(TemporaryFolder())
        try await afterALoss(of: 3, slots: 1, readModels) { client in
            try await append(1...4, client)
            _ = try await readModels.withTransaction {
                try await $0.execute("UPDATE martlet_projection_slots SET event_id = NULL")
            }
            let error = try await error(of: client, readModels)
            #expect(error.reason == .historyChanged && error.message.contains("whose id it does not hold"))
        }
    }

    @Test func aRunnerThatIsAtWorkIsStoppedToo() async throws {
        let readModels = try await readModel(TemporaryFolder())
        let (engine, restored) = (MemoryEngine(), MemoryEngine())
        for (engine, numbers) in [(engine, 1...12), (restored, 100...140)] as [(MemoryEngine, ClosedRange<UInt64>)] {
            try await TestServer.with(engine) { server in
                try await server.withClient { client in
                    try await put(client)
                    try await append(numbers, client)
                }
            }
        }
        let configuration = try await TestServer.with(engine) { $0.clientConfiguration }
        // The client outlives the server, and so does the runner.
        let error = try await MartletClient.withClient(configuration, logger: .silent) { client in
            let runner = runner(client, readModels)
            let end = Task { try await runner.run() }
            _ = try await TestServer.with(engine, port: configuration.port) { server in
                try await server.withClient {
                    try await $0.awaitConsumer(consumer, position: Position(12), timeout: .seconds(20))
                }
            }
            return try await TestServer.with(restored, port: configuration.port) { _ in
                try await #require(throws: MartletError.self) { try await end.value }
            }
        }
        #expect(error.reason == .historyChanged)
        #expect(try await rows(readModels) == (1...12).map { "old \($0)" }.sorted())
    }

    @Test func rowsOfSlotsAndKeysNameTheirEvents() async throws {
        let readModels = try await readModel(TemporaryFolder())
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await put(client, slots: 1)
                let note = AggregateName(type: AggregateName.new("note").type, id: UUID(high: 8, low: 1))
                for (number, text) in [(1, "one"), (2, "two"), (3, "bad"), (4, "four")] as [(UInt64, String)] {
                    let aggregate = text == "four" ? AggregateName.new("note") : note
                    _ = try await client.append(
                        [Self.event(number, text)], to: aggregate, expecting: .any, tenant: consumer.tenant)
                }
                try await takeIn(client, readModels)
            }
        }
        let (slots, keys) = try await readModels.withTransaction {
            (
                try await $0.execute("SELECT position, event_id FROM martlet_projection_slots"),
                try await $0.execute("SELECT position, event_id FROM martlet_projection_keys")
            )
        }
        #expect(slots == [[.integer(4), .text("\(UUID(high: 9, low: 4))".lowercased())]])
        #expect(keys == [[.integer(2), .text("\(UUID(high: 9, low: 2))".lowercased())]])
    }

    @Test func aClaimWhoseAnswerIsLostIsMadeAgain() async throws {
        let readModels = try await readModel(TemporaryFolder())
        let flaky = LosesFirstAnswers(base: readModels, of: "INSERT INTO martlet_projection_slots")
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await put(client)
                try await append(1...20, client)
                try await takeIn(client, flaky)
            }
        }
        #expect(flaky.lost.withLockedValue { $0 } == 4)
        #expect(try await rows(readModels).count == 20)
    }

    @Test func tablesWithoutEventIDsAreRefusedInSQLite() async throws {
        try await expectRefusal(of: readModel(TemporaryFolder()))
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func tablesWithoutEventIDsAreRefusedInPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        let url = database.url + (database.url.contains("?") ? "&" : "?") + "options=-csearch_path%3D\(database.schema)"
        let readModels = PostgreSQLReadModels(url)
        _ = try await readModels.withTransaction { try await $0.execute("CREATE SCHEMA \(database.schema)") }
        try await expectRefusal(of: readModels)
    }

    private func expectRefusal<Database: ProjectionDatabase>(of readModels: Database) async throws {
        _ = try await readModels.withTransaction {
            try await $0.execute(
                """
                CREATE TABLE martlet_projection_slots (
                    projection text NOT NULL, slot bigint NOT NULL, epoch bigint NOT NULL, position bigint NOT NULL,
                    PRIMARY KEY (projection, slot))
                """)
        }
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await put(client)
                let error = try await #require(throws: ProjectionDatabaseError.self) {
                    try await runner(client, readModels).run()
                }
                #expect(!error.isTransient)
                for word in ["martlet_projection_slots", "event_id", "reset the consumer"] {
                    #expect(error.message.contains(word), "\(word): \(error.message)")
                }
            }
        }
    }
}

/// A database whose answer to a commit is lost, the first time that each transaction with a certain statement is made.
private final class LosesFirstAnswers<Base: ProjectionDatabase>: ProjectionDatabase {
    struct Transaction: ProjectionTransaction {
        let base: Base.Transaction
        let start: String
        let values: NIOLockedValueBox<[SQLValue]?>

        func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            if sql.hasPrefix(start) { self.values.withLockedValue { $0 = values } }
            return try await base.execute(sql, values)
        }
    }

    let lost = NIOLockedValueBox(0)
    private let base: Base
    private let start: String
    private let known = NIOLockedValueBox<Set<[SQLValue]>>([])

    init(base: Base, of start: String) {
        self.base = base
        self.start = start
    }

    var bytesType: String { base.bytesType }

    func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result {
        let values = NIOLockedValueBox<[SQLValue]?>(nil)
        let result = try await base.withTransaction { transaction in
            try await body(Transaction(base: transaction, start: start, values: values))
        }
        if let values = values.withLockedValue({ $0 }), known.withLockedValue({ $0.insert(values).inserted }) {
            lost.withLockedValue { $0 += 1 }
            throw ProjectionDatabaseError("the answer is lost", isTransient: true)
        }
        return result
    }
}
