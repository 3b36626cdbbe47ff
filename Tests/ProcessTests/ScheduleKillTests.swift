import Foundation
import MartletClient
import MartletModel
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Schedules that are due while servers are killed: each event comes once, none early, none is lost, and outside of the
/// restarts about as late as a bare timer.
@Suite(.serialized) struct ScheduleKillTests {
    private static func number(_ name: String, _ standard: Int) -> Int {
        ProcessInfo.processInfo.environment["MARTLET_TEST_SCHEDULE_\(name)"].flatMap { Int($0) } ?? standard
    }

    private static let count = number("COUNT", 1_000)
    private static let millis = Int64(number("MILLIS", 4_000))
    /// How much later than a timer's the p99 may be, in milliseconds; 0 where the machine is not quiet.
    private static let latenessMax = number("LATENESS", 0)

    @Test func oneServerOnSQLite() async throws {
        let folder = try TemporaryFolder()
        let storage = "sqlite:\(folder.path)/m.db"
        try await run("SQLite", [try await ServerProcess(storage: storage)], storage)
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func threeServersOnPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        var servers: [ServerProcess] = []
        for _ in 0..<3 { servers.append(try await ServerProcess(storage: database.url)) }
        try await run("PostgreSQL", servers, database.url)
    }

    private func run(_ name: String, _ started: [ServerProcess], _ storage: String) async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "\(name), seed \(random.seed)"
        var servers = started
        let tenants = (0..<4).map { _ in TenantID(UUID()) }
        // Time enough to set them before.
        let begin = Timestamp.now().microseconds + 2_000_000 + 1_000 * Int64(Self.count)
        let dues = (0..<Self.count).map { _ in
            Timestamp(microseconds: begin + Int64.random(in: 0..<Self.millis * 1_000, using: &random))
        }
        let timers = BareTimers(dues)
        var outages: [ClosedRange<Int64>] = []
        var expected: [UUID: (tenant: TenantID, due: Timestamp)] = [:]
        let clients = try servers.map { try Self.configuration($0.port) }
        for (number, batch) in stride(from: 0, to: Self.count, by: 100).enumerated() {
            let tenant = tenants[number % tenants.count]
            let changes = try (batch..<min(batch + 100, Self.count)).map { index in
                let event = try Self.event(dues[index])
                expected[event.id] = (tenant, dues[index])
                return NewScheduleChange.set(
                    ScheduledEvent(
                        try #require(ScheduleKey("k\(index)")), due: dues[index],
                        aggregate: .new(index % 2 == 0 ? "order" : "customer"), event: event))
            }
            try await MartletClient.withClient(clients[number % clients.count], logger: .silent) { client in
                _ = try await client.changeSchedules(changes, tenant: tenant)
            }
        }
        timers.start()
        if Timestamp.now().microseconds >= begin { print("\(place): the machine took too long to set them") }
        for kill in 1...2 {
            let at = begin + Self.millis * 1_000 * Int64(kill) / 3
            try await Task.sleep(for: .microseconds(max(0, at - Timestamp.now().microseconds)))
            let victim = Int.random(in: 0..<servers.count, using: &random)
            let (port, from) = (servers[victim].port, Timestamp.now().microseconds)
            try await servers[victim].stop(SIGKILL)
            servers[victim] = try await ServerProcess(storage: storage, port: port)
            outages.append(from...(Timestamp.now().microseconds + 500_000))
        }
        let events = try await Self.events(of: tenants, count: Self.count, clients[0])
        try Self.check(events, expected, place)
        let late = events.compactMap { event -> Int64? in
            guard let due = expected[event.event.id]?.due.microseconds,
                !outages.contains(where: { $0.contains(due) })
            else { return nil }
            return event.recordedAt.microseconds - due
        }.sorted()
        let bare = timers.lateness
        print(
            "schedules on \(name): \(events.count) of \(Self.count), late p50 \(late.at(0.5)) p99 \(late.at(0.99)) us "
                + "outside of restarts (\(late.count)), a bare timer p50 \(bare.at(0.5)) p99 \(bare.at(0.99)) us")
        if Self.latenessMax > 0 {
            #expect(late.at(0.99) <= bare.at(0.99) + Int64(Self.latenessMax) * 1_000, "\(place)")
        }
        for server in servers { try await server.stop() }
    }

    private static func check(
        _ events: [RecordedEvent], _ expected: [UUID: (tenant: TenantID, due: Timestamp)], _ place: String
    ) throws {
        #expect(events.count == count, "\(place): \(events.count) events came")
        #expect(Set(events.map(\.event.id)) == Set(expected.keys), "\(place): other events came")
        for event in events {
            let due = try #require(expected[event.event.id]?.due, "\(place): an event that nobody has set")
            #expect(event.recordedAt >= due, "\(place): \(event.event.id) came early")
        }
    }

    /// All events, as soon as there are so many; then for a moment longer, so that one too many shows.
    private static func events(
        of tenants: [TenantID], count: Int, _ configuration: ClientConfiguration
    ) async throws -> [RecordedEvent] {
        try await MartletClient.withClient(configuration, logger: .silent) { client in
            let deadline = ContinuousClock.now + .seconds(60)
            var found = 0
            while found < count, .now < deadline {
                found = 0
                for tenant in tenants { found += Int(try await client.head(of: tenant).position.rawValue) }
                try await Task.sleep(for: .milliseconds(20))
            }
            var all: [RecordedEvent] = []
            for tenant in tenants {
                #expect(try await client.schedules(of: tenant) == [])
                for try await event in try await client.read(ReadRequest(tenant: tenant)) { all.append(event) }
            }
            return all
        }
    }

    private static func event(_ due: Timestamp) throws -> NewEvent {
        NewEvent(
            type: EventType("Reminded"),
            payload: ByteBuffer(string: #"{"due": \#(due.microseconds)}"#))
    }

    private static func configuration(_ port: Int) throws -> ClientConfiguration {
        ClientConfiguration(
            host: "127.0.0.1", port: port,
            tls: .init(caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "schedules")
    }
}

/// How late a timer is with nothing behind it.
private final class BareTimers: Sendable {
    private let dues: [Timestamp]
    private let late = NIOLockedValueBox<[Int64]>([])

    init(_ dues: [Timestamp]) { self.dues = dues }

    func start() {
        let now = Timestamp.now().microseconds
        for due in dues {
            Task { [late] in
                try await Task.sleep(for: .microseconds(max(0, due.microseconds - now)))
                let micros = Timestamp.now().microseconds - due.microseconds
                late.withLockedValue { $0.append(micros) }
            }
        }
    }

    var lateness: [Int64] { late.withLockedValue { $0.sorted() } }
}

extension [Int64] {
    /// The value that this share of the others is not above.
    fileprivate func at(_ share: Double) -> Int64 {
        isEmpty ? 0 : self[Swift.min(count - 1, Int(Double(count) * share))]
    }
}
