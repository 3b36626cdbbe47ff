import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsSQLite
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// What a runner holds of events that it cannot handle yet, and what becomes of slots that it has lost.
@Suite(.timeLimit(.minutes(2))) struct BoundsTests {
    private static let payloadBytes = 16 << 10
    private let consumer: ConsumerID
    private let worker: WorkerName

    init() throws {
        consumer = ConsumerID(
            tenant: TenantID(UUID(high: 4, low: 8)), name: try #require(ConsumerName("slow")))
        worker = try #require(WorkerName("a"))
    }

    /// Counts events, or is never done with the first.
    private struct Counts: Projection {
        let handled = NIOLockedValueBox(0)
        var sleeps = false
        var pause = Duration.zero

        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            if sleeps { try await Task.sleep(for: .seconds(3_600)) }
            if pause > .zero { try await Task.sleep(for: pause) }
            handled.withLockedValue { $0 += 1 }
        }
    }

    private func append(_ count: Int, _ client: MartletClient) async throws {
        let type = EventType("Noted")
        for _ in 0..<count {
            let event = NewEvent(
                type: type, contentType: "text/plain", payload: ByteBuffer(repeating: 0x61, count: Self.payloadBytes))
            _ = try await client.append(
                [event], to: AggregateName.new("note"), expecting: .any, tenant: consumer.tenant)
        }
    }

    @Test(arguments: [1, 4]) func aHandlerThatNeverReturnsHoldsAWindowAndAPage(slots: Int) async throws {
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        try await TestServer.with(MemoryEngine()) { server in
            let window = server.clientConfiguration.subscriptionWindowBytes
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: slots)))
                try await append(400, client)
                let runner = ProjectionRunner(
                    Counts(sleeps: true), of: consumer, as: worker, client: client, database: readModels,
                    logger: .silent)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await runner.run() }
                    var (delivered, unchanged) = (UInt64(0), 0)
                    while delivered == 0 || unchanged < 10 {
                        try await Task.sleep(for: .milliseconds(50))
                        let now = try await client.status().eventsDelivered
                        unchanged = now == delivered ? unchanged + 1 : 0
                        delivered = now
                    }
                    // A part of each slot was taken out of its queue: at most a page each.
                    let bytesMax = window + slots * Limits().pageBytesMax
                    #expect(delivered * UInt64(Self.payloadBytes) <= UInt64(bytesMax), "\(delivered) events")
                    #expect(delivered >= 40, "the window is not used")
                    group.cancelAll()
                }
            }
        }
    }

    @Test func aSlotThatIsLostHoldsUpNobodyAndIsTold() async throws {
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        let counts = Counts()
        let log = CapturedLog()
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 2)))
                let runner = ProjectionRunner(
                    counts, of: consumer, as: worker, client: client, database: readModels, logger: log.logger)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await runner.run() }
                    try await append(10, client)
                    try await client.awaitConsumer(consumer, position: Position(10), timeout: .seconds(20))
                    // Somebody has taken a slot over, and the server does not know of it.
                    _ = try await readModels.withTransaction {
                        try await $0.execute("UPDATE martlet_projection_slots SET epoch = 1000 WHERE slot = 0")
                    }
                    // More than the window in each slot.
                    try await append(300, client)
                    let head = try await client.head(of: consumer.tenant).position
                    let tooLong = ContinuousClock.now + .seconds(20)
                    while ContinuousClock.now < tooLong {
                        let slots = try await client.consumer(consumer).slots
                        if slots.contains(where: { $0.checkpoint.position == head }) { break }
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    let slots = try await client.consumer(consumer).slots
                    #expect(slots.contains { $0.checkpoint.position == head }, "the other slot stands still: \(slots)")
                    group.cancelAll()
                }
            }
        }
        let lines = log.lines.filter { $0.contains("slot=0") }
        #expect(lines.count == 1 && lines.first?.hasPrefix("warning ") == true, "\(log.lines)")
        #expect(lines.first?.contains("stored_epoch=1000") == true, "\(log.lines)")
    }

    @Test func aSlotThatTheServerHasTakenAwayIsNoWarning() async throws {
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        let (counts, log, engine) = (Counts(pause: .milliseconds(60)), CapturedLog(), MemoryEngine())
        let configuration = try await TestServer.with(engine) { server in
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 2)))
                try await append(60, client)
            }
            return server.clientConfiguration
        }
        try await MartletClient.withClient(configuration, logger: .silent) { client in
            var runner = ProjectionRunner(
                counts, of: consumer, as: worker, client: client, database: readModels, logger: log.logger)
            runner.batchEventsMax = 1
            let life = runner
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await life.run() }
                // The stream is lost while events wait in the runner; the slots come again under higher epochs.
                for handled in [5, 60] {
                    try await TestServer.with(engine, port: configuration.port) { _ in
                        while counts.handled.withLockedValue({ $0 }) < handled {
                            try await Task.sleep(for: .milliseconds(5))
                        }
                    }
                }
                group.cancelAll()
            }
        }
        let lines = log.lines.filter { $0.contains("stored_epoch=") }
        #expect(!lines.isEmpty && lines.allSatisfy { $0.hasPrefix("debug ") }, "\(log.lines)")
    }
}
