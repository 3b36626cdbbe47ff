import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Snapshots and settings: what is kept beside the events.
extension SQLiteWriter {
    func apply(_ change: TenantChange, now: Timestamp) throws(StorageError) -> TenantChangeOutcome {
        try write { connection throws(StorageError) in
            let outcome: TenantChangeOutcome
            do throws(SQLiteFault) {
                try RangeRecovery.refresh(file.ranges, connection)
                try connection.statement(.begin).run()
                outcome = try carryOut(change, now: now, connection)
            } catch { throw error.storageError }
            switch outcome {
            case .snapshotBeyondAggregate, .settingsConflict, .limitReached: try rollBack(connection)
            case .snapshotSaved, .snapshotsDeleted, .settingsPut: try commit(connection)
            }
            // What was changed is looked up again when it is needed.
            tenants[change.tenant] = nil
            switch change {
            case .saveSnapshot(let request, _):
                aggregates[AggregateKey(tenant: request.tenant, name: request.aggregate)] = nil
            case .deleteSnapshots(let request):
                aggregates[AggregateKey(tenant: request.tenant, name: request.aggregate)] = nil
            case .putSettings: break
            }
            return outcome
        }
    }

    private func carryOut(
        _ change: TenantChange, now: Timestamp, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> TenantChangeOutcome {
        switch change {
        case .saveSnapshot(let request, let kept): try save(request, kept: kept, now: now, connection)
        case .deleteSnapshots(let request): try delete(request, connection)
        case .putSettings(let request): try put(request, connection)
        }
    }

    private func save(
        _ request: SaveSnapshotRequest, kept: Int, now: Timestamp, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> TenantChangeOutcome {
        let key = AggregateKey(tenant: request.tenant, name: request.aggregate)
        guard let tenant = try tenant(request.tenant, connection),
            let aggregate = try aggregate(key, in: tenant.no, connection)
        else { return .snapshotBeyondAggregate(.none) }
        guard request.version <= aggregate.version else { return .snapshotBeyondAggregate(aggregate.version) }
        let plan = SnapshotDecision.decide(
            SnapshotKey(version: request.version, schemaVersion: request.snapshot.schemaVersion),
            existing: try snapshots(of: aggregate.no, connection), kept: kept)
        let put = plan.isKept ? StoredSnapshot(request.snapshot, version: request.version, now: now) : nil
        try store(put, dropped: plan.dropped, of: aggregate.no, key, connection)
        var size = aggregate.size
        size.note(plan)
        try note(newest: size.snapshotVersion, bytes: size.snapshotBytes, of: aggregate.no, connection)
        return .snapshotSaved(SaveSnapshotReceipt(isKept: plan.isKept, newestVersion: plan.newestVersion))
    }

    private func delete(
        _ request: DeleteSnapshotsRequest, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> TenantChangeOutcome {
        let key = AggregateKey(tenant: request.tenant, name: request.aggregate)
        guard let tenant = try tenant(request.tenant, connection),
            let aggregate = try aggregate(key, in: tenant.no, connection)
        else { return .snapshotsDeleted(0) }
        let versions = try snapshots(of: aggregate.no, connection).map(\.version)
        let deleted = versions.filter { request.version == nil || request.version == $0 }
        try store(nil, dropped: deleted, of: aggregate.no, key, connection)
        let newest = versions.first { !deleted.contains($0) }
        try note(
            newest: newest ?? .none, bytes: newest == nil ? 0 : aggregate.size.snapshotBytes, of: aggregate.no,
            connection)
        return .snapshotsDeleted(deleted.count)
    }

    private func put(
        _ request: PutSettingsRequest, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> TenantChangeOutcome {
        let known = try tenant(request.tenant, connection)
        let revision = known?.settingsRevision ?? 0
        guard request.expectedRevision == nil || request.expectedRevision == revision else {
            return .settingsConflict(revision: revision)
        }
        guard revision < UInt64(Int64.max) else {
            return .limitReached(.settingsRevisions(max: UInt64(Int64.max)))
        }
        if known == nil {
            let (max, left) = try newTenants(connection)
            guard left > 0 else { return .limitReached(.tenants(max: max)) }
        }
        // A tenant may set up its settings before its first event.
        let no = if let known { known.no } else { try store(request.tenant, head: .empty, nil, connection) }
        if request.document.readableBytes == 0 {
            let delete = try connection.statement(.deleteSettings)
            delete.bind(1, no)
            delete.bind(2, request.kind.rawValue)
            try delete.run()
        } else {
            let put = try connection.statement(.putSettings)
            put.bind(1, no)
            put.bind(2, request.kind.rawValue)
            put.bind(4, Int64(revision) + 1)
            let sum = Seal.document(
                request.document, kind: "settings", key: request.kind.rawValue, revision: revision + 1,
                tenant: request.tenant)
            put.bind(5, Int64(sum))
            try put.run(blob: 3, request.document)
        }
        let update = try connection.statement(.updateSettingsRevision)
        update.bind(1, no)
        update.bind(2, Int64(revision) + 1)
        try update.run()
        let copy = try connection.statement(.copyRevision)
        copy.bind(1, no)
        copy.bind(2, Int64(revision) + 1)
        copy.bind(3, Int64(Seal.revision(revision + 1, tenant: request.tenant)))
        try copy.run()
        return .settingsPut(revision: revision + 1)
    }

    // MARK: Rows of snapshots

    /// Newest first.
    func snapshots(of aggregateNo: Int64, _ connection: SQLiteConnection) throws(SQLiteFault) -> [SnapshotKey] {
        let select = try connection.statement(.selectSnapshots)
        select.bind(1, aggregateNo)
        var keys: [SnapshotKey] = []
        try select.forEachRow { row throws(SQLiteFault) in
            keys.append(
                SnapshotKey(
                    version: Version(try row.unsigned(0)),
                    schemaVersion: UInt32(try row.unsigned(1, to: Int64(UInt32.max)))))
            return true
        }
        return keys
    }

    func store(
        _ put: StoredSnapshot?, dropped: [Version], of aggregateNo: Int64, _ key: AggregateKey,
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) {
        let delete = try connection.statement(.deleteSnapshot)
        for version in dropped {
            delete.bind(1, aggregateNo)
            delete.bind(2, Int64(version.rawValue))
            try delete.run()
        }
        guard let put else { return }
        let insert = try connection.statement(.putSnapshot)
        insert.bind(1, aggregateNo)
        insert.bind(2, Int64(put.snapshot.version.rawValue))
        insert.bind(3, put.snapshot.createdAt.microseconds)
        insert.bind(4, Int64(put.snapshot.schemaVersion))
        insert.bind(5, put.snapshot.contentType)
        insert.bind(6, Int64(put.checksum))
        insert.bind(8, Int64(put.seal(of: key.name, in: key.tenant)))
        try insert.run(blob: 7, put.snapshot.payload)
    }

    func note(
        newest: Version, bytes: UInt64, of aggregateNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) {
        let update = try connection.statement(.updateAggregateSnapshot)
        update.bind(1, aggregateNo)
        update.bind(2, Int64(newest.rawValue))
        update.bind(3, Int64(bytes))
        try update.run()
    }
}

/// Rows of the table `snapshots`.
enum SnapshotRows {
    /// Newest first; no state is read.
    static func infos(
        of aggregateNo: Int64, _ aggregate: AggregateName, _ tenant: TenantID, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> [SnapshotInfo] {
        let select = try connection.statement(.selectSnapshots)
        select.bind(1, aggregateNo)
        var infos: [SnapshotInfo] = []
        try select.forEachRow { row throws(SQLiteFault) in
            var info = SnapshotInfo(
                version: Version(try row.unsigned(0)), createdAt: Timestamp(microseconds: row.integer(2)),
                schemaVersion: UInt32(try row.unsigned(1, to: Int64(UInt32.max))), contentType: row.text(3),
                payloadBytes: Int(clamping: max(0, row.integer(4))), isIntact: row.integer(4) == row.integer(5))
            let sum = UInt32(truncatingIfNeeded: row.integer(6))
            if !row.isNull(7), row.integer(7) != Int64(Seal.snapshot(info, checksum: sum, of: aggregate, in: tenant)) {
                info.isIntact = false
            }
            infos.append(info)
            return true
        }
        return infos
    }

    static func snapshot(
        of aggregateNo: Int64, _ aggregate: AggregateName, _ tenant: TenantID, at version: Version,
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> StoredSnapshot? {
        let select = try connection.statement(.selectSnapshot)
        select.bind(1, aggregateNo)
        guard version <= .max else { return nil }
        select.bind(2, Int64(version.rawValue))
        return try select.firstRow { row throws(SQLiteFault) in
            var stored = StoredSnapshot(
                snapshot: Snapshot(
                    version: Version(try row.unsigned(0)), createdAt: Timestamp(microseconds: row.integer(1)),
                    schemaVersion: UInt32(try row.unsigned(2, to: Int64(UInt32.max))), contentType: row.text(3),
                    payload: unsafe ByteBuffer(bytes: row.blob(5))),
                checksum: UInt32(truncatingIfNeeded: row.integer(4)))
            stored.isSealed = row.isNull(6) || row.integer(6) == Int64(stored.seal(of: aggregate, in: tenant))
            return stored
        }
    }
}

extension SQLiteStatement {
    /// Runs a statement that has one blob, all or a part of what is readable, and no rows.
    func run(blob index: Int32, _ buffer: ByteBuffer, _ part: Range<Int>? = nil) throws(SQLiteFault) {
        let result: Result<Void, SQLiteFault> = unsafe buffer.withUnsafeReadableBytes { bytes in
            do throws(SQLiteFault) {
                try unsafe run(
                    blob: index, UnsafeRawBufferPointer(rebasing: bytes[part ?? 0..<bytes.count]))
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }
}
