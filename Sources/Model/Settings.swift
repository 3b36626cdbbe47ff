public import NIOCore

/// A kind of settings that a tenant has: one JSON document each.
public struct SettingsKind: RawRepresentable, Hashable, Sendable, CustomStringConvertible, Comparable {
    /// The name, as it travels and is stored.
    public var rawValue: String

    /// The kind of that name.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// How events and snapshots of old schemas become those of today.
    public static let upcasters = SettingsKind(rawValue: "upcasters")
    /// When snapshots are due, and how many are kept.
    public static let snapshotPolicies = SettingsKind(rawValue: "snapshot-policies")
    /// Every kind there is.
    public static let all = [upcasters, snapshotPolicies]

    /// The name.
    public var description: String { rawValue }

    /// Kinds sort by name.
    public static func < (a: SettingsKind, b: SettingsKind) -> Bool { a.rawValue < b.rawValue }
}

/// Replaces a tenant's settings of one kind.
public struct PutSettingsRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The kind.
    public var kind: SettingsKind
    /// The document; empty removes it.
    public var document: ByteBuffer
    /// The revision that the tenant's settings must have; nil means any.
    public var expectedRevision: UInt64?

    /// A request of those parts.
    public init(tenant: TenantID, kind: SettingsKind, document: ByteBuffer, expectedRevision: UInt64? = nil) {
        self.tenant = tenant
        self.kind = kind
        self.document = document
        self.expectedRevision = expectedRevision
    }
}

/// A tenant's settings of one kind.
public struct SettingsDocument: Hashable, Sendable {
    /// The document; empty if there is none.
    public var document: ByteBuffer
    /// The revision of the tenant's settings, of all kinds; 0 if nothing was ever set.
    public var revision: UInt64

    /// Settings of those parts.
    public init(document: ByteBuffer = ByteBuffer(), revision: UInt64 = 0) {
        self.document = document
        self.revision = revision
    }
}
