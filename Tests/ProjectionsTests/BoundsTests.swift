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

/// What a runner holds of events that it cannot handle yet, and of slots that it has lost.
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

        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            if sleeps { try await Task.sleep(for: .seconds(3_600)) }
            handled.withLockedValue { $0 += 1 }
        }
    }

    private func append(_ count: Int, _ client: MartletClient) async throws {
        let type = try #require(EventType("Noted"))
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

    @Test func aSlotThatIsLostHoldsUpNobody() async throws {
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        let counts = Counts()
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 2)))
                let runner = ProjectionRunner(
                    counts, of: consumer, as: worker, client: client, database: readModels, logger: .silent)
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
    }
}
