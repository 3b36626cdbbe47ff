import DequeModule
import MartletModel
import NIOConcurrencyHelpers

/// The memory that the writers of one server share: a tenant's commits come to one after the other.
///
/// What is known of a tenant is handed out to one transaction at a time, and comes back when that has ended. A second
/// one that asks meanwhile gets nothing, and makes the first one's be thrown away: which of the two is later is not
/// known then. The memory would be right without that, for the tenant's row proves it each time; but it would more
/// often be out of date.
final class RememberedTenants: Sendable {
    private struct State {
        /// Those that a transaction has, and whether nobody else has asked for them meanwhile.
        var taken: [TenantID: Bool] = [:]
        /// Those that are idle, with the number of their last use.
        var idle: [TenantID: (tenant: RememberedTenant, use: UInt64)] = [:]
        /// Uses, oldest first; those of a tenant that was used again, or taken, count no more.
        var uses: Deque<(id: TenantID, use: UInt64)> = []
        var lastUse: UInt64 = 0
        /// Of those that are idle.
        var weight = 0
        var generation = 0

        mutating func remove(_ id: TenantID) -> RememberedTenant? {
            guard let (tenant, _) = idle.removeValue(forKey: id) else { return nil }
            weight -= tenant.weight
            return tenant
        }

        /// - Returns: what has to leave; to be freed outside the lock.
        mutating func put(_ tenant: RememberedTenant, _ id: TenantID, weightMax: Int) -> [RememberedTenant] {
            lastUse += 1
            idle[id] = (tenant, lastUse)
            uses.append((id, lastUse))
            weight += tenant.weight
            var left: [RememberedTenant] = []
            while weight > weightMax, let oldest = uses.popFirst() {
                if idle[oldest.id]?.use == oldest.use, let tenant = remove(oldest.id) { left.append(tenant) }
            }
            if uses.count > 2 * idle.count + 16 { uses.removeAll { idle[$0.id]?.use != $0.use } }
            return left
        }
    }

    /// A tenant's place while a transaction runs.
    struct Loan {
        fileprivate let generation: Int
        /// False where another transaction has it.
        fileprivate let isOwner: Bool
        /// What is known, if anything.
        let tenant: RememberedTenant?
    }

    /// The number of aggregates of one tenant that are remembered.
    let aggregatesMax: Int
    private let countMax: Int
    /// So many commits of a tenant look everything up after its memory was found to be wrong: a decision that was
    /// wrong costs a transaction that fails, and a line in the database's log.
    let distrustMax: Int
    private let state = NIOLockedValueBox(State())

    /// - Parameter countMax: so many aggregates and tenants are remembered, all together; beyond that, those leave that were
    ///   not used for longest.
    init(countMax: Int = 100_000, distrustMax: Int = 32) {
        self.countMax = countMax
        aggregatesMax = max(2, countMax / 2)
        self.distrustMax = distrustMax
    }

    /// Grows by one with each connection that is lost. Another database server may answer on the next one: nothing is
    /// remembered across that, and writers replace their older connections.
    var generation: Int { state.withLockedValue { $0.generation } }

    func take(_ id: TenantID) -> Loan {
        state.withLockedValue { state in
            guard state.taken[id] == nil else {
                state.taken[id] = false
                return Loan(generation: state.generation, isOwner: false, tenant: nil)
            }
            state.taken[id] = true
            return Loan(generation: state.generation, isOwner: true, tenant: state.remove(id))
        }
    }

    /// Ends a loan.
    ///
    /// - Parameter tenant: what is known now; nil for nothing.
    func giveBack(_ loan: Loan, of id: TenantID, _ tenant: RememberedTenant?) {
        _ = state.withLockedValue { state -> [RememberedTenant] in
            guard loan.isOwner, loan.generation == state.generation else { return [] }
            guard state.taken.removeValue(forKey: id) == true, let tenant else { return [] }
            return state.put(tenant, id, weightMax: countMax)
        }
    }

    /// Forgets everything, what is on loan too.
    func forgetAll() {
        state.withLockedValue { state in
            state = State(generation: state.generation + 1)
        }
    }
}
