import MartletModel
import NIOConcurrencyHelpers

/// The memory that the writers of one server share: a tenant's commits come to one after the other.
///
/// What is known of a tenant is handed out to one transaction at a time, and comes back when that has ended. A second
/// one that asks meanwhile gets nothing, and makes the first one's be thrown away: which of the two is later is not
/// known then. The memory would be right without that, for the tenant's row proves it each time; but it would more
/// often be out of date.
final class RememberedTenants: Sendable {
    private enum Place {
        case idle(RememberedTenant)
        case taken(isWanted: Bool)
    }

    private struct State {
        var places: [TenantID: Place] = [:]
        /// Of those that are idle.
        var aggregateCount = 0
        var generation = 0
    }

    /// A tenant's place while a transaction runs.
    struct Loan {
        fileprivate let generation: Int
        /// False where another transaction has it.
        fileprivate let isOwner: Bool
        /// What is known, if anything.
        let tenant: RememberedTenant?
    }

    private let countMax: Int
    /// So many commits of a tenant look everything up after its memory was found to be wrong: a decision that was
    /// wrong costs a transaction that fails, and a line in the database's log.
    let distrustMax: Int
    private let state = NIOLockedValueBox(State())

    /// - Parameter countMax: so many aggregates are remembered, and so many tenants; beyond that all are forgotten.
    init(countMax: Int = 100_000, distrustMax: Int = 32) {
        self.countMax = countMax
        self.distrustMax = distrustMax
    }

    /// Grows by one with each connection that is lost. Another database server may answer on the next one: nothing is
    /// remembered across that, and writers replace their older connections.
    var generation: Int { state.withLockedValue { $0.generation } }

    func take(_ id: TenantID) -> Loan {
        state.withLockedValue { state in
            switch state.places.updateValue(.taken(isWanted: true), forKey: id) {
            case .idle(let tenant):
                state.aggregateCount -= tenant.aggregates.count
                return Loan(generation: state.generation, isOwner: true, tenant: tenant)
            case nil: return Loan(generation: state.generation, isOwner: true, tenant: nil)
            case .taken:
                state.places[id] = .taken(isWanted: false)
                return Loan(generation: state.generation, isOwner: false, tenant: nil)
            }
        }
    }

    /// Ends a loan.
    ///
    /// - Parameter tenant: what is known now; nil for nothing.
    func giveBack(_ loan: Loan, of id: TenantID, _ tenant: RememberedTenant?) {
        state.withLockedValue { state in
            guard loan.isOwner, loan.generation == state.generation else { return }
            guard let tenant, case .taken(isWanted: true) = state.places[id] else {
                state.places[id] = nil
                return
            }
            if state.places.count > countMax || state.aggregateCount + tenant.aggregates.count > countMax {
                state.places = state.places.filter { if case .taken = $0.value { true } else { false } }
                state.aggregateCount = 0
            }
            guard tenant.aggregates.count <= countMax else { return state.places[id] = nil }
            state.places[id] = .idle(tenant)
            state.aggregateCount += tenant.aggregates.count
        }
    }

    /// Forgets everything, what is on loan too.
    func forgetAll() {
        state.withLockedValue { state in
            state.places = [:]
            state.aggregateCount = 0
            state.generation += 1
        }
    }
}
