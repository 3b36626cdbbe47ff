import MartletModel
import MartletStorage

/// The memory of the tenants of one transaction, while it runs; used by one thread.
final class TenantCacheLease {
    private let memory: RememberedTenants
    private var loans: [(id: TenantID, loan: RememberedTenants.Loan)]
    /// What is known of those tenants of which anything is.
    private(set) var known: [TenantID: RememberedTenant] = [:]
    /// Something of one of them is not so, and it is not found yet of whom.
    private(set) var isRefuted = false

    init(_ ids: some Sequence<TenantID>, of memory: RememberedTenants) {
        self.memory = memory
        loans = ids.map { ($0, memory.take($0)) }
        for (id, loan) in loans { known[id] = loan.tenant }
    }

    /// Ends the loan: what is known now is remembered.
    func giveBack() {
        if isRefuted { loseAll() }
        for (id, loan) in loans { memory.giveBack(loan, of: id, known[id]) }
    }

    /// Ends the loan of those tenants alone.
    func giveBack(_ tenants: Set<TenantID>) {
        for (id, loan) in loans where tenants.contains(id) {
            memory.giveBack(loan, of: id, known.removeValue(forKey: id))
        }
        loans.removeAll { tenants.contains($0.id) }
    }

    /// Nothing is known any more.
    func forget() { known = [:] }

    /// Nothing is known of those any more.
    func forget(_ tenants: Set<TenantID>) { for tenant in tenants { known[tenant] = nil } }

    /// Something that is known, or was taken for granted, of one of the tenants is not so. Unless ``settle(by:refused:)`` finds
    /// out of whom, none of them is trusted for a while.
    func refute() { isRefuted = true }

    /// Finds out who was refuted, by what a transaction found under the locks: those of which something else is known, and
    /// those whose calls it did not store, as was decided before. The others keep what is known.
    ///
    /// - Parameter refused: tenants with a call that was not stored.
    func settle(by found: PostgreSQLWriter.Found, refused: Set<TenantID>) {
        guard isRefuted else { return }
        var wrong = refused
        for (id, row) in found.tenants where row.isLocked {
            guard let tenant = known[id], let head = found.facts.heads[id] else { continue }
            let isSame = tenant.no == row.no && tenant.head == head && tenant.aggregateCount == row.aggregateCount
            if !isSame { wrong.insert(id) }
        }
        for (key, no) in found.aggregates {
            guard let aggregate = known[key.tenant]?.aggregate(key.name) else { continue }
            let isSame =
                aggregate.no == no && aggregate.version == found.facts.versions[key]
                && aggregate.size.bytes == found.facts.sizes[key]?.bytes
            if !isSame { wrong.insert(key.tenant) }
        }
        guard !wrong.isEmpty else { return loseAll() }
        for id in wrong { known[id]?.lose() }
        isRefuted = false
    }

    private func loseAll() {
        for tenant in known.values { tenant.lose() }
        isRefuted = false
    }

    /// Takes up what a transaction found under the locks before it committed, or rolled back without having written.
    ///
    /// - Parameter isCommitted: whether rows of tenants that it made are there now.
    func renew(by found: PostgreSQLWriter.Found, isCommitted: Bool) {
        for (id, row) in found.tenants {
            // What was read without the lock may be another state than the one that is remembered.
            guard row.isLocked, let head = found.facts.heads[id] else { continue }
            if let tenant = known[id], tenant.no == row.no {
                tenant.renew(head: head, aggregateCount: row.aggregateCount)
            } else if isCommitted {
                known[id] = RememberedTenant(
                    no: row.no, head: head, aggregateCount: row.aggregateCount,
                    distrustMax: memory.distrustMax, aggregatesMax: memory.aggregatesMax)
            }
        }
        for (key, no) in found.aggregates {
            guard let version = found.facts.versions[key] else { continue }
            known[key.tenant]?.note(
                key.name,
                RememberedTenant.Aggregate(no: no, version: version, size: found.facts.sizes[key] ?? AggregateSize()))
        }
    }

    /// Takes up what a transaction committed.
    func move(by plan: BatchPlan, _ calls: PlanCalls) {
        for (tenant, after) in zip(plan.tenants, calls.after) {
            known[tenant.tenant]?.move(by: tenant, numbers: after.numbers, aggregateCount: after.aggregateCount)
        }
    }
}
