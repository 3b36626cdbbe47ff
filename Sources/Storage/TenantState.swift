public import MartletModel
public import NIOCore

/// Where a tenant stands.
public struct TenantState: Hashable, Sendable {
    /// The end of its events.
    public var head: TenantHead
    /// The revision of its settings; 0 where nothing was ever set.
    public var settingsRevision: UInt64

    /// A standing of those parts.
    public init(head: TenantHead, settingsRevision: UInt64 = 0) {
        self.head = head
        self.settingsRevision = settingsRevision
    }

    /// A tenant without events and settings.
    public static let empty = TenantState(head: .empty)
}

/// A tenant's settings as they are stored.
public struct StoredSettings: Hashable, Sendable {
    /// The revision of all of them together.
    public var revision: UInt64
    /// The documents that there are.
    public var documents: [SettingsKind: ByteBuffer]

    /// Settings of those parts.
    public init(revision: UInt64 = 0, documents: [SettingsKind: ByteBuffer] = [:]) {
        self.revision = revision
        self.documents = documents
    }
}
