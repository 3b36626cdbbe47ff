import MartletModel

/// What a run appended to its tenants, for ``TenantCount``: to each of them, or where they are more than 1,000 to a
/// sample of them, spread evenly.
final class TenantTally: Sendable {
    /// Looking at more tenants would take longer than many a run.
    static let tenantsMax = 1_000

    /// The tenants that are counted.
    let tenants: [TenantID]
    private let spacing: Int
    private let acknowledgedEvents: AtomicNumbers
    private let unknownEvents: AtomicNumbers

    init(_ all: RunTenants) {
        let spacing = (all.count + Self.tenantsMax - 1) / Self.tenantsMax
        tenants = stride(from: 0, to: all.count, by: spacing).map { all[$0] }
        self.spacing = spacing
        acknowledgedEvents = AtomicNumbers(count: tenants.count)
        unknownEvents = AtomicNumbers(count: tenants.count)
    }

    /// Events by tenant whose append was acknowledged, in the order of ``tenants``.
    var acknowledged: [UInt64] { tenants.indices.map { acknowledgedEvents[$0] } }

    /// Events by tenant that may be stored or not, in the order of ``tenants``.
    var unknown: [UInt64] { tenants.indices.map { unknownEvents[$0] } }

    /// Events of the tenant of that number were acknowledged.
    func add(acknowledged events: Int, tenant number: Int) {
        guard number.isMultiple(of: spacing) else { return }
        acknowledgedEvents.add(UInt64(events), at: number / spacing)
    }

    /// The outcome of events of the tenant of that number is not known.
    func add(unknown events: Int, tenant number: Int) {
        guard number.isMultiple(of: spacing) else { return }
        unknownEvents.add(UInt64(events), at: number / spacing)
    }
}
