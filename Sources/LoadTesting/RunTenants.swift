import FoundationEssentials
import MartletModel

/// The tenants of a run: the ids of all count up from that of the first, so that a million of them take no memory and a
/// later run finds them again.
struct RunTenants: Hashable, Sendable {
    /// The most that a run may have.
    static let countMax = 1_000_000

    let first: TenantID
    let count: Int

    /// - Parameter asked: the first one; nil: new ones.
    init(_ asked: TenantID?, count: Int) {
        first = asked ?? TenantID(.v7())
        self.count = count
    }

    /// The tenant of that number, from 0.
    subscript(number: Int) -> TenantID {
        let (high, low) = first.uuid.halves
        return TenantID(UUID(high: high, low: low &+ UInt64(number)))
    }

    /// All of them, for a run with few.
    var all: [TenantID] { (0..<count).map { self[$0] } }
}
