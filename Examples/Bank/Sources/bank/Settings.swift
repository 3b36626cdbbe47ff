import Foundation
import Martlet

/// What is wrong, for a person.
struct Problem: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// What the environment says.
struct Settings: Sendable {
    /// `MARTLET_SERVER`, `MARTLET_CA` and the like.
    let client: ClientConfiguration
    /// `MARTLET_TENANT`.
    let tenant: TenantID
    /// `BANK_WORKER`: differs from that of any other process of the same kind.
    let worker: WorkerName

    private let environment = ProcessInfo.processInfo.environment

    init() throws {
        var client = try ClientConfiguration(clientName: "bank/2.0")
        guard let tenant = client.tenant else { throw Problem("set MARTLET_TENANT") }
        guard let worker = WorkerName(environment["BANK_WORKER"] ?? "bank-1") else {
            throw Problem("BANK_WORKER: not the name of a worker")
        }
        // For so long a call is made again where the server is away.
        client.retryBudget = .seconds(30)
        (self.client, self.tenant, self.worker) = (client, tenant, worker)
    }

    /// The URL of the read models' PostgreSQL.
    func postgreSQL() throws -> String { try required("BANK_DATABASE") }

    /// The SQLite file of the projection in Python, if there is one.
    var pythonDatabase: String? { environment["BANK_PYTHON_DATABASE"] }

    /// The account of `bank deposit`.
    func account() throws -> UUID {
        guard let id = UUID(uuidString: try required("BANK_ACCOUNT")) else { throw Problem("BANK_ACCOUNT: not a UUID") }
        return id
    }

    /// For how long a transfer waits for its approval.
    var patience: Duration { .milliseconds(environment["BANK_PATIENCE_MILLIS"].flatMap { Int($0) } ?? 5_000) }

    /// How many transfers are asked for in a second, at most.
    var transfersPerSecond: Int { max(1, environment["BANK_TRANSFERS_PER_SECOND"].flatMap { Int($0) } ?? 40) }

    private func required(_ name: String) throws -> String {
        guard let value = environment[name] else { throw Problem("set \(name)") }
        return value
    }
}

/// Runs a service that ends when the server is away for longer than a call waits, and then begins again.
func whileItCanBeRetried(_ body: () async throws -> Void) async throws {
    while true {
        do { try await body() } catch let error as MartletError where error.isRetryable {
            try await Task.sleep(for: .milliseconds(200))
        }
        try Task.checkCancellation()
    }
}
