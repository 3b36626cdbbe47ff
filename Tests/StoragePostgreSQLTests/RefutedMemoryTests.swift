import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What one tenant's calls prove wrong costs that tenant its memory, and no other.
@Suite(.blocking, .needsPostgres) struct RefutedMemoryTests {
    private typealias Known = (tenant: TenantID, name: AggregateName)

    private struct Setting {
        let bench: Bench
        let memory = RememberedTenants()
        let writer: PostgreSQLWriter
        let healthy: [Known]

        init() throws {
            bench = try Bench()
            // A connection that was silent for a second would be asked first.
            let engine = bench.engine(memory: memory, time: HandMovedTime())
            writer = try #require(engine.makeWriter() as? PostgreSQLWriter)
            healthy = (0..<5).map { _ in (TenantID(UUID()), AggregateName.new()) }
            for (tenant, name) in healthy { try writer.append(.sample(to: name, .none, tenant: tenant)) }
        }

        /// An append to each of the healthy ones' aggregates, which must be remembered.
        func batch() throws -> [WriteCommand] {
            try healthy.map { .append(try .sample(to: $0.name, .exists, tenant: $0.tenant)) }
        }

        /// Commits a batch as a whole.
        /// - Returns: whether that took one round trip.
        func isOptimistic(_ batch: [WriteCommand], lockWait: Duration = .zero) throws -> Bool {
            let before = writer.optimisticCommits
            let result = try writer.commit(batch, now: .now(), lockWait: lockWait)
            #expect(result.outcomes.count == batch.count)
            return writer.optimisticCommits > before
        }
    }

    @Test func aTenantThatRetriesLeavesTheMemoryOfOthersAlone() throws {
        let setting = try Setting()
        let retrying: Known = (TenantID(UUID()), AggregateName.new())
        let first = try AppendRequest.sample(to: retrying.name, .any, tenant: retrying.tenant)
        try setting.writer.append(first)
        #expect(try setting.isOptimistic(setting.batch()))
        #expect(try !setting.isOptimistic(setting.batch() + [.append(first)]), "the retry's ids are stored")
        #expect(try setting.isOptimistic(setting.batch()), "the others are remembered")
        #expect(
            try !setting.isOptimistic([.append(.sample(to: retrying.name, .any, tenant: retrying.tenant))]),
            "the one is not trusted for a while")
        // Again and again: it is handed over, and holds nobody up.
        for round in 0..<50 {
            let before = setting.writer.optimisticCommits
            var handed: [Int] = []
            let batch = try setting.batch() + [.append(first)]
            let result = try setting.writer.commit(batch, now: .now()) { handed = $0 }
            if handed.isEmpty {
                #expect(result.outcomes.last?.receipt?.replayed == true, "round \(round)")
            } else {
                #expect(handed == [batch.count - 1] && setting.writer.optimisticCommits == before + 1, "round \(round)")
                let replay = try setting.writer.commit([.append(first)], now: .now(), lockWait: .zero).outcomes
                #expect(replay.first?.receipt?.replayed == true, "round \(round)")
            }
            #expect(try setting.isOptimistic(setting.batch()), "round \(round)")
        }
    }

    @Test func anAggregateThatWasTakenForNewCostsItsTenantAlone() throws {
        let setting = try Setting()
        let bench = setting.bench
        try setting.writer.append(.sample(tenant: bench.tenant))
        let taken = AggregateName.new()
        try bench.writer().append(.sample(to: taken, tenant: bench.tenant))
        // Another server's commit is noticed, and the tenant is trusted again in the end: that aggregate is not remembered.
        for _ in 0...setting.memory.distrustMax { try setting.writer.append(.sample(tenant: bench.tenant)) }
        let new = try WriteCommand.append(.sample(to: taken, .none, tenant: bench.tenant))
        #expect(try setting.isOptimistic([.append(.sample(to: .new(), .none, tenant: bench.tenant))]))
        #expect(try !setting.isOptimistic(setting.batch() + [new]))
        #expect(try setting.isOptimistic(setting.batch()))
        #expect(try !setting.isOptimistic([.append(.sample(to: .new(), .none, tenant: bench.tenant))]))
    }

    /// A memory that no commit can have left: its tenant's calls are stored, and it is found all the same.
    @Test func whatIsRememberedWronglyIsNotBelievedAgain() throws {
        let setting = try Setting()
        let tenant = setting.bench.tenant
        try setting.writer.append(.sample(tenant: tenant))
        let row = try setting.bench.rows("SELECT no FROM tenants WHERE id = '\(tenant.uuid.uuidString)'")
        let no = try #require(Int64(row[0][0]))
        let head = try setting.bench.engine().makeReader().head(of: tenant)
        let loan = setting.memory.take(tenant)
        // The next aggregate gets a number that is used.
        let wrong = RememberedTenant(no: no, head: head, aggregateCount: 0, distrustMax: 32, aggregatesMax: 9)
        setting.memory.giveBack(loan, of: tenant, wrong)
        let new = try WriteCommand.append(.sample(to: .new(), .none, tenant: tenant))
        #expect(try !setting.isOptimistic(setting.batch() + [new]))
        #expect(try setting.isOptimistic(setting.batch()))
        #expect(try !setting.isOptimistic([.append(.sample(to: .new(), .none, tenant: tenant))]))
        #expect(try setting.bench.engine().makeReader().head(of: tenant).position == Position(3))
    }

    /// The look-up that would tell who was wrong did not come about.
    @Test func whereItIsNotFoundOutWhoWasWrongNobodyIsTrusted() throws {
        let memory = RememberedTenants()
        let ids = (0..<3).map { _ in TenantID(UUID()) }
        for id in ids {
            memory.giveBack(
                memory.take(id), of: id,
                RememberedTenant(no: 1, head: .empty, aggregateCount: 0, distrustMax: 32, aggregatesMax: 9))
        }
        let lease = TenantCacheLease(ids, of: memory)
        lease.refute()
        lease.giveBack()
        let next = TenantCacheLease(ids, of: memory)
        #expect(next.known.count == 3 && next.known.values.allSatisfy { !$0.isTrusted })
        for tenant in next.known.values { for _ in 0..<32 { tenant.renew(head: .empty, aggregateCount: 0) } }
        #expect(next.known.values.allSatisfy { $0.isTrusted })
        next.refute()
        next.settle(by: PostgreSQLWriter.Found(), refused: [])
        #expect(next.known.values.allSatisfy { !$0.isTrusted } && !next.isRefuted)
    }
}
