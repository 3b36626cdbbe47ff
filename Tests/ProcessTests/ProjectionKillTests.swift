import Foundation
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// Projections as processes that are killed at random moments, and stopped past their lease and continued, while the server
/// is killed too: the read model ends as one that is computed straight from the events.
@Suite(.serialized) struct ProjectionKillTests {
    private static let eventCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_KILL_EVENTS"].flatMap { Int($0) } ?? 20_000

    private let tenant = UUID()
    private let consumer: ConsumerID

    init() throws {
        consumer = ConsumerID(tenant: TenantID(tenant), name: try #require(ConsumerName("effects")))
    }

    @Test func aReadModelInSQLite() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/read.db"
        let readModels = try SQLiteReadModels(path: path)
        try await makeTables(readModels, number: "integer PRIMARY KEY")
        try await run(readModels, at: "sqlite:\(path)")
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func aReadModelInPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        let url = database.url + (database.url.contains("?") ? "&" : "?") + "options=-csearch_path%3D\(database.schema)"
        let readModels = PostgreSQLReadModels(url)
        _ = try await readModels.withTransaction { try await $0.execute("CREATE SCHEMA \(database.schema)") }
        try await makeTables(readModels, number: "bigserial PRIMARY KEY")
        try await run(readModels, at: url)
    }

    private func makeTables<Database: ProjectionDatabase>(_ readModels: Database, number: String) async throws {
        try await readModels.withTransaction {
            try await $0.execute("CREATE TABLE effects (no \(number), key text NOT NULL, version bigint NOT NULL)")
            try await $0.execute("CREATE TABLE balances (key text PRIMARY KEY, amount bigint NOT NULL)")
        }
    }

    private func run<Database: ProjectionDatabase>(_ readModels: Database, at database: String) async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        let folder = try TemporaryFolder()
        let storage = "sqlite:\(folder.path)/m.db"
        var server = try await ServerProcess(storage: storage)
        let port = server.port
        let certificates = try TestCertificates.shared.get()
        let configuration = ClientConfiguration(
            host: "127.0.0.1", port: port, tls: .init(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "kill")
        var projectors: [Process] = []
        defer { for projector in projectors where projector.isRunning { kill(projector.processIdentifier, SIGKILL) } }
        var expected: [String: (count: Int64, amount: Int64)] = [:]
        try await MartletClient.withClient(configuration, logger: .silent) { client in
            try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 8)))
            for number in 0..<3 { projectors.append(try projector(number, port, database)) }
            let appending = Task { [seed = random.next()] in try await append(client, seed: seed) }
            var (kills, serverKills) = (0, 0)
            // Killed while there is something to do, and some more times after that.
            while kills < 20 || serverKills < 5 {
                try await Task.sleep(for: .milliseconds(Int.random(in: 50...400, using: &random)))
                if kills >= 20 || (serverKills < 5 && Int.random(in: 0..<5, using: &random) == 0) {
                    try await server.stop(SIGKILL)
                    server = try await ServerProcess(storage: storage, port: port)
                    serverKills += 1
                } else {
                    let victim = Int.random(in: 0..<projectors.count, using: &random)
                    if kills == 7 {
                        // It sleeps past its lease, and goes on as if nothing had happened.
                        kill(projectors[victim].processIdentifier, SIGSTOP)
                        try await Task.sleep(for: .milliseconds(Limits().consumerLeaseMillis + 1_000))
                        kill(projectors[victim].processIdentifier, SIGCONT)
                    } else {
                        kill(projectors[victim].processIdentifier, SIGKILL)
                        projectors[victim] = try projector(victim, port, database)
                    }
                    kills += 1
                }
            }
            expected = try await appending.value
            let head = try await client.head(of: consumer.tenant).position
            #expect(head == Position(UInt64(Self.eventCount)), "\(place)")
            try await client.awaitConsumer(consumer, position: head, timeout: .seconds(120))
            #expect(try await client.consumer(consumer).blockedKeyCount == 0, "\(place)")
        }
        let (effects, balances) = try await readModels.withTransaction {
            (
                try await $0.execute("SELECT key, version FROM effects ORDER BY no", []),
                try await $0.execute("SELECT key, amount FROM balances", [])
            )
        }
        #expect(effects.count == Self.eventCount, "\(place): lost or done twice")
        var versions: [String: Int64] = [:]
        for row in effects {
            guard let key = row[0].text, let version = row[1].integer else { continue }
            #expect(version == versions[key, default: 0] + 1, "\(place): \(key) is out of order")
            versions[key] = version
        }
        #expect(versions == expected.mapValues(\.count), "\(place)")
        var amounts: [String: Int64] = [:]
        for row in balances { if let key = row[0].text { amounts[key] = row[1].integer } }
        #expect(amounts == expected.mapValues(\.amount), "\(place)")
        try await server.stop()
    }

    private func projector(_ number: Int, _ port: Int, _ database: String) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Binary.path).deletingLastPathComponent()
            .appendingPathComponent("Projector")
        process.environment = ProcessInfo.processInfo.environment.merging([
            "PROJECTOR_TENANT": tenant.uuidString, "PROJECTOR_WORKER": "projector-\(number)",
            "PROJECTOR_CONSUMER": "\(consumer.name)", "PROJECTOR_PORT": "\(port)", "PROJECTOR_DATABASE": database,
            "PROJECTOR_CA": try TestCertificates.shared.get().file("ca.pem"),
        ]) { $1 }
        try process.run()
        return process
    }

    /// - Returns: of each account, its events and their sum.
    private func append(
        _ client: MartletClient, seed: UInt64
    ) async throws -> [String: (count: Int64, amount: Int64)] {
        var random = SeededGenerator(seed: seed)
        let accounts = (0..<200).map { _ in AggregateName.new("account") }
        let type = try #require(EventType("Moved"))
        var sums: [String: (count: Int64, amount: Int64)] = [:]
        var left = Self.eventCount
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
}
