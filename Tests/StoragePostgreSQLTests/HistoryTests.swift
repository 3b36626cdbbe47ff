import Foundation
import MartletClient
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletStoragePostgreSQL

/// A database that comes back with another past, under a running server and its subscribers.
///
/// `MARTLET_TEST_PASTS` is how many rounds each kind has; 50 in all where it is 17.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct HistoryTests {
    /// How the past changes.
    enum Change: String, CaseIterable, Sendable {
        /// Another cluster takes over, which has heard of nothing after its copy was made.
        case failover
        /// All tables are emptied, and numbered from the beginning; no connection breaks.
        case truncate
        /// All tables get what they held before; no connection breaks.
        case restore
    }

    private static let rounds =
        ProcessInfo.processInfo.environment["MARTLET_TEST_PASTS"].flatMap { Int($0) } ?? TestRounds.count(1, long: 3)
    private static let tables = [
        "tenants", "aggregates", "events", "snapshots", "documents", "consumers", "consumer_epochs", "consumer_slots",
        "consumer_workers", "blocked_keys", "schedules", "schedule_tenants",
    ]

    /// What a subscriber got, and how it ended.
    private final class Subscriber: Sendable {
        struct Got: Sendable {
            var events: [RecordedEvent] = []
            var position = Position.start
            var head = Position.start
            var error: MartletError?
        }

        let tenant: TenantID
        let filter: EventFilter
        let got = NIOLockedValueBox(Got())
        /// It takes its first events, and no more until it is let go on.
        let isHeld: NIOLockedValueBox<Bool>
        let fallsBehind: Bool

        init(_ tenant: TenantID, _ filter: EventFilter, fallsBehind: Bool = false) {
            self.tenant = tenant
            self.filter = filter
            self.fallsBehind = fallsBehind
            isHeld = NIOLockedValueBox(fallsBehind)
        }

        func run(_ client: MartletClient) async {
            let request = SubscribeRequest(tenant: tenant, filter: filter, heartbeatMillis: 200)
            do throws(MartletError) {
                // One event at a time is with one that falls behind; the server reads the others later.
                for try await item in client.subscribe(request, windowBytes: fallsBehind ? 1 : 1 << 20) {
                    while got.withLockedValue({ !$0.events.isEmpty }), isHeld.withLockedValue({ $0 }) {
                        try? await Task.sleep(for: .milliseconds(5))
                        if Task.isCancelled { return }
                    }
                    got.withLockedValue { got in
                        switch item {
                        case .events(let events, _):
                            got.events += events
                            got.position = events.last?.position ?? got.position
                        case .caughtUp(let position, _), .checkpoint(let position, _), .fellBehind(let position, _),
                            .heartbeat(let position, _, _), .started(let position, _):
                            got.position = max(got.position, position)
                        case .upcastersChanged, .reconnected: break
                        }
                    }
                }
            } catch {
                got.withLockedValue { $0.error = error }
            }
        }
    }

    private func change(
        _ change: Change, _ cluster: OwnCluster, _ bench: Bench
    ) throws {
        switch change {
        case .failover: try cluster.failOverToCopy()
        case .truncate:
            try bench.run("TRUNCATE \(Self.tables.joined(separator: ", ")) RESTART IDENTITY")
        case .restore:
            let copies = Self.tables.map {
                "INSERT INTO \($0) \($0 == "tenants" ? "OVERRIDING SYSTEM VALUE " : "")SELECT * FROM kept_\($0);"
            }
            try bench.run(
                "BEGIN; TRUNCATE \(Self.tables.joined(separator: ", ")); \(copies.joined(separator: " ")) "
                    + "SELECT setval(pg_get_serial_sequence('\(bench.schema).tenants', 'no'), "
                    + "(SELECT max(no) FROM tenants)); COMMIT")
        }
    }

    private func keep(_ change: Change, _ cluster: OwnCluster, _ bench: Bench) throws {
        switch change {
        case .failover: try cluster.keepCopy()
        case .truncate: break
        case .restore:
            for table in Self.tables {
                try bench.run("DROP TABLE IF EXISTS kept_\(table); CREATE TABLE kept_\(table) AS TABLE \(table)")
            }
        }
    }

    private func wait(_ what: String, _ condition: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(30)
        while try await !condition() {
            guard ContinuousClock.now < end else { throw BenchFailure("not within 30 s: \(what)") }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    private static func filter(_ kind: Int) -> EventFilter {
        switch kind {
        case 1: EventFilter(eventTypes: ["Even"])
        case 2: EventFilter(eventTypes: ["Never"])
        default: .all
        }
    }

    @Test(arguments: Change.allCases)
    func subscribersEndAboveTheForkOrGoOnRightly(_ change: Change) async throws {
        let random = SeededGenerator.fromEnvironment()
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        try await TestServer.with(bench.engine()) { server in
            try await server.withClient { client in
                var numbers = random
                for round in 0..<Self.rounds {
                    try await self.round(
                        change, cluster, bench, client, &numbers, "seed \(random.seed), round \(round)")
                }
            }
        }
    }

    private func round(
        _ change: Change, _ cluster: OwnCluster, _ bench: Bench, _ client: MartletClient,
        _ numbers: inout SeededGenerator, _ place: String
    ) async throws {
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let reader = { bench.engine().makeReader() }
        var generator = numbers
        let append = { (tenant: TenantID, count: Int) async throws in
            for _ in 0..<count {
                let events = try (0..<Int.random(in: 1...3, using: &generator)).map { _ in
                    try EncodedEvent.sample(
                        #"{"of": "\#(tenant)"}"#, kind: Bool.random(using: &generator) ? "Even" : "Odd")
                }
                let request = AppendRequest.of(events, tenant: tenant)
                try await wait("append, \(place)") {
                    do throws(MartletError) {
                        _ = try await client.append(request)
                        return true
                    } catch {
                        guard error.isRetryable else { throw error }
                        return false
                    }
                }
            }
        }
        for tenant in tenants { try await append(tenant, Int.random(in: 1...4, using: &generator)) }
        try keep(change, cluster, bench)
        var forks: [TenantID: Position] = [:]
        for tenant in tenants {
            forks[tenant] = change == .truncate ? .start : try reader().head(of: tenant).position
        }
        let subscribers = tenants.flatMap { tenant in
            (0..<3).map { Subscriber(tenant, Self.filter($0)) } + [Subscriber(tenant, .all, fallsBehind: true)]
        }
        let following = subscribers.map { subscriber in Task { await subscriber.run(client) } }
        // Some of them get the events that vanish from storage, others as they are appended.
        if Bool.random(using: &generator) {
            try await wait("start, \(place)") {
                subscribers.allSatisfy { $0.fallsBehind || $0.got.withLockedValue { $0.position } > .start }
            }
        }
        for tenant in tenants where Int.random(in: 0..<4, using: &generator) > 0 {
            try await append(tenant, Int.random(in: 1...4, using: &generator))
        }
        var seen: [TenantID: EventMark] = [:]
        for tenant in tenants {
            let head = try reader().head(of: tenant)
            seen[tenant] = head.eventID.map { EventMark(position: head.position, eventID: $0) }
            try await wait("all came, \(place)") {
                subscribers.allSatisfy {
                    $0.fallsBehind || $0.tenant != tenant || $0.got.withLockedValue { $0.position } == head.position
                }
            }
        }
        try self.change(change, cluster, bench)
        for tenant in tenants where Int.random(in: 0..<4, using: &generator) > 0 {
            try await append(tenant, Int.random(in: 1...6, using: &generator))
        }
        numbers = generator
        for subscriber in subscribers { subscriber.isHeld.withLockedValue { $0 = false } }

        var stored: [TenantID: [RecordedEvent]] = [:]
        for tenant in tenants {
            let events = try reader().events(of: tenant)
            stored[tenant] = events
            #expect(events.allSatisfy { String(buffer: $0.event.payload).contains("\(tenant)") }, "\(place)")
        }
        let tooSlow = ContinuousClock.now + .seconds(20)
        for subscriber in subscribers {
            let events = (stored[subscriber.tenant] ?? []).filter {
                subscriber.filter.matches($0.aggregate, $0.event.type)
            }
            let head = Position(UInt64(stored[subscriber.tenant]?.count ?? 0))
            // It ends, or has all there is and is at the head.
            var got = subscriber.got.withLockedValue { $0 }
            while got.error == nil, got.events != events || got.position != head, ContinuousClock.now < tooSlow {
                try await Task.sleep(for: .milliseconds(10))
                got = subscriber.got.withLockedValue { $0 }
            }
            let fork = forks[subscriber.tenant] ?? .start
            if let error = got.error {
                #expect(error.reason == .historyChanged, "\(place): \(error)")
                let comparable = error.comparablePosition ?? .max
                #expect(comparable <= fork, "\(place): fork at \(fork)")
                #expect(got.position > comparable, "\(place): \(got.position)")
                // Of one that is behind, its place may be older than what the server has to compare by.
                #expect(subscriber.fallsBehind || got.position > fork, "\(place): nothing that it got is gone")
            } else {
                #expect(got.events == events && got.position == head, "\(place): \(got.position) of \(head)")
            }
        }
        for (tenant, mark) in seen {
            let after = SubscribeRequest(tenant: tenant, start: .after(mark.position), lastSeen: mark)
            let events = stored[tenant] ?? []
            let isThere = events.contains { $0.position == mark.position && $0.event.id == mark.eventID }
            do throws(MartletError) {
                let first = try await client.subscribeEncoded(after).next()
                #expect(isThere && first.signal == .started(after: mark.position), "\(place)")
            } catch {
                #expect(!isThere && error.reason == .historyChanged, "\(place): \(error)")
            }
            // Who comes now gets what is there, and nothing that was.
            let late = Subscriber(tenant, .all)
            let task = Task { await late.run(client) }
            try await wait("the new one has all, \(place)") {
                late.got.withLockedValue { $0.position.rawValue >= UInt64(events.count) || $0.error != nil }
            }
            #expect(late.got.withLockedValue { $0.events } == events && late.got.withLockedValue { $0.error } == nil)
            task.cancel()
        }
        for task in following { task.cancel() }
    }
}
