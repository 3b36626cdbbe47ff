public import FoundationEssentials
public import MartletModel
public import NIOCore

/// A change that a tenant asks for beside its events. Boxed: it is passed on many times.
public indirect enum TenantChange: Hashable, Sendable {
    /// Saves a snapshot; of those that the aggregate has then, so many are kept.
    case saveSnapshot(SaveSnapshotRequest, kept: Int)
    /// Deletes snapshots.
    case deleteSnapshots(DeleteSnapshotsRequest)
    /// Replaces settings.
    case putSettings(PutSettingsRequest)

    /// The tenant.
    public var tenant: TenantID {
        switch self {
        case .saveSnapshot(let request, _): request.tenant
        case .deleteSnapshots(let request): request.tenant
        case .putSettings(let request): request.tenant
        }
    }

    /// Bytes that it carries.
    public var contentBytes: Int {
        switch self {
        case .saveSnapshot(let request, _): request.snapshot.payload.readableBytes
        case .deleteSnapshots: 0
        case .putSettings(let request): request.document.readableBytes
        }
    }
}

/// What a change came to: the caller decides what to make of it, so these are values and no errors.
public enum TenantChangeOutcome: Hashable, Sendable {
    /// The snapshot was saved, or was not worth keeping.
    case snapshotSaved(SaveSnapshotReceipt)
    /// The aggregate has only that version; nothing was written.
    case snapshotBeyondAggregate(Version)
    /// So many snapshots were deleted.
    case snapshotsDeleted(Int)
    /// The settings have that revision now.
    case settingsPut(revision: UInt64)
    /// The settings have that revision, not the expected one; nothing was written.
    case settingsConflict(revision: UInt64)
    /// The storage has no number left for what the change would add; nothing was written.
    case limitReached(StorageLimit)
}

/// Where a tenant stands.
public struct TenantStanding: Hashable, Sendable {
    /// The end of its events.
    public var head: TenantHead
    /// The id of the event at the head; nil without events.
    public var headEventID: UUID?
    /// The revision of its settings; 0 where nothing was ever set.
    public var settingsRevision: UInt64

    /// A standing of those parts.
    public init(head: TenantHead, headEventID: UUID? = nil, settingsRevision: UInt64 = 0) {
        self.head = head
        self.headEventID = headEventID
        self.settingsRevision = settingsRevision
    }

    /// A tenant without events and settings.
    public static let empty = TenantStanding(head: .empty)
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
