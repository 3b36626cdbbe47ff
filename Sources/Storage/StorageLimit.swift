/// A bound that the way in which a storage keeps numbers sets, and that a call would go beyond.
public enum StorageLimit: Hashable, Sendable, CustomStringConvertible {
    /// Positions of a tenant.
    case positions(max: UInt64, needed: UInt64)
    /// Versions of an aggregate.
    case versions(max: UInt64, needed: UInt64)
    /// Tenants of a storage.
    case tenants(max: UInt64)
    /// Revisions of a tenant's settings.
    case settingsRevisions(max: UInt64)

    /// The limit, and what the call would need.
    public var description: String {
        switch self {
        case .positions(let max, let needed):
            "a tenant's positions end at \(max), but the call would need \(needed)"
        case .versions(let max, let needed):
            "an aggregate's versions end at \(max), but the call would need \(needed)"
        case .tenants(let max): "storage has room for \(max) tenants, and all places are taken"
        case .settingsRevisions(let max): "the revisions of a tenant's settings end at \(max), which has been reached"
        }
    }

    /// The next step.
    var advice: String {
        switch self {
        case .positions, .settingsRevisions: "continue in another tenant"
        case .versions: "continue in another aggregate"
        case .tenants: "use an existing tenant, or ask the server's operator for another storage"
        }
    }
}
