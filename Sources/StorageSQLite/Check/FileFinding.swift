/// Something in a database file that is not as it must be.
public struct FileFinding: Hashable, Sendable, CustomStringConvertible {
    /// The check that found it.
    public var subject: FileCheck.Subject
    /// UUID of the tenant, or what there is where it has none; empty where it concerns no tenant.
    public var tenant: String
    /// Where in the tenant's data, or in the file.
    public var place: String
    /// What is there.
    public var found: String
    /// What should be there.
    public var expected: String

    /// What to do about it.
    public var nextStep: String {
        switch subject {
        case .file: "check the path that --storage names"
        case .pages, .blocks: "stop the server and restore a backup"
        case .eventIDs, .aggregates, .ranges:
            "stop the server and restore a backup; if the check of the blocks passed, the events are intact: "
                + "move them into a new file with martlet export and martlet import"
        case .snapshots:
            "delete the aggregate's snapshots with martlet snapshots delete: loads read the events until one is saved"
        case .settings: "put the tenant's settings again with martlet upcasters apply and martlet policies set"
        case .schedules: "set the schedule again or cancel it; of a count, set any schedule of the tenant"
        case .consumers:
            "stop the server and restore a backup; a row of consumer_workers alone can be deleted instead, because servers "
                + "write their workers again"
        }
    }

    /// Tenant, place, what is there, what should be, and what to do, in one line.
    public var description: String {
        let where_ = tenant.isEmpty ? place : "tenant \(tenant), \(place)"
        return "\(where_): found \(found), expected \(expected): \(nextStep)"
    }
}
