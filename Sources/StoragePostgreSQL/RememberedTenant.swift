import MartletModel
import MartletStorage

/// What is known of a tenant without asking.
///
/// The invariant that lets a commit be decided by it: whoever changes anything of this, on whichever server, holds the
/// lock of the tenant's row and changes the row's `position` in the same transaction. It never goes back, unless the
/// database comes back with another past; then another event is at the position. So where the row, once it is locked, has the
/// position and the event's id there that are remembered, and is that tenant's, all of it is still true, and stays so until
/// the lock goes. What is remembered of snapshots is excepted: it is true as far as this server has heard.
///
/// `@unchecked Sendable`: it is in the hands of one transaction at a time, by ``RememberedTenants``.
final class RememberedTenant: @unchecked Sendable {
    /// An aggregate that is there.
    struct Aggregate {
        var no: Int64
        var version: Version
        var size: AggregateSize
    }

    let no: Int64
    private(set) var head: TenantHead
    /// How many aggregates there are; numbers the next one.
    private(set) var aggregateCount: Int64
    /// Some of those that are there.
    private var aggregates: RecentlyUsed<AggregateName, Aggregate>
    private let distrustMax: Int
    /// So many commits more look everything up.
    private var distrust = 0

    init(no: Int64, head: TenantHead, aggregateCount: Int64, distrustMax: Int, aggregatesMax: Int) {
        aggregates = RecentlyUsed(countMax: aggregatesMax)
        self.no = no
        self.head = head
        self.aggregateCount = aggregateCount
        self.distrustMax = distrustMax
    }

    /// Whether a commit may be decided by it.
    var isTrusted: Bool { distrust == 0 }

    /// An aggregate that is known to be there.
    func aggregate(_ name: AggregateName) -> Aggregate? { aggregates.use(name) }

    /// How much of the memory it takes: itself, and its aggregates.
    var weight: Int { 1 + aggregates.count }

    /// A decision by it was wrong, or its transaction failed.
    func lose() {
        aggregates.removeAll()
        distrust = distrustMax
    }

    /// Takes up what a transaction found under the lock.
    func renew(head: TenantHead, aggregateCount: Int64) {
        if head == self.head {
            distrust = max(0, distrust - 1)
        } else {
            lose()
        }
        self.head = head
        self.aggregateCount = aggregateCount
    }

    /// What was found of an aggregate under the same lock.
    func note(_ name: AggregateName, _ aggregate: Aggregate) { aggregates.put(aggregate, for: name) }

    /// A transaction has committed a plan; one with events held the lock.
    func move(by plan: TenantPlan, numbers: [AggregateName: Int64], aggregateCount: Int64) {
        if plan.run != nil {
            head = plan.head
            self.aggregateCount = aggregateCount
        }
        for (name, move) in plan.aggregates {
            if let no = numbers[name] {
                aggregates.put(Aggregate(no: no, version: move.to, size: move.size), for: name)
            } else {
                aggregates.remove(name)
            }
        }
    }
}
