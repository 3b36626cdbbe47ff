public import MartletModel
import MartletSession

extension MartletClient {
    /// Saves a snapshot: the state of an aggregate at a version that it has had.
    ///
    /// The newest few are kept; an older one never takes the place of a newer one. ``NewAggregateEvents/snapshot`` is saved
    /// together with the events that lead to it.
    /// - Throws: `SNAPSHOT_BEYOND_AGGREGATE` for a version that the aggregate does not have.
    public func saveSnapshot(
        _ request: SaveSnapshotRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> SaveSnapshotReceipt {
        guard case .snapshotSaved(let receipt) = try await answer(.saveSnapshot(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return receipt
    }

    /// The newest snapshot that the caller can use. ``load(_:timeout:)`` answers one together with the events after it.
    public func loadSnapshot(
        _ request: LoadSnapshotRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> LoadedSnapshot {
        guard case .snapshot(let loaded) = try await answer(.loadSnapshot(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return loaded
    }

    /// What snapshots an aggregate has, newest first.
    public func listSnapshots(
        of aggregate: AggregateName, tenant: TenantID, timeout: Duration? = nil
    ) async throws(MartletError) -> [SnapshotInfo] {
        guard case .snapshots(let all) = try await answer(.listSnapshots(tenant, aggregate), timeout: timeout) else {
            throw .wrongAnswer
        }
        return all
    }

    /// Deletes snapshots of an aggregate.
    /// - Returns: how many there were.
    @discardableResult
    public func deleteSnapshots(
        _ request: DeleteSnapshotsRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> Int {
        guard case .snapshotsDeleted(let count) = try await answer(.deleteSnapshots(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return Int(clamping: count)
    }

    /// Replaces a tenant's settings of one kind.
    /// - Returns: the revision that they have now.
    /// - Throws: `INVALID_UPCASTER` or `INVALID_SETTINGS` for a document that cannot be used, `SETTINGS_CONFLICT` where
    ///   the revision is not the expected one. A retry after a lost connection may find its own first try: put with an
    ///   expected revision, and compare after a conflict.
    @discardableResult
    public func putSettings(
        _ request: PutSettingsRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> UInt64 {
        guard case .settingsPut(let revision) = try await answer(.putSettings(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return revision
    }

    /// A tenant's settings of one kind.
    public func settings(
        _ kind: SettingsKind, tenant: TenantID, timeout: Duration? = nil
    ) async throws(MartletError) -> SettingsDocument {
        guard case .settings(let document) = try await answer(.getSettings(tenant, kind), timeout: timeout) else {
            throw .wrongAnswer
        }
        return document
    }
}
