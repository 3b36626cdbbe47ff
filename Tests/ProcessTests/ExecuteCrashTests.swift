import Foundation
import MartletClient
import MartletEventSourcing
import MartletModel
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import Testing

/// Commands on one aggregate at full speed by two clients, while the server is killed and comes back: no update is lost,
/// and each command is applied once.
@Suite(.serialized) struct ExecuteCrashTests {
    /// Counts; each change names its command and the count that it saw.
    struct Counter: CommandHandling, Codable {
        struct Counted: EventPayload {
            static let eventType: EventType = "counted"
            var command: String
            var seen: Int
        }
        enum Event: Sendable { case counted(Counted) }

        static let type: AggregateType = "counter"
        static let schema = Schema<Counter>().event(Event.counted)

        let id: UUID
        var commands: [String] = []

        init(id: UUID) { self.id = id }

        mutating func apply(_ event: Event) {
            switch event {
            case .counted(let counted): commands.append(counted.command)
            }
        }

        func decide(_ command: String) throws -> [Event] { [.counted(.init(command: command, seen: commands.count))] }
    }

    private static let commands = 60
    private static let kills = 3

    @Test func everyCommandIsAppliedOnceOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await survivesKills(storage: "sqlite:\(folder.path)/m.db")
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func everyCommandIsAppliedOnceOnPostgreSQL() async throws {
        try await survivesKills(storage: try PostgresTestDatabase().url)
    }

    private func survivesKills(storage: String) async throws {
        let (tenant, id) = (TenantID(UUID()), UUID())
        let first = try await ServerProcess(storage: storage)
        let port = first.port
        let count = NIOLockedValueBox(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in ["a", "b"] {
                group.addTask {
                    try await Self.withRepository(tenant, port) { repository in
                        for number in 0..<Self.commands {
                            _ = try await repository.execute(id, "\(worker)\(number)")
                            count.withLockedValue { $0 += 1 }
                        }
                    }
                }
            }
            group.addTask {
                var server = first
                for kill in 1...Self.kills {
                    // So that the kills fall among the commands.
                    let due = 2 * Self.commands * kill / (Self.kills + 1)
                    while count.withLockedValue({ $0 }) < due { try await Task.sleep(for: .milliseconds(1)) }
                    try await server.stop(SIGKILL)
                    server = try await ServerProcess(storage: storage, port: port)
                }
                try await Self.check(tenant, port, id)
                try await server.stop()
            }
            try await group.waitForAll()
        }
    }

    /// Waits for all commands, and looks at what is stored.
    private static func check(_ tenant: TenantID, _ port: Int, _ id: UUID) async throws {
        try await withRepository(tenant, port) { repository in
            let deadline = ContinuousClock.now + .seconds(60)
            while (try? await repository.load(id).state.commands.count) ?? 0 < 2 * commands,
                .now < deadline
            {
                try await Task.sleep(for: .milliseconds(100))
            }
            let found = try await repository.load(id).state.commands
            let expected = Set(["a", "b"].flatMap { worker in (0..<commands).map { "\(worker)\($0)" } })
            #expect(found.count == 2 * commands && Set(found) == expected, "each command once: \(found.count)")
            for worker in ["a", "b"] {
                let own = found.filter { $0.hasPrefix(worker) }
                #expect(own == (0..<commands).map { "\(worker)\($0)" }, "in the order of their client")
            }
        }
    }

    private static func withRepository(
        _ tenant: TenantID, _ port: Int,
        _ body: @escaping @Sendable (MartletEventSourcing.Repository<Counter>) async throws -> Void
    ) async throws {
        let certificates = try TestCertificates.shared.get()
        var configuration = ClientConfiguration(
            host: "127.0.0.1", port: port, tls: .init(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "execute")
        configuration.retryBudget = .seconds(30)
        var options = RepositoryOptions()
        options.decisionsMax = 1_000
        options.sendsMax = 100
        options.snapshots = .every(10)
        let settled = options
        try await MartletClient.withClient(configuration, logger: .silent) { client in
            try await body(try MartletEventSourcing.Repository<Counter>(client.tenant(tenant), options: settled))
        }
    }
}
