/// What a server is, and what a connection may use of it.
public struct ServerInfo: Hashable, Sendable {
    /// What this version of the server can do, sorted: the ``features`` that it reports. Docs/PROTOCOL.md says what each
    /// name means.
    public static let currentFeatures = [
        "append-session", "consumers", "many-tenants", "schedules", "snapshots", "upcasters",
    ]

    /// Version of the server program.
    public var serverVersion: String
    /// The tenants that the connection may use.
    public var scope: TenantScope
    /// The identity that the server sees; empty without one.
    public var identity: String
    /// The limits in force. Where they came over the wire, only those that travel are the server's.
    public var limits: Limits
    /// The server's clock.
    public var serverTime: Timestamp
    /// Names of what the server can do, sorted; empty in a `Welcome`, which does not say.
    public var features: [String]

    /// A description of those parts.
    public init(
        serverVersion: String, scope: TenantScope, identity: String, limits: Limits, serverTime: Timestamp,
        features: [String] = []
    ) {
        self.serverVersion = serverVersion
        self.scope = scope
        self.identity = identity
        self.limits = limits
        self.serverTime = serverTime
        self.features = features
    }
}
