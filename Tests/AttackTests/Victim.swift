import Foundation
import MartletClient
import MartletModel
import MartletTLSOpenSSL
import MartletTesting
import NIOCore

/// The bounds that attacks are held to. A debug build takes 10 to 20 times as long for the same bytes.
enum Bound {
    #if DEBUG
        /// What an event loop may take for one turn, seen through a ping on another connection.
        static let pingMillis = 1_000.0
        /// What a call of another tenant may take.
        static let callMillis = 2_000.0
    #else
        static let pingMillis = 250.0
        static let callMillis = 500.0
    #endif
    /// How long one attack lasts at most.
    static let attackSeconds = 3.0
}

/// A server in a process of its own, which may lose its memory, its time or its life.
struct Victim: Sendable {
    private let server: ServerProcess
    private let clientConfiguration: ClientConfiguration

    /// Runs `body` against a new server on SQLite, and ends that at once afterwards.
    ///
    /// - Parameter folder: where the database is; a new one unless given.
    static func with<Result: Sendable>(
        extra: [String] = [], folder: TemporaryFolder? = nil, _ body: @Sendable (Victim) async throws -> Result
    ) async throws -> Result {
        let folder = try folder ?? TemporaryFolder()
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/martlet.db", extra: ["--log-level", "error"] + extra)
        var configuration = ClientConfiguration(
            host: "127.0.0.1", port: server.port,
            tls: TLSClientConfiguration(
                caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "bystander")
        configuration.requestTimeout = .seconds(5)
        configuration.retryBudget = .zero
        let victim = Victim(server: server, clientConfiguration: configuration)
        do {
            let result = try await body(victim)
            try await server.stop(SIGKILL)
            withExtendedLifetime(folder) {}
            return result
        } catch {
            try await server.stop(SIGKILL)
            throw error
        }
    }

    var port: Int { server.port }

    var isRunning: Bool { server.process.isRunning }

    func connect() async throws -> AttackPeer { try await AttackPeer.connect(port: port) }

    func withClient<Result: Sendable>(
        _ body: @escaping @Sendable (MartletClient) async throws -> Result
    ) async throws -> Result {
        try await MartletClient.withClient(clientConfiguration, logger: .silent, body)
    }

    /// The memory that the server has now, and the most that it has had since ``forgetPeak()``.
    func memoryMiB() throws -> (now: Int, peak: Int) {
        guard isRunning, let status = try? String(contentsOfFile: "\(procFolder)/status", encoding: .utf8) else {
            throw ProcessFailure("the server is dead: exit \(server.process.terminationStatus)\n\(server.logged)")
        }
        func field(_ name: String) -> Int {
            let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") }
            return (line.flatMap { Int($0.filter(\.isNumber)) } ?? 0) >> 10
        }
        return (field("VmRSS"), field("VmHWM"))
    }

    /// From now on the peak is that of what follows.
    /// - Returns: what the server has now, in MiB.
    func forgetPeak() throws -> Int {
        try Data("5".utf8).write(to: URL(fileURLWithPath: "\(procFolder)/clear_refs"))
        return try memoryMiB().now
    }

    private var procFolder: String { "/proc/\(server.process.processIdentifier)" }
}

extension Victim {
    /// Calls as another tenant while `body` runs: what the slowest of each kind took, in milliseconds.
    func bystander<Result: Sendable>(
        during body: @escaping @Sendable () async throws -> Result
    ) async throws -> (result: Result, times: BystanderTimes) {
        try await withClient { client in
            let tenant = TenantID(UUID())
            let account = Ammunition.aggregate("account")
            var warmUp = BystanderTimes()
            try await warmUp.callOnce(client, tenant, account)
            return try await withThrowingTaskGroup(of: Either<Result>.self) { group in
                group.addTask { .result(try await body()) }
                group.addTask {
                    var times = BystanderTimes()
                    repeat {
                        try await times.callOnce(client, tenant, account)
                        try? await Task.sleep(for: .milliseconds(10))
                    } while !Task.isCancelled
                    return .times(times)
                }
                guard case .result(let result)? = try await group.next() else {
                    throw ProcessFailure("another tenant's call failed")
                }
                // The call that is under way counts.
                group.cancelAll()
                guard case .times(let times)? = try await group.next() else {
                    throw ProcessFailure("no times came")
                }
                return (result, times)
            }
        }
    }

    private enum Either<Result: Sendable>: Sendable {
        case result(Result)
        case times(BystanderTimes)
    }
}

/// What calls of another tenant took.
struct BystanderTimes: Sendable, CustomStringConvertible {
    private(set) var slowestMillis: [String: Double] = [:]
    private(set) var failures: [String] = []
    private(set) var rounds = 0

    var slowest: Double { slowestMillis.values.max() ?? 0 }

    var description: String {
        let kinds = slowestMillis.sorted { $0.key < $1.key }.map { "\($0.key) \(Int($0.value)) ms" }
        return (["\(rounds) rounds, slowest"] + kinds + failures.prefix(2)).joined(separator: " ")
    }

    fileprivate mutating func callOnce(
        _ client: MartletClient, _ tenant: TenantID, _ aggregate: AggregateName
    ) async throws {
        await call("append") {
            _ = try await client.append(
                [NewEvent(type: Ammunition.eventType("Done"), payload: ByteBuffer(string: "{}"))], to: aggregate,
                expecting: .any, tenant: tenant)
        }
        await call("get_head") { _ = try await client.head(of: tenant) }
        await call("load") {
            for try await _ in try await client.load(
                LoadRequest(tenant: tenant, aggregate: aggregate, eventsMax: 10))
            {}
        }
        rounds += 1
    }

    private mutating func call(_ kind: String, _ body: @escaping @Sendable () async throws -> Void) async {
        let start = ContinuousClock.now
        // The call is not cancelled with the attack: it goes on to its end, or its timeout.
        let outcome = await Task { try await body() }.result
        if case .failure(let error) = outcome { failures.append("\(kind): \(error)") }
        slowestMillis[kind] = max(slowestMillis[kind] ?? 0, (ContinuousClock.now - start) / .milliseconds(1))
    }
}
