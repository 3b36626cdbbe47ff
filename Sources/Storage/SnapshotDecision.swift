public import MartletModel
import MartletRecordCodec
import NIOCore

/// What tells a snapshot of an aggregate from the others, and what is known of it without its state.
public struct SnapshotKey: Hashable, Sendable {
    /// The aggregate's version that it is the state of.
    public var version: Version
    /// Version of the state's schema.
    public var schemaVersion: UInt32

    /// A key of those parts.
    public init(version: Version, schemaVersion: UInt32) {
        self.version = version
        self.schemaVersion = schemaVersion
    }
}

/// A snapshot as it is stored.
public struct StoredSnapshot: Hashable, Sendable {
    /// Version, schema version, times, content type and state, as saved.
    public var snapshot: Snapshot
    /// CRC-32C of the state.
    public var checksum: UInt32
    /// What stands beside the state is what was saved, by its ``Seal``.
    public var isSealed = true

    /// A stored snapshot of those parts.
    public init(snapshot: Snapshot, checksum: UInt32) {
        self.snapshot = snapshot
        self.checksum = checksum
    }

    /// A snapshot as it is to be stored.
    public init(_ new: NewSnapshot, version: Version, now: Timestamp) {
        snapshot = Snapshot(
            version: version, createdAt: now, schemaVersion: new.schemaVersion, contentType: new.contentType,
            payload: new.payload)
        checksum = CRC32C.checksum(of: new.payload)
    }

    /// Whether the state is what was saved.
    public var isIntact: Bool { isSealed && CRC32C.checksum(of: snapshot.payload) == checksum }

    /// What is known of it without its state.
    public var info: SnapshotInfo {
        SnapshotInfo(
            version: snapshot.version, createdAt: snapshot.createdAt, schemaVersion: snapshot.schemaVersion,
            contentType: snapshot.contentType, payloadBytes: snapshot.payload.readableBytes, isIntact: true)
    }
}

/// Which snapshots of an aggregate stay when one is saved.
///
/// A pure function of what there is. The newest `kept` stay, by version; one never makes room for an older one. Of two
/// of the same version, the later one stays, unless it is in an older schema.
public enum SnapshotDecision {
    /// What is to be done.
    public struct Plan: Hashable, Sendable {
        /// Whether the new one is written; it takes the place of one of the same version.
        public var isKept: Bool
        /// Versions of those that go.
        public var dropped: [Version]
        /// The newest version afterwards.
        public var newestVersion: Version
        /// Whether the new one is newer than all that were there.
        public var isNewest: Bool
    }

    /// Decides what becomes of `new`.
    /// - Parameters:
    ///   - existing: those of the aggregate, in any order, each version once.
    ///   - kept: how many stay, 1 or more.
    public static func decide(_ new: SnapshotKey, existing: [SnapshotKey], kept: Int) -> Plan {
        let isOutdated = existing.contains { $0.version == new.version && $0.schemaVersion > new.schemaVersion }
        let others = existing.map(\.version).filter { $0 != new.version }
        let newestFirst = (others + [new.version]).sorted(by: >)
        let staying = Set(newestFirst.prefix(max(1, kept)))
        return Plan(
            isKept: !isOutdated && staying.contains(new.version),
            dropped: others.filter { !staying.contains($0) }.sorted(), newestVersion: newestFirst[0],
            isNewest: existing.allSatisfy { $0.version < new.version })
    }
}
