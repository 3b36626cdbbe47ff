import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsSQLite
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// Keys that the server parks by itself, as an event of them cannot be upcast: the read model has them once they can.
@Suite(.timeLimit(.minutes(2))) struct UpcastFailureTests {
    private struct Rows: Projection {
        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            try await transaction.execute(
                "INSERT INTO rows (text) VALUES ($1)", .text(String(buffer: event.event.event.payload)))
        }
    }

    private static func upcasters(isStrict: Bool) -> ByteBuffer {
        ByteBuffer(
            string: #"""
                {"upcasters":[{"event":"Placed","from":1,
                "operations":[{"rename":{"path":"/n","to":"count","required":\#(isStrict)}}]}]}
                """#)
    }

    @Test(arguments: [1, 4])
    func whatCannotBeUpcastIsTakenInLater(slots: Int) async throws {
        let consumer = ConsumerID(tenant: TenantID(UUID()), name: try #require(ConsumerName("rows")))
        let worker = try #require(WorkerName("a"))
        let type = EventType("Placed")
        let folder = try TemporaryFolder()
        let readModels = try SQLiteReadModels(path: folder.path + "/read.db")
        _ = try await readModels.withTransaction { try await $0.execute("CREATE TABLE rows (text text NOT NULL)") }
        @Sendable func put(isStrict: Bool, _ client: MartletClient) async throws {
            _ = try await client.putSettings(
                PutSettingsRequest(
                    tenant: consumer.tenant, kind: .upcasters, document: Self.upcasters(isStrict: isStrict)))
        }
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await put(isStrict: true, client)
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: slots)))
                let bad = AggregateName.new("order")
                let others = (0..<6).map { _ in AggregateName.new("order") }
                func append(_ payload: String, to aggregate: AggregateName) async throws {
                    _ = try await client.append(
                        [NewEvent(type: type, payload: ByteBuffer(string: payload))], to: aggregate, expecting: .any,
                        tenant: consumer.tenant)
                }
                try await append(#"{"n":0}"#, to: bad)
                try await append("{}", to: bad)
                for (number, other) in others.enumerated() { try await append(#"{"n":\#(number + 1)}"#, to: other) }
                try await append(#"{"n":9}"#, to: bad)
                for (number, other) in others.enumerated() { try await append(#"{"n":\#(number + 11)}"#, to: other) }
                let head = try await client.head(of: consumer.tenant).position
                try await withThrowingTaskGroup(of: Void.self) { group in
                    let runner = ProjectionRunner(
                        Rows(), of: consumer, as: worker, client: client, database: readModels, logger: .silent)
                    group.addTask { try await runner.run() }
                    // All others are taken in, and the slot has passed what cannot be upcast.
                    try await client.awaitConsumer(consumer, position: head, timeout: .seconds(20))
                    let blocked = try await client.blockedKeys(ListBlockedKeysRequest(consumer))
                    #expect(blocked.count == 1 && blocked[0].blocked.reason.contains("cannot be upcast"))
                    try await put(isStrict: false, client)
                    _ = try await client.unblockKeys(
                        UnblockKeysRequest(consumer, keys: blocked.map { UnblockKeysRequest.Key($0.place) }))
                    while try await !client.blockedKeys(ListBlockedKeysRequest(consumer)).isEmpty {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    group.cancelAll()
                    try await group.waitForAll()
                }
            }
        }
        let rows = try await readModels.withTransaction { try await $0.execute("SELECT text FROM rows") }
        let found = rows.compactMap { $0[0].text }.sorted()
        let numbers = [0] + Array(1...6) + [9] + Array(11...16)
        #expect(found == (["{}"] + numbers.map { #"{"count":\#($0)}"# }).sorted())
    }
}
