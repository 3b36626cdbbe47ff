import Foundation
import MartletClient
import MartletModel
import MartletProjections
import MartletProjectionsSQLite
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// The projection in Python of Examples/Projections, which takes the steps of Docs/PROJECTIONS.md: what it leaves is the same
/// as what is computed straight from the events, whatever is killed, and a runner in Swift goes on with it.
@Suite(.serialized) struct PythonProjectionTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let eventCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON_EVENTS"].flatMap { Int($0) } ?? 20_000

    /// For so long Python may take the events in, and try those again that failed: one in a hundred, twice each.
    private static let patience = Duration.seconds(60 + eventCount / 1_000)

    private enum Blow { case worker, stop, server }

    /// A line of an account's statement.
    private struct Line: Hashable {
        var version: Int64
        var position: Int64
        var amount: Int64
        var balance: Int64
    }

    private let consumer: ConsumerID
    private let accounts = (0..<200).map { _ in AggregateName.new("account") }
    private let folder: TemporaryFolder
    private var database: String { folder.path + "/statements.db" }
    private var storage: String { "sqlite:\(folder.path)/m.db" }

    init() throws {
        consumer = ConsumerID(tenant: TenantID(UUID()), name: try #require(ConsumerName("statements")))
        folder = try TemporaryFolder()
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func whatKilledWorkersLeaveIsComplete() async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        print("python: \(place)")
        var server = try await ServerProcess(storage: storage)
        let port = server.port
        var workers: [Process] = []
        defer { for worker in workers where worker.isRunning { kill(worker.processIdentifier, SIGKILL) } }
        try await MartletClient.withClient(configuration(port), logger: .silent) { client in
            try await putConsumer(client, triesMax: 5)
            for number in 0..<2 { workers.append(try worker(number, port)) }
            var blows = (Array(repeating: Blow.worker, count: 20) + Array(repeating: .server, count: 5))
                .shuffled(using: &random)
            // Early, so that the others are dealt while it sleeps past its lease.
            blows.insert(.stop, at: 3)
            var stopped: (number: Int, until: ContinuousClock.Instant)?
            var left = Self.eventCount
            for (index, blow) in blows.enumerated() {
                let count = left / (blows.count - index)
                left -= count
                let seed = random.next()
                async let appended: Void = append(count, client, seed: seed)
                try await Task.sleep(for: .milliseconds(Int.random(in: 200...800, using: &random)))
                if let (number, until) = stopped, until <= .now {
                    kill(workers[number].processIdentifier, SIGCONT)
                    stopped = nil
                }
                let victim = stopped.map { 1 - $0.number } ?? Int.random(in: 0..<workers.count, using: &random)
                #expect(workers[victim].isRunning, "\(place): \(log(of: victim))")
                switch blow {
                case .worker:
                    kill(workers[victim].processIdentifier, SIGKILL)
                    workers[victim] = try worker(victim, port)
                case .stop:
                    kill(workers[victim].processIdentifier, SIGSTOP)
                    stopped = (victim, .now + .milliseconds(Limits().consumerLeaseMillis + 500))
                case .server:
                    try await server.stop(SIGKILL)
                    server = try await ServerProcess(storage: storage, port: port)
                }
                try await appended
            }
            if let (number, until) = stopped {
                try await Task.sleep(until: until, clock: .continuous)
                kill(workers[number].processIdentifier, SIGCONT)
            }
            let head = try await client.head(of: consumer.tenant).position
            try await client.awaitConsumer(consumer, position: head, timeout: Self.patience)
            try await waitForBlockedKeys(0, client)
            for worker in workers {
                kill(worker.processIdentifier, SIGTERM)
                try await worker.end(within: 20)
                #expect(worker.terminationStatus == 0 && worker.terminationReason == .exit, "\(place)")
            }
            let lines = try await statements(client)
            #expect(lines.values.reduce(0) { $0 + $1.count } == Self.eventCount, "\(place)")
            try await check(lines, place)
        }
        try await server.stop()
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func aSwiftRunnerGoesOnWithWhatPythonLeft() async throws {
        let server = try await ServerProcess(storage: storage)
        try await MartletClient.withClient(configuration(server.port), logger: .silent) { client in
            // An event that fails in its first two tries is parked after the first of them.
            try await putConsumer(client, triesMax: 1)
            let python = try worker(0, server.port)
            defer { if python.isRunning { kill(python.processIdentifier, SIGKILL) } }
            try await append(300, client, seed: 1, failing: 20)
            let head = try await client.head(of: consumer.tenant).position
            try await client.awaitConsumer(consumer, position: head, timeout: .seconds(20))
            let parked = try await client.blockedKeys(ListBlockedKeysRequest(consumer))
            #expect(!parked.isEmpty && parked.allSatisfy { $0.blocked.reason.contains("try 1 of 2 that fail") })
            kill(python.processIdentifier, SIGTERM)
            try await python.end(within: 20)
            #expect(python.terminationStatus == 0, "\(log(of: 0))")

            try await append(300, client, seed: 2, failing: 0)
            let last = try await client.head(of: consumer.tenant).position
            let readModels = try SQLiteReadModels(path: database)
            let name = try #require(WorkerName("swift"))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { [consumer] in
                    try await ProjectionRunner(
                        Statements(), of: consumer, as: name, client: client, database: readModels, logger: .silent
                    ).run()
                }
                try await client.unblockKeys(
                    UnblockKeysRequest(consumer, keys: parked.map { UnblockKeysRequest.Key($0.place) }))
                try await client.awaitConsumer(consumer, position: last, timeout: .seconds(20))
                try await waitForBlockedKeys(0, client)
                group.cancelAll()
            }
            try await check(try await statements(client), "after Swift")
        }
        try await server.stop()
    }

    /// What statement_lines.py does, in Swift.
    private struct Statements: Projection {
        func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
            let amount = try PythonProjectionTests.amount(event.event)
            let account = event.event.aggregate.id.uuidString.lowercased()
            let last = try await transaction.execute(
                "SELECT balance FROM statement_lines WHERE account = $1 ORDER BY no DESC LIMIT 1", .text(account))
            try await transaction.execute(
                """
                INSERT INTO statement_lines (account, version, position, amount, balance) VALUES ($1, $2, $3, $4, $5)
                """, .text(account), .integer(Int64(event.event.version.rawValue)),
                .integer(Int64(event.event.position.rawValue)), .integer(amount),
                .integer((last.first?.first?.integer ?? 0) + amount))
        }
    }

    // MARK: Processes

    private func configuration(_ port: Int) throws -> ClientConfiguration {
        ClientConfiguration(
            host: "127.0.0.1", port: port,
            tls: .init(caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "python-projection")
    }

    private func worker(_ number: Int, _ port: Int) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.python ?? "")
        process.arguments = [
            Repository.root + "/Clients/python/tests/failing_lines.py", "--consumer", "\(consumer.name)",
            "--worker", "python-\(number)", "--database", database,
        ]
        process.environment = ProcessInfo.processInfo.environment.merging([
            "MARTLET_SERVER": "127.0.0.1:\(port)", "MARTLET_CA": try TestCertificates.shared.get().file("ca.pem"),
            "MARTLET_TENANT": consumer.tenant.uuid.uuidString,
            "PYTHONPATH": Repository.root + "/Clients/python/src", "PYTHONDONTWRITEBYTECODE": "1",
        ]) { $1 }
        let path = logPath(of: number)
        if !FileManager.default.fileExists(atPath: path) { try Data().write(to: URL(fileURLWithPath: path)) }
        let log = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try log.seekToEnd()
        process.standardError = log
        try process.run()
        return process
    }

    private func logPath(of number: Int) -> String { folder.path + "/worker-\(number).log" }

    private func log(of number: Int) -> String {
        ((try? String(contentsOfFile: logPath(of: number), encoding: .utf8)) ?? "").suffix(4_000).description
    }

    // MARK: Events

    private func putConsumer(_ client: MartletClient, triesMax: UInt32) async throws {
        var delivery = SlotSettings()
        delivery.triesMax = triesMax
        delivery.backoffMin = .milliseconds(20)
        try await client.putConsumer(
            PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 8, delivery: delivery)))
    }

    /// Appends movements of random accounts.
    /// - Parameter failing: one in so many fails in its first two tries; 0 for none.
    private func append(_ count: Int, _ client: MartletClient, seed: UInt64, failing: Int = 100) async throws {
        var random = SeededGenerator(seed: seed)
        let types = [EventType("Deposited"), EventType("Withdrawn")]
        var left = count
        while left > 0 {
            let events = (0..<min(left, 20)).map { _ in
                var metadata = EventMetadata()
                if failing > 0, Int.random(in: 0..<failing, using: &random) == 0 { metadata.tags["fails"] = "2" }
                return NewEvent(
                    type: types[Int.random(in: 0...1, using: &random)], schemaVersion: 2, metadata: metadata,
                    payload: ByteBuffer(
                        string: #"{"cents":\#(Int.random(in: 1...10_000, using: &random)),"currency":"EUR"}"#))
            }
            left -= events.count
            let account = accounts[Int.random(in: 0..<accounts.count, using: &random)]
            let request = try AppendRequest(
                [NewAggregateEvents(aggregate: account, expected: .any, events: events)], tenant: consumer.tenant)
            while true {
                // The same events, until it is known that they are stored.
                do throws(MartletError) {
                    _ = try await client.append(request)
                    break
                } catch { guard error.isRetryable else { throw error } }
            }
        }
    }

    private static func amount(_ recorded: RecordedEvent) throws -> Int64 {
        struct Money: Decodable { var cents: Int64 }
        let money = try JSONDecoder().decode(Money.self, from: Data(recorded.event.payload.readableBytesView))
        return recorded.event.type.text == "Deposited" ? money.cents : -money.cents
    }

    private func waitForBlockedKeys(_ count: Int, _ client: MartletClient) async throws {
        let tooLong = ContinuousClock.now + Self.patience
        while try await client.consumer(consumer).blockedKeyCount != count, .now < tooLong {
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(try await client.consumer(consumer).blockedKeyCount == count)
    }

    // MARK: Statements

    /// The statements as they follow from the events.
    private func statements(_ client: MartletClient) async throws -> [String: [Line]] {
        var lines: [String: [Line]] = [:]
        for try await recorded in try await client.read(ReadRequest(tenant: consumer.tenant)) {
            let amount = try Self.amount(recorded)
            let account = recorded.aggregate.id.uuidString.lowercased()
            let balance = lines[account]?.last?.balance ?? 0
            lines[account, default: []].append(
                Line(
                    version: Int64(recorded.version.rawValue), position: Int64(recorded.position.rawValue),
                    amount: amount, balance: balance + amount))
        }
        return lines
    }

    /// Holds the read model to them: each line once, those of an account in order.
    private func check(_ expected: [String: [Line]], _ place: String) async throws {
        let rows = try await SQLiteReadModels(path: database).withTransaction {
            try await $0.execute("SELECT account, version, position, amount, balance FROM statement_lines ORDER BY no")
        }
        var lines: [String: [Line]] = [:]
        for row in rows {
            guard row.count == 5, let account = row[0].text else { continue }
            let numbers = row.dropFirst().compactMap(\.integer)
            lines[account, default: []].append(
                Line(version: numbers[0], position: numbers[1], amount: numbers[2], balance: numbers[3]))
        }
        let count = expected.values.reduce(0) { $0 + $1.count }
        #expect(rows.count == count, "\(place): lost or done twice")
        let different = expected.filter { lines[$0.key] != $0.value }
        #expect(different.isEmpty && lines.count == expected.count, "\(place): \(different.keys.sorted().prefix(3))")
    }
}
