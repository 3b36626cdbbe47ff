import Foundation
import MartletClient
import MartletModel
import MartletProcesses
import MartletTLSOpenSSL

/// Runs transfers as a process of its own, for tests that kill it.
@main
struct Main {
    struct Missing: Error {
        var name: String
    }

    static func setting(_ name: String) throws -> String {
        guard let value = ProcessInfo.processInfo.environment["TRANSFERS_\(name)"] else { throw Missing(name: name) }
        return value
    }

    static func main() async throws {
        guard let tenant = UUID(uuidString: try setting("TENANT")), let worker = WorkerName(try setting("WORKER")),
            let name = ConsumerName(try setting("CONSUMER")), let port = Int(try setting("PORT")),
            let patience = Int(try setting("PATIENCE_MILLIS"))
        else { throw Missing(name: "anything usable") }
        let configuration = ClientConfiguration(
            host: "127.0.0.1", port: port, tls: .init(caFile: try setting("CA"), serverName: "127.0.0.1"),
            clientName: "transfers")
        try await MartletClient.withClient(configuration) { @Sendable client in
            let runner = ProcessRunner(
                Transfers(patience: .milliseconds(patience)), of: ConsumerID(tenant: TenantID(tenant), name: name),
                as: worker, client: client)
            while true {
                // The server may be away for longer than a call waits.
                do { try await runner.run() } catch let error as MartletError where error.isRetryable {
                    try await Task.sleep(for: .milliseconds(100))
                }
            }
        }
    }
}
