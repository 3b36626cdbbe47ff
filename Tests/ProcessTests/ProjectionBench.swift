import Foundation
import MartletClient
import MartletModel
import MartletProjections
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// Events of accounts, and processes that take them into a read model: a list of effects without a key of its own, and
/// balances.
struct ProjectionBench: Sendable {
    let eventCount: Int
    let keyCount: Int
    let consumer: ConsumerID

    init(events: Int, keys: Int) throws {
        eventCount = events
        keyCount = keys
        consumer = ConsumerID(tenant: TenantID(UUID()), name: try #require(ConsumerName("effects")))
    }

    /// - Parameter number: the type of a column that numbers rows in their order.
    func makeTables<Database: ProjectionDatabase>(_ readModels: Database, number: String) async throws {
        try await readModels.withTransaction {
            try await $0.execute("CREATE TABLE effects (no \(number), key text NOT NULL, version bigint NOT NULL)")
            try await $0.execute("CREATE TABLE balances (key text PRIMARY KEY, amount bigint NOT NULL)")
        }
    }

    func configuration(_ port: Int) throws -> ClientConfiguration {
        ClientConfiguration(
            host: "127.0.0.1", port: port,
            tls: .init(caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "kill")
    }

    /// Starts a process.
    /// - Parameter fences: a file that gets a line for each commit that a fence refused.
    func projector(_ number: Int, _ port: Int, _ database: String, fences: String = "/dev/null") throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Binary.path).deletingLastPathComponent()
            .appendingPathComponent("Projector")
        process.environment = ProcessInfo.processInfo.environment.merging([
            "PROJECTOR_TENANT": consumer.tenant.uuid.uuidString, "PROJECTOR_WORKER": "projector-\(number)",
            "PROJECTOR_CONSUMER": "\(consumer.name)", "PROJECTOR_PORT": "\(port)", "PROJECTOR_DATABASE": database,
            "PROJECTOR_CA": try TestCertificates.shared.get().file("ca.pem"), "PROJECTOR_FENCES": fences,
        ]) { $1 }
        try process.run()
        return process
    }

    /// Appends all events.
    /// - Returns: of each account, its events and their sum.
    func append(_ client: MartletClient, seed: UInt64) async throws -> [String: (count: Int64, amount: Int64)] {
        var random = SeededGenerator(seed: seed)
        let accounts = (0..<keyCount).map { _ in AggregateName.new("account") }
        let type = EventType("Moved")
        var sums: [String: (count: Int64, amount: Int64)] = [:]
        var left = eventCount
        while left > 0 {
            let count = min(left, 20)
            left -= count
            let account = accounts[Int.random(in: 0..<accounts.count, using: &random)]
            let amounts = (0..<count).map { _ in Int64.random(in: -100...100, using: &random) }
            let request = try AppendRequest(
                [
                    NewAggregateEvents(
                        aggregate: account, expected: .any,
                        events: amounts.map { NewEvent(type: type, payload: ByteBuffer(string: "\($0)")) })
                ], tenant: consumer.tenant)
            while true {
                // The same events, until it is known that they are stored.
                do throws(MartletError) {
                    _ = try await client.append(request)
                    break
                } catch { guard error.isRetryable else { throw error } }
            }
            let known = sums["\(account.id)"] ?? (0, 0)
            sums["\(account.id)"] = (known.count + Int64(count), known.amount + amounts.reduce(0, +))
        }
        return sums
    }

    /// Holds the read model to what was appended: each event has one effect, those of a key in order.
    func check<Database: ProjectionDatabase>(
        _ readModels: Database, _ expected: [String: (count: Int64, amount: Int64)], _ place: String
    ) async throws {
        let (effects, balances) = try await readModels.withTransaction {
            (
                try await $0.execute("SELECT key, version FROM effects ORDER BY no", []),
                try await $0.execute("SELECT key, amount FROM balances", [])
            )
        }
        #expect(effects.count == eventCount, "\(place): lost or done twice")
        var versions: [String: Int64] = [:]
        var (outOfOrder, example) = (0, "")
        for row in effects {
            guard let key = row[0].text, let version = row[1].integer else { continue }
            if version != versions[key, default: 0] + 1 { (outOfOrder, example) = (outOfOrder + 1, key) }
            versions[key] = version
        }
        #expect(outOfOrder == 0, "\(place): among others \(example) is out of order")
        #expect(versions == expected.mapValues(\.count), "\(place)")
        var amounts: [String: Int64] = [:]
        for row in balances { if let key = row[0].text { amounts[key] = row[1].integer } }
        #expect(amounts == expected.mapValues(\.amount), "\(place)")
    }
}
