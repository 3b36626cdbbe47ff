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
            "the positions of a tenant end at \(max), and the call would need \(needed)"
        case .versions(let max, let needed):
            "the versions of an aggregate end at \(max), and the call would need \(needed)"
        case .tenants(let max): "storage has room for \(max) tenants, and all of it is taken"
        case .settingsRevisions(let max): "the revisions of a tenant's settings end at \(max), which is reached"
        }
    }

    /// The next step.
    var advice: String {
        switch self {
        case .positions, .settingsRevisions: "go on in another tenant"
        case .versions: "go on in another aggregate"
        case .tenants: "use a tenant that is there already, or ask the server's operator for another storage"
        }
    }
}
