public import NIOCore

/// A snapshot as its author writes it: an aggregate's state at a version.
public struct NewSnapshot: Hashable, Sendable {
    /// Version of the state's schema, from 1.
    public var schemaVersion: UInt32
    /// Media type of the state, at most 128 bytes of UTF-8 without control characters.
    public var contentType: String
    /// The state, at most ``Limits/snapshotBytesMax``; handed out as it came in.
    public var payload: ByteBuffer

    /// A snapshot of those parts.
    public init(schemaVersion: UInt32 = 1, contentType: String = NewEvent.json, payload: ByteBuffer) {
        self.schemaVersion = schemaVersion
        self.contentType = contentType
        self.payload = payload
    }
}

/// A snapshot as it is stored, or as upcasters have made it of what is stored.
public struct Snapshot: Hashable, Sendable {
    /// The aggregate's version that it is the state of.
    public var version: Version
    /// When it was saved.
    public var createdAt: Timestamp
    /// Version of the state's schema.
    public var schemaVersion: UInt32
    /// The schema version that is stored; above or equal to it is ``schemaVersion``.
    public var storedSchemaVersion: UInt32
    /// Media type of the state.
    public var contentType: String
    /// The state.
    public var payload: ByteBuffer

    /// A snapshot of those parts.
    public init(
        version: Version, createdAt: Timestamp, schemaVersion: UInt32, storedSchemaVersion: UInt32? = nil,
        contentType: String, payload: ByteBuffer
    ) {
        self.version = version
        self.createdAt = createdAt
        self.schemaVersion = schemaVersion
        self.storedSchemaVersion = storedSchemaVersion ?? schemaVersion
        self.contentType = contentType
        self.payload = payload
    }
}

/// What is known of a snapshot without its state.
public struct SnapshotInfo: Hashable, Sendable {
    /// The aggregate's version that it is the state of.
    public var version: Version
    /// When it was saved.
    public var createdAt: Timestamp
    /// Version of the state's schema, as stored.
    public var schemaVersion: UInt32
    /// Media type of the state.
    public var contentType: String
    /// Length of the state in bytes.
    public var payloadBytes: Int
    /// Whether the state is as long as it was saved. Its checksum is compared when it is loaded.
    public var isIntact: Bool

    /// What is known, of those parts.
    public init(
        version: Version, createdAt: Timestamp, schemaVersion: UInt32, contentType: String, payloadBytes: Int,
        isIntact: Bool
    ) {
        self.version = version
        self.createdAt = createdAt
        self.schemaVersion = schemaVersion
        self.contentType = contentType
        self.payloadBytes = payloadBytes
        self.isIntact = isIntact
    }
}

/// Which snapshots a caller can use.
public struct SnapshotUse: Hashable, Sendable {
    /// The schema versions that it can read, after upcasting; empty means any.
    public var schemaVersions: Set<UInt32>

    /// Snapshots of those schema versions.
    public init(schemaVersions: Set<UInt32> = []) { self.schemaVersions = schemaVersions }

    /// Whether the caller can read that schema version.
    public func accepts(_ schemaVersion: UInt32) -> Bool {
        schemaVersions.isEmpty || schemaVersions.contains(schemaVersion)
    }
}

/// Saves a snapshot alone. A version above the aggregate's is refused.
public struct SaveSnapshotRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The aggregate.
    public var aggregate: AggregateName
    /// The aggregate's version that it is the state of, from 1.
    public var version: Version
    /// The state.
    public var snapshot: NewSnapshot

    /// A request of those parts.
    public init(tenant: TenantID, aggregate: AggregateName, version: Version, snapshot: NewSnapshot) {
        self.tenant = tenant
        self.aggregate = aggregate
        self.version = version
        self.snapshot = snapshot
    }
}

/// The answer to saving a snapshot.
public struct SaveSnapshotReceipt: Hashable, Sendable {
    /// False: newer ones take the places there are, or one of the same version has a newer schema.
    public var isKept: Bool
    /// The newest snapshot that the aggregate has now.
    public var newestVersion: Version

    /// A receipt of those parts.
    public init(isKept: Bool, newestVersion: Version) {
        self.isKept = isKept
        self.newestVersion = newestVersion
    }
}

/// Asks for the newest usable snapshot of an aggregate.
public struct LoadSnapshotRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The aggregate.
    public var aggregate: AggregateName
    /// Not after this version; nil means the newest.
    public var to: Version?
    /// Which ones the caller can use.
    public var use: SnapshotUse
    /// In which schema it is delivered.
    public var upcasting: UpcastingOptions

    /// A request of those parts.
    public init(
        tenant: TenantID, aggregate: AggregateName, to: Version? = nil, use: SnapshotUse = SnapshotUse(),
        upcasting: UpcastingOptions = .latest
    ) {
        self.tenant = tenant
        self.aggregate = aggregate
        self.to = to
        self.use = use
        self.upcasting = upcasting
    }
}

/// The newest usable snapshot.
public struct LoadedSnapshot: Hashable, Sendable {
    /// The snapshot; nil if none can be used, which is not an error.
    public var snapshot: Snapshot?
    /// How many could not be used: in a schema that the caller cannot read, damaged, or not upcast.
    public var skipped: Int

    /// An answer of those parts.
    public init(snapshot: Snapshot? = nil, skipped: Int = 0) {
        self.snapshot = snapshot
        self.skipped = skipped
    }
}

/// Deletes snapshots of an aggregate; events are never deleted.
public struct DeleteSnapshotsRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The aggregate.
    public var aggregate: AggregateName
    /// The one of this version; nil means all.
    public var version: Version?

    /// A request of those parts.
    public init(tenant: TenantID, aggregate: AggregateName, version: Version? = nil) {
        self.tenant = tenant
        self.aggregate = aggregate
        self.version = version
    }
}

/// When a snapshot of an aggregate is due, and how many are kept.
public struct SnapshotPolicy: Hashable, Sendable {
    /// Due after this many events since the last snapshot; nil: never because of their number.
    public var everyEvents: UInt64?
    /// Due after this many bytes of events since the last snapshot was saved; nil: never because of their size.
    public var everyBytes: UInt64?
    /// The number of snapshots kept, 1 or more.
    public var kept: Int

    /// A policy of those parts.
    public init(everyEvents: UInt64? = nil, everyBytes: UInt64? = nil, kept: Int = 3) {
        self.everyEvents = everyEvents
        self.everyBytes = everyBytes
        self.kept = kept
    }

    /// The most that a policy may keep.
    public static let keptMax = 100

    /// Snapshots are never due, and 3 are kept.
    public static let never = SnapshotPolicy()

    /// Whether a snapshot is due after so much since the last one.
    public func isDue(events: UInt64, bytes: UInt64) -> Bool {
        (everyEvents.map { events >= $0 } ?? false) || (everyBytes.map { bytes >= $0 } ?? false)
    }
}
