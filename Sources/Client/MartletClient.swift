public import Logging
public import MartletModel
public import MartletSession
import NIOCore
public import ServiceLifecycle

/// A client of one Martlet server: calls from any number of tasks share one connection, which is made when the first
/// call needs it and made again when it was lost.
///
/// Nothing happens unless ``run()`` runs: start it as a service, or use ``withClient(_:logger:_:)``.
///
/// Calls that fail for a reason that may pass are tried again within ``ClientConfiguration/retryBudget`` and their
/// timeout. Cancelling a task cancels its call on the server and throws `CANCELLED`.
public final class MartletClient: Sendable, Service {
    let configuration: ClientConfiguration
    let environment: ClientEnvironment
    let connections: ConnectionManager
    /// Runs tasks on the event loop of the client's connections.
    ///
    /// Calls from tasks that run elsewhere change threads on their way to the connection, and their answers on the way
    /// back. Calls from tasks that prefer this executor do not, which saves half of a small call's cost:
    ///
    ///     await withTaskExecutorPreference(client.taskExecutor) { … }
    ///
    /// What runs here holds up the connection while it computes: it is for those who do little between calls. The event
    /// loop must live as long as the tasks do.
    public let taskExecutor: any TaskExecutor

    /// A client that logs to `logger`: connections made and lost, never what is sent.
    public convenience init(configuration: ClientConfiguration, logger: Logger) {
        var environment = ClientEnvironment(transport: .tls(configuration.tls))
        if let group = configuration.eventLoopGroup { environment.eventLoopGroup = group }
        self.init(configuration: configuration, logger: logger, environment: environment)
    }

    init(configuration: ClientConfiguration, logger: Logger, environment: ClientEnvironment) {
        self.configuration = configuration
        self.environment = environment
        let eventLoop = environment.eventLoopGroup.next()
        connections = ConnectionManager(configuration, environment: environment, eventLoop: eventLoop, logger: logger)
        taskExecutor = EventLoopTaskExecutor(eventLoop)
    }

    /// Keeps the connection, until the task is cancelled or its service group shuts down; then closes it, and ends
    /// what is still open with `CLIENT_CLOSED`. A client is run once.
    public func run() async throws {
        try await cancelWhenGracefulShutdown { try await self.connections.run() }
    }

    /// Runs a client beside `body`, and closes it when `body` is done.
    public static func withClient<Result: Sendable>(
        _ configuration: ClientConfiguration,
        logger: Logger = Logger(label: "martlet.client", factory: { _ in SwiftLogNoOpLogHandler() }),
        _ body: (MartletClient) async throws -> Result
    ) async throws -> Result {
        try await withRunning(MartletClient(configuration: configuration, logger: logger), body)
    }

    static func withRunning<Result: Sendable>(
        _ client: MartletClient, _ body: (MartletClient) async throws -> Result
    ) async throws -> Result {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await client.run() }
            defer { group.cancelAll() }
            return try await body(client)
        }
    }

    /// What the server said when the connection was made. Tries once to connect if there is no connection.
    /// - Throws: why there is none.
    public func welcome() async throws(MartletError) -> Welcome {
        let deadline = configuration.requestTimeout.map { environment.now() + TimeAmount(clamping: $0) }
        do throws(CallFailure) {
            return try await connection(until: deadline).welcome
        } catch { throw error.error }
    }

    /// The end of a tenant's events.
    public func head(of tenant: TenantID) async throws(MartletError) -> TenantHead {
        guard case .head(let head) = try await answer(.getHead(tenant)) else { throw .wrongAnswer }
        return head
    }

    /// The server's status.
    public func status() async throws(MartletError) -> ServerStatus {
        guard case .serverStatus(let status) = try await answer(.getStatus) else { throw .wrongAnswer }
        return status
    }

    /// What the server is, and what this client may use of it.
    public func serverInfo() async throws(MartletError) -> ServerInfo {
        guard case .serverInfo(let info) = try await answer(.getServerInfo) else { throw .wrongAnswer }
        return info
    }

    /// Carries out a call that has one answer, trying again if that may help.
    nonisolated(nonsending) func answer(
        _ request: CallRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> CallMessage {
        var attempts = attempts(request, timeout: timeout ?? configuration.requestTimeout)
        while true {
            do throws(CallFailure) {
                let connection = try await connection(until: attempts.deadline)
                return try await connection.answer(request, deadline: attempts.deadline)
            } catch {
                try await wait(&attempts, after: error)
            }
        }
    }

    /// A connection that takes calls.
    nonisolated(nonsending) func connection(
        until deadline: NIODeadline?
    ) async throws(CallFailure) -> ClientConnection {
        if let current = connections.current { return current }
        return try await connections.connection(until: deadline).get()
    }

    /// The attempts of a call that starts now.
    func attempts(_ request: CallRequest, timeout: Duration?) -> Attempts {
        let now = environment.now()
        let budget: Duration? =
            switch request {
            case .subscribe, .awaitConsumer, .consume, .consumeTenants: nil
            default: configuration.retryBudget
            }
        return Attempts(
            backoff: configuration.backoff, budget: budget, deadline: timeout.map { now + TimeAmount(clamping: $0) },
            writes: request.isWrite, now: now)
    }

    /// Waits until the next attempt.
    /// - Throws: the call's error, if there is no answer.
    func wait(_ attempts: inout Attempts, after failure: CallFailure) async throws(MartletError) {
        switch attempts.fail(failure, now: environment.now(), random: environment.random()) {
        case .giveUp(let error): throw error
        case .retry(let delay):
            guard delay > .zero else { return }
            do { try await environment.sleep(delay) } catch {
                throw CallFailure.cancelled(mayHaveRun: failure.mayHaveRun).error
            }
        }
    }
}

extension MartletError {
    /// The session lets no such answer through: a defect of ours.
    static let wrongAnswer = MartletError(
        .internal, reason: .internalError, message: "the client mixed up two calls: please report this")
}
