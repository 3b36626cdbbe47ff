public import Logging
public import MartletClient
import MartletModel

/// Connections that many clients of a run share.
enum ClientPool {
    /// How many connections are opened at once: more would only wait in the server's queue of handshakes.
    private static let openingMax = 32

    /// Runs `body` with this many clients, each connected; closes them afterwards.
    static func with<Result: Sendable>(
        _ count: Int, _ configuration: ClientConfiguration, logger: Logger,
        _ body: @escaping @Sendable ([MartletClient]) async throws -> Result
    ) async throws -> Result {
        let clients = (0..<count).map { _ in MartletClient(configuration: configuration, logger: logger) }
        return try await withThrowingTaskGroup(of: Result?.self) { group in
            for client in clients {
                group.addTask {
                    try await client.run()
                    return nil
                }
            }
            group.addTask {
                try await open(clients)
                return try await body(clients)
            }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            throw CancellationError()
        }
    }

    private static func open(_ clients: [MartletClient]) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, client) in clients.enumerated() {
                if index >= openingMax { try await group.next() }
                group.addTask { _ = try await client.welcome() }
            }
            try await group.waitForAll()
        }
    }
}

/// How a run reaches the server.
public struct BenchTarget: Sendable {
    /// The connections' configuration.
    public var configuration: ClientConfiguration
    /// Where the clients log to.
    var logger: Logger

    /// A server to measure. Its calls are not tried again, so that every refusal is seen.
    public init(_ configuration: ClientConfiguration, logger: Logger) {
        self.configuration = configuration
        self.configuration.retryBudget = .zero
        self.logger = logger
    }

    /// Runs `body` with this many clients, each with its own connection.
    func withClients<Result: Sendable>(
        _ count: Int, _ body: @escaping @Sendable ([MartletClient]) async throws -> Result
    ) async throws -> Result {
        try await ClientPool.with(count, configuration, logger: logger, body)
    }
}
