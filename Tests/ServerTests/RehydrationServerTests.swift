import FoundationEssentials
import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOCore
import Testing

/// Snapshots against credit and limits, and settings across servers and restarts.
@Suite(.serialized, .timeLimit(.minutes(1))) struct RehydrationServerTests {
    private let tenant = TenantID(UUID())
    private let order: AggregateName
    private let placed: EventType
    private let upcasters =
        #"{"upcasters":[{"event":"Placed","from":1,"operations":[{"rename":{"path":"/n","to":"m"}}]}]}"#

    init() throws {
        order = AggregateName(type: AggregateType("order"), id: UUID())
        placed = EventType("Placed")
    }

    private func fill(_ client: MartletClient, _ count: Int = 3) async throws {
        let events = (0..<count).map { _ in NewEvent(type: placed, payload: ByteBuffer(string: #"{"n":1}"#)) }
        _ = try await client.append(events, to: order, expecting: .any, tenant: tenant)
    }

    private func save(_ client: MartletClient, bytes: Int) async throws {
        _ = try await client.saveSnapshot(
            SaveSnapshotRequest(
                tenant: tenant, aggregate: order, version: Version(2),
                snapshot: NewSnapshot(
                    contentType: "application/octet-stream", payload: ByteBuffer(repeating: 7, count: bytes))))
    }

    @Test func theLargestSnapshotComesWithItsEventsAndALargerOneIsRefused() async throws {
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await fill(client)
                let limit = Limits().snapshotBytesMax
                try await save(client, bytes: limit)
                let stream = try await client.load(
                    LoadRequest(tenant: tenant, aggregate: order, snapshot: SnapshotUse()))
                #expect(stream.view.snapshot?.payload == ByteBuffer(repeating: 7, count: limit))
                let versions = try await stream.reduce(into: []) { $0.append($1.version.rawValue) }
                #expect(versions == [3])
                let error = await #expect(throws: MartletError.self) { try await save(client, bytes: limit + 1) }
                #expect(error?.reason == .limitExceeded && error?.limit?.name == "snapshot_bytes_max")
            }
        }
    }

    /// The limit was 4 MiB once. What was saved then is delivered, also by an upcaster that makes it no longer.
    @Test func aSnapshotOfALargerLimitIsDelivered() async throws {
        let engine = MemoryEngine()
        var limits = Limits()
        limits.snapshotBytesMax = 4 << 20
        let text = #"{"n":""# + String(repeating: "x", count: (4 << 20) - 8) + #""}"#
        try await TestServer.with(engine, limits: limits) { server in
            try await server.withClient { client in
                try await fill(client)
                _ = try await client.saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: order, version: Version(2),
                        snapshot: NewSnapshot(payload: ByteBuffer(string: text))))
            }
        }
        #expect(text.utf8.count > Limits().snapshotBytesMax)
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                for key in ["n", "m"] {
                    let expected = ByteBuffer(string: text.replacing(#""n":"#, with: #""\#(key)":"#))
                    let stream = try await client.load(
                        LoadRequest(tenant: tenant, aggregate: order, snapshot: SnapshotUse()))
                    #expect(stream.view.snapshot?.payload == expected && stream.view.snapshotsSkipped == 0)
                    let versions = try await stream.reduce(into: []) { $0.append($1.version.rawValue) }
                    #expect(versions == [3])
                    let loaded = try await client.loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: order))
                    #expect(loaded.snapshot?.payload == expected)
                    try await client.putSettings(
                        PutSettingsRequest(
                            tenant: tenant, kind: .upcasters,
                            document: ByteBuffer(
                                string: upcasters.replacing(#""event":"Placed""#, with: #""snapshot":"order""#))))
                }
            }
        }
    }

    @Test func aSnapshotWaitsForItsCredit() async throws {
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                try await fill(client)
                try await save(client, bytes: 1_000)
            }
            let peer = try await RawPeer.secure(server)
            let load = LoadRequest(tenant: tenant, aggregate: order, snapshot: SnapshotUse())
            try await peer.send(ClientFrame(CallID(1), .request(.load(load)), creditBytes: 999))
            #expect(
                try await peer.next() == ServerFrame(CallID(1), .loadWaits(creditBytes: 1_000)),
                "999 bytes do not hold the snapshot, and the load says so")
            try await peer.send(ClientFrame(CallID(2), .request(.getHead(tenant))))
            #expect(try await peer.next()?.callID == CallID(2))
            try await peer.send(ClientFrame(CallID(1), .credit(1_000)))
            guard case .message(.load(let entries, let view?))? = try await peer.next()?.body else {
                Issue.record("no load")
                return
            }
            #expect(view.snapshot?.payload.readableBytes == 1_000 && entries.readableBytes > 0)
            peer.close()
        }
    }

    @Test func settingsAndSnapshotsOutliveTheServer() async throws {
        let folder = try TemporaryFolder()
        // The engine keeps the lock of its file; everything else begins anew.
        let engine = SQLiteEngine(path: folder.path + "/m.db", logger: .silent)
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                try await fill(client)
                try await save(client, bytes: 10)
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: ByteBuffer(string: upcasters)))
            }
        }
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                let stream = try await client.load(
                    LoadRequest(tenant: tenant, aggregate: order, snapshot: SnapshotUse()))
                #expect(stream.view.snapshot?.version == Version(2))
                let versions = try await stream.reduce(into: []) { $0.append($1.event.schemaVersion) }
                #expect(versions == [2])
            }
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func settingsOfOneServerAreInForceOnTheOther() async throws {
        let database = try PostgresTestDatabase()
        try await TestServer.with(PostgreSQLEngine(database)) { first in
            try await TestServer.with(PostgreSQLEngine(database)) { second in
                try await first.withClient { one in
                    try await second.withClient { two in try await settingsTravel(from: one, to: two) }
                }
            }
        }
    }

    private func settingsTravel(from one: MartletClient, to two: MartletClient) async throws {
        try await fill(one)
        for round in 1...5 {
            let isOn = round % 2 == 1
            try await withThrowingTaskGroup(of: Void.self) { group in
                let (live, goesLive) = AsyncStream.makeStream(of: Void.self)
                group.addTask {
                    for try await item in two.subscribe(SubscribeRequest(tenant: tenant, start: .head)) {
                        switch item {
                        case .caughtUp: goesLive.finish()
                        case .upcastersChanged(_, let revision, _):
                            #expect(revision == UInt64(round))
                            return
                        default: break
                        }
                    }
                }
                for await _ in live {}
                let began = ContinuousClock.now
                try await one.putSettings(
                    PutSettingsRequest(
                        tenant: tenant, kind: .upcasters, document: ByteBuffer(string: isOn ? upcasters : "")))
                let stream = try await two.load(LoadRequest(tenant: tenant, aggregate: order))
                let versions = try await stream.reduce(into: []) { $0.append($1.event.schemaVersion) }
                #expect(versions.allSatisfy { $0 == (isOn ? 2 : 1) }, "at once, for a load that begins afterwards")
                try await group.waitForAll()
                #expect(ContinuousClock.now - began < .seconds(5), "a running subscription is told")
            }
        }
    }
}
