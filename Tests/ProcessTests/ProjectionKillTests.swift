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

    private let bench: ProjectionBench

    init() throws { bench = try ProjectionBench(events: Self.eventCount, keys: 200) }

    @Test func aReadModelInSQLite() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/read.db"
        let readModels = try SQLiteReadModels(path: path)
        try await bench.makeTables(readModels, number: "integer PRIMARY KEY")
        try await run(readModels, at: "sqlite:\(path)")
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func aReadModelInPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        let url = database.url + (database.url.contains("?") ? "&" : "?") + "options=-csearch_path%3D\(database.schema)"
        let readModels = PostgreSQLReadModels(url)
        _ = try await readModels.withTransaction { try await $0.execute("CREATE SCHEMA \(database.schema)") }
        try await bench.makeTables(readModels, number: "bigserial PRIMARY KEY")
        try await run(readModels, at: url)
    }

    private func run<Database: ProjectionDatabase>(_ readModels: Database, at database: String) async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        let folder = try TemporaryFolder()
        let storage = "sqlite:\(folder.path)/m.db"
        var server = try await ServerProcess(storage: storage)
        let port = server.port
        var projectors: [Process] = []
        defer { for projector in projectors where projector.isRunning { kill(projector.processIdentifier, SIGKILL) } }
        var expected: [String: (count: Int64, amount: Int64)] = [:]
        try await MartletClient.withClient(bench.configuration(port), logger: .silent) { client in
            try await client.putConsumer(PutConsumerRequest(bench.consumer, ConsumerDefinition(slotCount: 8)))
            for number in 0..<3 { projectors.append(try bench.projector(number, port, database)) }
            let appending = Task { [seed = random.next()] in try await bench.append(client, seed: seed) }
            var (kills, serverKills) = (0, 0)
            // It sleeps past its lease while the others are killed, and goes on as if nothing had happened.
            var stopped: (number: Int, until: ContinuousClock.Instant)?
            // Killed while there is something to do, and some more times after that.
            while kills < 20 || serverKills < 5 || stopped != nil {
                try await Task.sleep(for: .milliseconds(Int.random(in: 50...400, using: &random)))
                if let (number, until) = stopped, until <= .now {
                    kill(projectors[number].processIdentifier, SIGCONT)
                    stopped = nil
                }
                if kills >= 20 && serverKills >= 5 { continue }
                if kills >= 20 || (serverKills < 5 && Int.random(in: 0..<5, using: &random) == 0) {
                    try await server.stop(SIGKILL)
                    server = try await ServerProcess(storage: storage, port: port)
                    serverKills += 1
                } else {
                    let victim = Int.random(in: 0..<projectors.count, using: &random)
                    guard victim != stopped?.number else { continue }
                    if kills == 2 {
                        kill(projectors[victim].processIdentifier, SIGSTOP)
                        stopped = (victim, .now + .milliseconds(Limits().consumerLeaseMillis + 1_000))
                    } else {
                        kill(projectors[victim].processIdentifier, SIGKILL)
                        projectors[victim] = try bench.projector(victim, port, database)
                    }
                    kills += 1
                }
            }
            expected = try await appending.value
            let head = try await client.head(of: bench.consumer.tenant).position
            #expect(head == Position(UInt64(Self.eventCount)), "\(place)")
            try await client.awaitConsumer(bench.consumer, position: head, timeout: .seconds(120))
            #expect(try await client.consumer(bench.consumer).blockedKeyCount == 0, "\(place)")
        }
        try await bench.check(readModels, expected, place)
        try await server.stop()
    }
}
