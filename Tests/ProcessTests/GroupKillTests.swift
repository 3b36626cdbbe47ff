import Foundation
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletTesting
import NIOCore
import Testing

/// A group of processes: one after the other is killed, others are stopped past their lease and continued, others are added.
/// Each event has one effect, those of a key in order; what the stopped ones commit late is refused.
@Suite(.serialized) struct GroupKillTests {
    private static let isAsked =
        ProcessInfo.processInfo.environment["MARTLET_TEST_GROUP_EVENTS"] != nil && PostgresTestDatabase.isAvailable

    private static func number(_ name: String, _ standard: Int) -> Int {
        ProcessInfo.processInfo.environment["MARTLET_TEST_GROUP_\(name)"].flatMap { Int($0) } ?? standard
    }

    private static let events = number("EVENTS", 5_000)
    private static let keys = number("KEYS", 200)
    private static let workers = number("WORKERS", 6)
    /// Milliseconds between two blows.
    private static let pace = number("PACE", 700)

    @Test(.enabled(if: Self.isAsked, "takes minutes: make test-groups"))
    func oneServerOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await run { _ in [try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")] }
    }

    @Test(.enabled(if: Self.isAsked, "takes minutes: make test-groups"))
    func twoServersOnPostgreSQL() async throws {
        try await run { [try await ServerProcess(storage: $0), try await ServerProcess(storage: $0)] }
    }

    /// The read model is in PostgreSQL: in SQLite, a process that is stopped in a transaction holds up all others.
    private func run(_ makeServers: (String) async throws -> [ServerProcess]) async throws {
        let database = try PostgresTestDatabase()
        let url = database.url + (database.url.contains("?") ? "&" : "?") + "options=-csearch_path%3D\(database.schema)"
        let readModels = PostgreSQLReadModels(url)
        _ = try await readModels.withTransaction { try await $0.execute("CREATE SCHEMA \(database.schema)") }
        let bench = try ProjectionBench(events: Self.events, keys: Self.keys)
        try await bench.makeTables(readModels, number: "bigserial PRIMARY KEY")
        try await run(bench, try await makeServers(url), readModels, at: url)
    }

    private func run<Database: ProjectionDatabase>(
        _ bench: ProjectionBench, _ servers: [ServerProcess], _ readModels: Database, at database: String
    ) async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        let folder = try TemporaryFolder()
        let fences = folder.path + "/fences"
        try Data().write(to: URL(fileURLWithPath: fences))
        var workers: [Process] = []
        defer { for worker in workers where worker.isRunning { kill(worker.processIdentifier, SIGKILL) } }
        func start(_ number: Int) throws -> Process {
            try bench.projector(number, servers[number % servers.count].port, database, fences: fences)
        }
        var (kills, stops) = (0, 0)
        var expected: [String: (count: Int64, amount: Int64)] = [:]
        try await MartletClient.withClient(bench.configuration(servers[0].port), logger: .silent) { client in
            try await client.putConsumer(
                PutConsumerRequest(bench.consumer, ConsumerDefinition(slotCount: Self.workers * 4)))
            let appending = Task { [seed = random.next()] in try await bench.append(client, seed: seed) }
            for number in 0..<max(1, Self.workers / 2) { workers.append(try start(number)) }
            var stopped: [(number: Int, until: ContinuousClock.Instant)] = []
            let lease = Duration.milliseconds(Limits().consumerLeaseMillis)
            let head = Position(UInt64(Self.events))
            var isDone = false
            // While there is something to do, and until each kind of blow was dealt.
            let tooLong = ContinuousClock.now + .seconds(1_800)
            while .now < tooLong, !isDone || kills < 5 || stops < 5 || !stopped.isEmpty {
                try await Task.sleep(for: .milliseconds(Self.pace))
                for (number, until) in stopped where until <= .now { kill(workers[number].processIdentifier, SIGCONT) }
                stopped.removeAll { $0.until <= .now }
                if workers.count < Self.workers { workers.append(try start(workers.count)) }
                let victim = Int.random(in: 0..<workers.count, using: &random)
                isDone = try await client.consumer(bench.consumer).settledTo >= head
                guard !isDone || kills < 5 || stops < 5, !stopped.contains(where: { $0.number == victim }) else {
                    continue
                }
                if stops < kills, stopped.count < Self.workers / 3 {
                    kill(workers[victim].processIdentifier, SIGSTOP)
                    stopped.append((victim, .now + lease + .seconds(1)))
                    stops += 1
                } else {
                    kill(workers[victim].processIdentifier, SIGKILL)
                    workers[victim] = try start(victim)
                    kills += 1
                }
            }
            expected = try await appending.value
            try await client.awaitConsumer(bench.consumer, position: head, timeout: .seconds(120))
            #expect(try await client.consumer(bench.consumer).blockedKeyCount == 0, "\(place)")
        }
        try await bench.check(readModels, expected, place)
        let fenced = try String(contentsOfFile: fences, encoding: .utf8).split(separator: "\n").count
        print(
            "group: \(Self.events) events, \(workers.count) workers, \(kills) killed, \(stops) stopped, \(fenced) fenced"
        )
        if Self.events >= 1_000_000 { #expect(fenced > 20, "\(place)") }
        for server in servers { try await server.stop() }
    }
}
