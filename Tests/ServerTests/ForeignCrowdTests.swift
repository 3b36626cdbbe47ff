import Foundation
import MartletClient
import MartletModel
import MartletRecordCodec
import MartletServer
import MartletStorage
import MartletStoragePostgreSQL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Synchronization
import Testing

/// Another server commits to a thousand tenants at once while many are followed here: what the others feel, and what it
/// costs in reads. `MARTLET_TEST_CROWD` tenants are followed, for `MARTLET_TEST_CROWD_ROUNDS` rounds.
@Suite(.serialized, .enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
struct ForeignCrowdTests {
    private static let followed = number("MARTLET_TEST_CROWD") ?? 2_000
    private static let rounds = number("MARTLET_TEST_CROWD_ROUNDS") ?? 1
    private static let movedAtOnce = 1_000
    private static let commitsPerRound = 3

    private static func number(_ name: String) -> Int? { ProcessInfo.processInfo.environment[name].flatMap { Int($0) } }

    private final class Count: Sendable {
        private let count = Atomic<Int>(0)

        var value: Int { count.load(ordering: .relaxed) }

        func add(_ more: Int) { count.wrappingAdd(more, ordering: .relaxed) }
    }

    @Test func aThousandTenantsThatMoveElsewhereHoldNobodyUp() async throws {
        let database = try PostgresTestDatabase()
        let engine = FaultyEngine(PostgreSQLEngine(database))
        try await TestServer.with(engine) { server in
            let tenants = (0..<Self.followed).map { _ in TenantID(UUID()) }
            let other = PostgreSQLEngine(database)
            let writer = other.makeWriter()
            for some in stride(from: 0, to: tenants.count, by: Self.movedAtOnce) {
                let batch = tenants[some..<min(some + Self.movedAtOnce, tenants.count)]
                _ = try writer.commit(try batch.map { try Self.append(to: $0) }, now: .now(), lockWait: .seconds(20))
            }
            let (live, arrived) = (Count(), Count())
            let followers = Task {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for some in stride(from: 0, to: tenants.count, by: 1_000) {
                        let batch = tenants[some..<min(some + 1_000, tenants.count)]
                        group.addTask {
                            try await server.withClient { client in
                                try await withThrowingTaskGroup(of: Void.self) { group in
                                    for tenant in batch {
                                        group.addTask {
                                            for try await item in client.subscribe(
                                                SubscribeRequest(tenant: tenant, start: .head))
                                            {
                                                switch item {
                                                case .caughtUp: live.add(1)
                                                case .events(let events, _):
                                                    arrived.add(events.count)
                                                default: break
                                                }
                                            }
                                        }
                                    }
                                    try await group.waitForAll()
                                }
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            defer { followers.cancel() }
            try await Self.wait("all are live") { live.value == tenants.count }
            var times: [Bool: [Duration]] = [:]
            for round in 1...Self.rounds {
                for isDisturbed in round % 2 == 0 ? [true, false] : [false, true] {
                    let (before, arrivedBefore, began) = (engine.asked, arrived.value, ContinuousClock.now)
                    let elsewhere = Task {
                        guard isDisturbed else { return }
                        for commit in 0..<Self.commitsPerRound {
                            let first = commit * Self.movedAtOnce % max(1, tenants.count - Self.movedAtOnce + 1)
                            let moved = tenants[first..<min(first + Self.movedAtOnce, tenants.count)]
                            _ = try await Threads.run {
                                try other.makeWriter().commit(
                                    try moved.map { try Self.append(to: $0) }, now: .now(), lockWait: .seconds(20))
                            }
                            try await Task.sleep(for: .milliseconds(500))
                        }
                    }
                    let some = try await server.withClient { client in
                        try await Self.measure(client, for: .milliseconds(600 * Self.commitsPerRound))
                    }
                    try await elsewhere.value
                    times[isDisturbed, default: []] += some
                    let moved = isDisturbed ? Self.commitsPerRound * min(Self.movedAtOnce, tenants.count) : 0
                    try await Self.wait("all have arrived") { arrived.value == arrivedBefore + moved }
                    let now = engine.asked
                    let (looked, pages) = (now.tenants - before.tenants, now.pages - before.pages)
                    print(
                        "round \(round), \(moved) events of elsewhere: \(Self.summary(some)); \(looked) tenants looked "
                            + "after in \(now.tenantStates - before.tenantStates) reads, \(pages) pages read")
                    // One page for each event at most. Beside the tenants that moved, all are looked after once a second.
                    let seconds = Int((ContinuousClock.now - began) / .seconds(1))
                    #expect(pages <= moved && looked <= 2 * moved + (seconds + 2) * tenants.count)
                }
            }
            for isDisturbed in [false, true] {
                print("all, \(isDisturbed ? "disturbed" : "alone"): \(Self.summary(times[isDisturbed] ?? []))")
            }
            let alone = Self.quantile(times[false] ?? [], 99)
            #expect(Self.quantile(times[true] ?? [], 99) < alone * 10 + .seconds(1))
        }
    }

    /// 20 appends and 20 heads a second of a tenant that nobody else touches, and what each took.
    private static func measure(_ client: MartletClient, for duration: Duration) async throws -> [Duration] {
        let (type, kind): (EventType, AggregateType) = ("Made", "crowd")
        let (tenant, aggregate) = (TenantID(UUID()), AggregateName(type: kind, id: UUID()))
        var times: [Duration] = []
        let end = ContinuousClock.now + duration
        while .now < end {
            var begin = ContinuousClock.now
            _ = try await client.append(
                [NewEvent(type: type, payload: ByteBuffer(string: "1"))], to: aggregate, expecting: .any, tenant: tenant
            )
            times.append(.now - begin)
            begin = .now
            _ = try await client.head(of: tenant)
            times.append(.now - begin)
            try await Task.sleep(for: .milliseconds(50))
        }
        return times
    }

    private static func append(to tenant: TenantID) throws -> WriteCommand {
        let (type, kind): (EventType, AggregateType) = ("Made", "crowd")
        let part = AggregateAppend(
            aggregate: AggregateName(type: kind, id: UUID()), expected: .any,
            events: [try EncodedEvent(NewEvent(type: type, payload: ByteBuffer(string: "1")))])
        return .append(AppendRequest(tenant: tenant, aggregates: [part]))
    }

    private static func wait(_ what: Comment, until isSo: () -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(240)
        while !isSo() {
            guard .now < deadline else { throw LateError(what: what) }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    private struct LateError: Error { let what: Comment }

    private static func quantile(_ times: [Duration], _ percent: Int) -> Duration {
        times.isEmpty ? .zero : times.sorted()[min(times.count - 1, times.count * percent / 100)]
    }

    private static func summary(_ times: [Duration]) -> String {
        let shown = [50, 99, 100].map { ((quantile(times, $0) / .milliseconds(1)) * 10).rounded() / 10 }
        return "n \(times.count) p50 \(shown[0]) p99 \(shown[1]) max \(shown[2]) ms"
    }
}
