import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// Several servers on one database.
@Suite(.blocking, .needsPostgres) struct TwoServersTests {
    @Test(
        arguments: [
            "", "-c default_transaction_isolation=repeatable\\ read", "-c default_transaction_isolation=serializable",
        ], [0, 32])
    func writersOfOneTenantLeaveNoGapAndNoDuplicate(_ options: String, _ distrust: Int) async throws {
        let bench = try Bench()
        let names = (0..<3).map { _ in AggregateName.new() }
        let random = SeededGenerator.fromEnvironment()
        let written = try await Threads.race(4) { server in
            var numbers = SeededGenerator(seed: random.seed &+ UInt64(server))
            let writer = bench.engine(options: options, memory: RememberedTenants(distrustMax: distrust)).makeWriter()
            var receipts: [(AppendReceipt, [UUID])] = []
            for _ in 0..<40 {
                let batch = try (0..<Int.random(in: 1...3, using: &numbers)).map { _ in
                    try AppendRequest.sample(
                        Int.random(in: 1...3, using: &numbers), to: names[Int.random(in: 0..<3, using: &numbers)],
                        tenant: bench.tenant)
                }
                for (request, outcome) in zip(batch, try writer.commit(batch, now: .now()).outcomes) {
                    guard let receipt = outcome.receipt else { throw BenchFailure("\(outcome)") }
                    receipts.append((receipt, request.ids))
                }
            }
            return receipts
        }.flatMap { $0 }
        let events = try bench.engine().makeReader().events(of: bench.tenant)
        #expect(events.map(\.position.rawValue) == events.indices.map { UInt64($0) + 1 }, "seed \(random.seed)")
        #expect(events.map(\.recordedAt) == events.map(\.recordedAt).sorted(), "seed \(random.seed)")
        for name in names {
            let versions = events.filter { $0.aggregate == name }.map(\.version.rawValue)
            #expect(versions == versions.indices.map { UInt64($0) + 1 }, "seed \(random.seed)")
        }
        // What each server answered is what is stored.
        #expect(events.count == written.reduce(0) { $0 + $1.1.count })
        for (receipt, ids) in written {
            let stored = events[Int(receipt.firstPosition.rawValue) - 1..<Int(receipt.lastPosition.rawValue)]
            #expect(stored.map(\.event.id) == ids, "seed \(random.seed)")
        }
    }

    @Test(arguments: [0, 32]) func ofWritersWithOneExpectedVersionOneWins(_ distrust: Int) async throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let writers = 4
        let rounds = 40
        let gate = Gate(writers)
        let wins = try await Threads.race(writers) { _ in
            let writer = bench.engine(memory: RememberedTenants(distrustMax: distrust)).makeWriter()
            var wins: [Bool] = []
            for round in 0..<rounds {
                let request = try AppendRequest.sample(
                    to: name, .exact(Version(UInt64(round))), tenant: bench.tenant)
                gate.wait(round)
                let outcome = try writer.commit([request], now: .now()).outcomes[0]
                if case .versionConflict(let conflicts) = outcome {
                    #expect(conflicts.map(\.actual) == [Version(UInt64(round) + 1)])
                }
                wins.append(outcome.receipt != nil)
            }
            return wins
        }
        for round in 0..<rounds { #expect(wins.count { $0[round] } == 1, "round \(round)") }
        #expect(try bench.engine().makeReader().head(of: bench.tenant).position == Position(UInt64(rounds)))
    }

    @Test(arguments: [0, 32]) func ofWritersOfOneCallOneStoresIt(_ distrust: Int) async throws {
        let bench = try Bench()
        let writers = 3
        let rounds = 30
        let gate = Gate(writers)
        // New tenants each time, too: their rows are made at once.
        let requests = try (0..<rounds).map { round in
            try AppendRequest.sample(2, to: .new(), .none, tenant: round % 2 == 0 ? TenantID(UUID()) : bench.tenant)
        }
        let receipts = try await Threads.race(writers) { _ in
            let writer = bench.engine(memory: RememberedTenants(distrustMax: distrust)).makeWriter()
            return try (0..<rounds).map { round in
                gate.wait(round)
                return try writer.append(requests[round])
            }
        }
        for round in 0..<rounds {
            let answers = receipts.map { $0[round] }
            #expect(answers.count { $0?.replayed == false } == 1, "round \(round)")
            #expect(Set(answers.map { $0?.firstPosition }).count == 1 && answers[0] != nil, "round \(round)")
        }
    }

    @Test(arguments: [0, 32])
    func batchesOverManyTenantsInOppositeOrderDoNotWaitForEachOther(_ distrust: Int) async throws {
        let bench = try Bench()
        let random = SeededGenerator.fromEnvironment()
        let (servers, rounds) = (4, 25)
        let old = (0..<20).map { _ in TenantID(UUID()) }
        // Tenants that all of them make at once hold them up before they lock: only in some rounds.
        let all = (0..<rounds).map { round in old + (0..<(round % 3 == 0 ? 5 : 0)).map { _ in TenantID(UUID()) } }
        let gate = Gate(servers)
        let before = try bench.rows(Self.deadlocks)
        _ = try await Threads.race(servers) { server in
            var numbers = SeededGenerator(seed: random.seed &+ UInt64(server))
            let writer = bench.engine(memory: RememberedTenants(distrustMax: distrust)).makeWriter()
            for round in 0..<rounds {
                let order: [TenantID] =
                    switch server {
                    case 0: all[round]
                    case 1: all[round].reversed()
                    default: all[round].shuffled(using: &numbers)
                    }
                let own = (0..<(round % 3 == 1 ? 3 : 0)).map { _ in TenantID(UUID()) }
                let batch = try (order + own).map { try AppendRequest.sample(to: .new(), .none, tenant: $0) }
                gate.wait(round)
                let outcomes = try writer.commit(batch, now: .now()).outcomes
                #expect(outcomes.allSatisfy { $0.receipt != nil }, "seed \(random.seed), round \(round)")
            }
        }
        // A deadlock would be found and ended after a second, and be tried again.
        #expect(try bench.rows(Self.deadlocks) == before, "seed \(random.seed)")
        let heads = try bench.engine().makeReader().heads(of: old)
        #expect(heads.allSatisfy { $0.position.rawValue == UInt64(servers * rounds) }, "seed \(random.seed)")
    }

    private static let deadlocks = """
        SELECT pg_stat_force_next_flush(); SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()
        """
}

/// Lets threads into a round when all have come to it; when one does not come, into all that follow, too.
///
/// `@unchecked Sendable`: the condition guards the numbers.
final class Gate: @unchecked Sendable {
    private let condition = NSCondition()
    private let count: Int
    private var arrived: [Int: Int] = [:]
    private var isOpen = false

    init(_ count: Int) { self.count = count }

    func wait(_ round: Int) {
        condition.withLock {
            arrived[round, default: 0] += 1
            condition.broadcast()
            let deadline = Date().addingTimeInterval(10)
            while !isOpen, arrived[round, default: 0] < count {
                if !condition.wait(until: deadline) { isOpen = true }
            }
        }
    }
}
