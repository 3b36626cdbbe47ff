import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import Testing
@testable import MartletStoragePostgreSQL

/// Another program locks tenants' rows: their calls wait, in order, and the other tenants' go on.
@Suite(.blocking, .needsPostgres) struct LockedTenantTests {
    /// Rounds of the measured comparison, and how long each is.
    private static let rounds = Int(ProcessInfo.processInfo.environment["MARTLET_TEST_LOCK_ROUNDS"] ?? "") ?? 1
    private static let seconds = rounds > 1 ? 2.0 : 1.0

    /// Holds tenants' rows locked until it goes.
    private final class Lock {
        private let connection: PostgresConnection

        init(_ tenants: some Sequence<TenantID>, _ bench: Bench) throws {
            connection = try bench.connect()
            let ids = tenants.map { "'\($0.uuid.uuidString)'" }.joined(separator: ", ")
            guard !ids.isEmpty else { return }
            try connection.run("BEGIN; SELECT 1 FROM \(bench.schema).tenants WHERE id IN (\(ids)) FOR UPDATE")
        }

        func end() throws { try connection.run("ROLLBACK") }
    }

    /// What came of a tenant's calls, in the order in which it came.
    private typealias Answers = NIOLockedValueBox<[(number: Int, result: Result<WriteOutcome, MartletError>)]>

    private func append(_ number: Int, to tenant: TenantID, _ store: EventStore, _ answers: Answers) throws {
        _ = store.write(.append(try .sample(tenant: tenant))) { result in
            answers.withLockedValue { $0.append((number, result)) }
        }
    }

    private func prepare(_ tenants: [TenantID], _ store: EventStore) async throws {
        for tenant in tenants { _ = try await store.write(.append(.sample(tenant: tenant))) }
    }

    /// Four that are locked and forty, more than half of the writers could wait for one by one.
    @Test(arguments: [1, 4, 40]) func theOthersGoOn(_ count: Int) async throws {
        let bench = try Bench()
        let engine = bench.engine()
        let store = EventStore(engine: engine, limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
        let tenants = (0..<200).map { _ in TenantID(UUID()) }
        try await prepare(tenants, store)
        let lock = try Lock(tenants.prefix(count), bench)
        let held = tenants.prefix(count).map { ($0, Answers([])) }
        for number in 0..<5 { for (tenant, answers) in held { try append(number, to: tenant, store, answers) } }
        var slowest = Duration.zero
        // Well before their calls are refused.
        let end = ContinuousClock.now + .seconds(8)
        for _ in 0..<20 where ContinuousClock.now < end {
            let begin = ContinuousClock.now
            try await withThrowingTaskGroup(of: Void.self) { group in
                for tenant in tenants.dropFirst(count) {
                    group.addTask {
                        let outcome = try await store.write(.append(.sample(tenant: tenant)))
                        #expect(outcome.receipt != nil)
                    }
                }
                try await group.waitForAll()
            }
            slowest = max(slowest, .now - begin)
            let waiting = try bench.rows(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE application_name = '\(bench.schema)' AND wait_event_type = 'Lock'
                """)
            #expect(Int(waiting[0][0]).map { $0 <= engine.writersMax / 2 } == true, "\(waiting[0][0]) sessions wait")
        }
        print("\(count) locked: at most \(slowest) for one append each of the others")
        #expect(slowest < .seconds(5), "\(slowest) for one append each of the others")
        for (_, answers) in held { #expect(answers.withLockedValue { $0.isEmpty }) }
        try lock.end()
        let deadline = ContinuousClock.now + .seconds(10)
        while held.contains(where: { $0.1.withLockedValue { $0.count } < 5 }), .now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        for (_, answers) in held {
            let all = answers.withLockedValue { $0 }
            #expect(all.map(\.number) == [0, 1, 2, 3, 4])
            let positions = all.map { try? $0.result.get().receipt?.lastPosition.rawValue }
            #expect(positions == [2, 3, 4, 5, 6])
        }
        await store.shutDown()
    }

    /// A tenant that another server is making just now, without an end, is waited for as a locked one is.
    @Test func aTenantInTheMakingHoldsNobodyUp() async throws {
        let bench = try Bench()
        let store = EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
        let tenants = (0..<50).map { _ in TenantID(UUID()) }
        let maker = try bench.connect()
        try maker.run(
            """
            BEGIN; INSERT INTO \(bench.schema).tenants (id, position, recorded_at, aggregate_count)
            VALUES ('\(tenants[0].uuid.uuidString)', 0, 0, 0)
            """)
        let answers = Answers([])
        for (number, tenant) in tenants.enumerated() { try append(number, to: tenant, store, answers) }
        let deadline = ContinuousClock.now + .seconds(10)
        while answers.withLockedValue({ $0.count }) < 49, .now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(answers.withLockedValue { $0.map(\.number).sorted() } == Array(1..<50))
        try maker.run("ROLLBACK")
        while answers.withLockedValue({ $0.count }) < 50, .now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(answers.withLockedValue { $0.allSatisfy { (try? $0.result.get().receipt) != nil } })
        await store.shutDown()
    }

    /// Sixty are locked, more than could be waited for one by one; half of them are free again after a while.
    @Test func callsAreRefusedWhenTheirTenantsStayLocked() async throws {
        let bench = try Bench()
        let log = CapturedLog()
        let store = EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: log.logger)
        try store.start()
        let tenants = (0..<60).map { _ in TenantID(UUID()) }
        try await prepare(tenants, store)
        let (lock, otherLock) = (try Lock(tenants.prefix(30), bench), try Lock(tenants.suffix(30), bench))
        let begin = ContinuousClock.now
        let answers = NIOLockedValueBox<[Int: (result: Result<WriteOutcome, MartletError>, at: Duration)]>([:])
        for (number, tenant) in tenants.enumerated() {
            _ = store.write(.append(try .sample(tenant: tenant))) { result in
                answers.withLockedValue { $0[number] = (result, .now - begin) }
            }
        }
        func answered(_ numbers: Range<Int>, within time: Duration) async throws -> Bool {
            let end = ContinuousClock.now + time
            while ContinuousClock.now < end {
                if answers.withLockedValue({ answers in numbers.allSatisfy { answers[$0] != nil } }) { return true }
                try await Task.sleep(for: .milliseconds(5))
            }
            return false
        }
        // One of them is waited for as one whose lock lasts.
        let isLasting = """
            SELECT count(*) FROM pg_stat_activity WHERE application_name = '\(bench.schema)'
            AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '300 ms'
            """
        while try bench.rows(isLasting) == [["0"]], .now - begin < .seconds(15) {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(answers.withLockedValue { $0.isEmpty })
        try otherLock.end()
        let freed = ContinuousClock.now
        #expect(try await answered(30..<60, within: .seconds(4)), "they are free again")
        print("30 of 60 locked tenants went on \(ContinuousClock.now - freed) after their locks")
        #expect(try await answered(0..<30, within: .seconds(30)))
        let all = answers.withLockedValue { $0 }
        for number in 30..<60 { #expect(try all[number]?.result.get().receipt?.lastPosition == Position(2)) }
        for number in 0..<30 {
            guard case .failure(let error)? = all[number]?.result, let waited = all[number]?.at else {
                Issue.record("\(String(describing: all[number]))")
                continue
            }
            #expect(error.reason == .storageUnavailable && error.isRetryable)
            #expect(error.message.contains("locked"), "\(error)")
            #expect(LockWait.max <= waited && waited < LockWait.max + .seconds(5), "\(waited)")
        }
        let times = all.filter { $0.key < 30 }.map(\.value.at)
        print("the others were refused after \(times.min() ?? .zero) to \(times.max() ?? .zero)")
        #expect(log.lines.contains { $0.contains("a tenant stays locked") }, "\(log.lines)")
        try lock.end()
        #expect(try await store.write(.append(.sample(tenant: tenants[0]))).receipt?.lastPosition == Position(2))
        await store.shutDown()
    }

    /// Two servers that write to the same tenants as fast as they can: each gets on.
    @Test(arguments: [1, 20]) func serversThatShareTenantsDoNotStarveEachOther(_ count: Int) async throws {
        let bench = try Bench()
        let tenants = (0..<count).map { _ in TenantID(UUID()) }
        let stores = (0..<2).map { _ in
            EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: .silent)
        }
        for store in stores { try store.start() }
        try await prepare(tenants, stores[0])
        let end = ContinuousClock.now + .seconds(3)
        let done = try await withThrowingTaskGroup(of: (Int, Int, Duration).self) { group in
            for (server, store) in stores.enumerated() {
                for tenant in tenants {
                    for _ in 0..<4 {
                        group.addTask {
                            var (count, slowest) = (0, Duration.zero)
                            while ContinuousClock.now < end {
                                let begin = ContinuousClock.now
                                let outcome = try await store.write(.append(.sample(tenant: tenant)))
                                guard outcome.receipt != nil else { throw BenchFailure("\(outcome)") }
                                slowest = max(slowest, .now - begin)
                                count += 1
                            }
                            return (server, count, slowest)
                        }
                    }
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        for store in stores { await store.shutDown() }
        let counts = (0..<2).map { server in done.filter { $0.0 == server }.reduce(0) { $0 + $1.1 } }
        let slowest = done.map(\.2).max() ?? .zero
        print("two servers, \(count) tenants: \(counts) appends in 3 s, the slowest \(slowest)")
        #expect(counts.min() ?? 0 > (counts.max() ?? 0) / 5, "\(counts)")
        #expect(done.allSatisfy { $0.1 > 0 } && slowest < LockWait.max / 2, "\(slowest)")
        for tenant in tenants {
            let events = try bench.engine().makeReader().events(of: tenant)
            #expect(events.map(\.position.rawValue) == events.indices.map { UInt64($0) + 1 })
        }
    }

    /// 199 tenants beside none, one and four that are locked, in turn: `MARTLET_TEST_LOCK_ROUNDS` rounds.
    @Test func whatLockedTenantsCostOthers() async throws {
        let bench = try Bench()
        let store = EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
        let tenants = (0..<203).map { _ in TenantID(UUID()) }
        try await prepare(tenants, store)
        let others = Array(tenants.dropFirst(4))
        var all: [Int: [Duration]] = [:]
        for round in 1...Self.rounds {
            var line = "round \(round):"
            for count in round % 2 == 0 ? [4, 1, 0] : [0, 1, 4] {
                let lock = try Lock(tenants.prefix(count), bench)
                let answers = Answers([])
                for tenant in tenants.prefix(count) { try append(0, to: tenant, store, answers) }
                let end = ContinuousClock.now + .seconds(Self.seconds)
                let times = try await withThrowingTaskGroup(of: [Duration].self) { group in
                    for tenant in others {
                        group.addTask {
                            var times: [Duration] = []
                            while ContinuousClock.now < end {
                                let begin = ContinuousClock.now
                                let outcome = try await store.write(.append(.sample(tenant: tenant)))
                                guard outcome.receipt != nil else { throw BenchFailure("\(outcome)") }
                                times.append(.now - begin)
                                try await Task.sleep(for: .milliseconds(100))
                            }
                            return times
                        }
                    }
                    return try await group.reduce(into: []) { $0 += $1 }
                }
                try lock.end()
                while answers.withLockedValue({ $0.count }) < count { try await Task.sleep(for: .milliseconds(5)) }
                all[count, default: []] += times
                line += " \(count) locked \(Self.summary(times))"
            }
            print(line)
        }
        for count in [0, 1, 4] { print("all: \(count) locked \(Self.summary(all[count] ?? []))") }
        let none = Self.quantile(all[0] ?? [], 99)
        for count in [1, 4] {
            #expect(Self.quantile(all[count] ?? [], 99) < none * 4 + .milliseconds(500), "\(count) locked")
        }
        await store.shutDown()
    }

    private static func quantile(_ times: [Duration], _ percent: Int) -> Duration {
        times.isEmpty ? .zero : times.sorted()[min(times.count - 1, times.count * percent / 100)]
    }

    private static func summary(_ times: [Duration]) -> String {
        let shown = [50, 99, 100].map { ((quantile(times, $0) / .milliseconds(1)) * 10).rounded() / 10 }
        return "n \(times.count) p50 \(shown[0]) p99 \(shown[1]) max \(shown[2]) ms;"
    }
}
