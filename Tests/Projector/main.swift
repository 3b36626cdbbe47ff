// A projection as a process of its own, for tests that kill it: balances and a list of effects, in the database that the
// environment names. With `PROJECTOR_BUILD`, it builds another one and ends: for `make bench-rebuild`.
import Foundation
import Logging
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import MartletTLSOpenSSL
import NIOCore

struct Effects: Projection {
    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let recorded = event.event
        let key = "\(recorded.aggregate.id)"
        try await transaction.execute(
            "INSERT INTO effects (key, version) VALUES ($1, $2)", .text(key),
            .integer(Int64(recorded.version.rawValue)))
        guard let amount = Int64(String(buffer: recorded.event.payload)) else {
            throw ProjectionFailure(.park, "the payload is not a number")
        }
        try await transaction.execute(
            """
            INSERT INTO balances (key, amount) VALUES ($1, $2)
            ON CONFLICT (key) DO UPDATE SET amount = balances.amount + excluded.amount
            """, .text(key), .integer(amount))
    }
}

struct Missing: Error {
    var name: String
}

/// Writes a line to a file for each commit that a fence refused, and nothing else.
struct FenceLog: LogHandler {
    let path: String
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        guard event.metadata?["stored_epoch"] != nil, let file = FileHandle(forWritingAtPath: path) else { return }
        file.seekToEndOfFile()
        file.write(Data("fenced\n".utf8))
    }
}

func setting(_ name: String) throws -> String {
    guard let value = ProcessInfo.processInfo.environment["PROJECTOR_\(name)"] else { throw Missing(name: name) }
    return value
}

func follow<Database: ProjectionDatabase>(_ database: Database) async throws {
    guard let tenant = UUID(uuidString: try setting("TENANT")), let worker = WorkerName(try setting("WORKER")),
        let name = ConsumerName(try setting("CONSUMER")), let port = Int(try setting("PORT"))
    else { throw Missing(name: "anything usable") }
    let configuration = ClientConfiguration(
        host: "127.0.0.1", port: port, tls: .init(caFile: try setting("CA"), serverName: "127.0.0.1"),
        clientName: "projector")
    let fences = try setting("FENCES")
    let logger = Logger(label: "projector") { _ in FenceLog(path: fences) }
    try await MartletClient.withClient(configuration, logger: logger) { client in
        let consumer = ConsumerID(tenant: TenantID(tenant), name: name)
        if let work = try? setting("BUILD") { return try await build(work, of: consumer, client, database) }
        let runner = ProjectionRunner(
            Effects(), of: consumer, as: worker, client: client, database: database, logger: logger)
        while true {
            // The server may be away for longer than a call waits.
            do { try await runner.run() } catch let error as MartletError where error.isRetryable {
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }
}

do {
    let database = try setting("DATABASE")
    if database.hasPrefix("sqlite:") {
        try await follow(SQLiteReadModels(path: String(database.dropFirst("sqlite:".count))))
    } else {
        try await follow(PostgreSQLReadModels(database, connections: 3))
    }
} catch {
    print("projector: \(error)")
    exit(1)
}
