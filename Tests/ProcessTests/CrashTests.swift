import Foundation
import MartletClient
import MartletModel
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// `kill -9` of the server while clients append and subscribe.
@Suite(.serialized) struct CrashTests {
    @Test func nothingAcknowledgedIsLostOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await survivesKills(storage: "sqlite:\(folder.path)/m.db")
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func nothingAcknowledgedIsLostOnPostgreSQL() async throws {
        try await survivesKills(storage: try PostgresTestDatabase().url)
    }

    private static let kills = 4
    private static let writers = 8

    private func survivesKills(storage: String) async throws {
        let tenant = TenantID(UUID())
        let first = try await ServerProcess(storage: storage)
        let port = first.port
        let acknowledged = Acknowledged()
        let followed = Followed()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<Self.writers {
                group.addTask { try await Self.write(tenant, port, acknowledged) }
            }
            group.addTask { try await Self.follow(tenant, port, acknowledged, followed) }
            group.addTask {
                var server = first
                for kill in 0..<Self.kills {
                    try await followed.wait(reconnects: kill)
                    try await acknowledged.wait(more: 200)
                    try await server.stop(SIGKILL)
                    server = try await ServerProcess(storage: storage, port: port)
                }
                try await followed.wait(reconnects: Self.kills)
                try await acknowledged.wait(more: 50)
                await acknowledged.stop()
                await followed.waitUntilDone()
                try await server.stop()
            }
            try await group.waitForAll()
        }
    }

    private static func client(_ port: Int) throws -> ClientConfiguration {
        let certificates = try TestCertificates.shared.get()
        var configuration = ClientConfiguration(
            host: "127.0.0.1", port: port, tls: .init(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "crash")
        configuration.retryBudget = .seconds(30)
        return configuration
    }

    /// Appends with exact versions until told to stop; each answer is written down.
    private static func write(_ tenant: TenantID, _ port: Int, _ acknowledged: Acknowledged) async throws {
        let type = AggregateType("crash")
        let kind = EventType("Appended")
        let aggregate = AggregateName(type: type, id: UUID())
        try await MartletClient.withClient(try client(port), logger: .silent) { client in
            var version = MartletModel.Version.none
            while await acknowledged.goesOn {
                let events = [
                    NewEvent(type: kind, payload: ByteBuffer(string: "1")),
                    NewEvent(type: kind, payload: ByteBuffer(string: "2")),
                ]
                let receipt = try await client.append(events, to: aggregate, expecting: .exact(version), tenant: tenant)
                version = receipt.aggregates[0].lastVersion
                await acknowledged.add(events.map(\.id), receipt)
            }
        }
        await acknowledged.finish()
    }

    /// Follows through every restart, and compares with what is stored in the end.
    private static func follow(
        _ tenant: TenantID, _ port: Int, _ acknowledged: Acknowledged, _ followed: Followed
    ) async throws {
        try await MartletClient.withClient(try client(port), logger: .silent) { client in
            var received: [RecordedEvent] = []
            for try await item in client.subscribe(SubscribeRequest(tenant: tenant, heartbeatMillis: 200)) {
                switch item {
                case .events(let events, _): received += events
                case .reconnected: await followed.reconnected()
                default: break
                }
                if await acknowledged.finishedWriters == Self.writers,
                    try await client.head(of: tenant).position == received.last?.position
                {
                    break
                }
            }
            let stored = try await client.events(of: ReadRequest(tenant: tenant))
            #expect(stored.map(\.position.rawValue) == Array(1...UInt64(stored.count)), "positions have no gap")
            for (_, events) in Dictionary(grouping: stored, by: \.aggregate) {
                #expect(events.map(\.version.rawValue) == Array(1...UInt64(events.count)), "versions have no gap")
            }
            let byID = Dictionary(uniqueKeysWithValues: stored.map { ($0.event.id, $0.position) })
            let answered = await acknowledged.positions
            #expect(answered.count > 100, "\(answered.count) events were acknowledged")
            for (id, position) in answered { #expect(byID[id] == position, "acknowledged event \(id)") }
            let isComplete = received.map(\.event.id) == stored.map(\.event.id)
            #expect(isComplete, "the subscriber has each once, in order: \(received.count) of \(stored.count)")
            await followed.done()
        }
    }
}

/// What was acknowledged.
private actor Acknowledged {
    private(set) var goesOn = true
    private(set) var positions: [UUID: Position] = [:]
    private(set) var finishedWriters = 0

    func add(_ ids: [UUID], _ receipt: AppendReceipt) {
        for (offset, id) in ids.enumerated() {
            positions[id] = Position(receipt.firstPosition.rawValue + UInt64(offset))
        }
    }

    /// Waits until so many more are.
    func wait(more: Int) async throws {
        let count = positions.count + more
        while positions.count < count { try await Task.sleep(for: .milliseconds(1)) }
    }

    func stop() { goesOn = false }

    func finish() { finishedWriters += 1 }
}

/// How the subscriber gets on.
private actor Followed {
    private var reconnects = 0
    private var isDone = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    func reconnected() { reconnects += 1 }

    /// Waits until it has reconnected so often.
    func wait(reconnects count: Int) async throws {
        while reconnects < count { try await Task.sleep(for: .milliseconds(1)) }
    }

    func done() {
        isDone = true
        for waiter in waiters { waiter.resume() }
        waiters = []
    }

    func waitUntilDone() async {
        if !isDone { await withCheckedContinuation { waiters.append($0) } }
    }
}
