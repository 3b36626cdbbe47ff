import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Snapshots and settings: what is kept beside the events.
extension SQLiteWriter {
    func store(
        _ change: TenantPlan.SettingsChange, of tenant: TenantID, _ tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) {
        for (kind, document) in change.documents {
            guard let value = document.value else {
                let delete = try connection.statement(.deleteSettings)
                delete.bind(1, tenantNo)
                delete.bind(2, kind.rawValue)
                try delete.run()
                continue
            }
            let put = try connection.statement(.putSettings)
            put.bind(1, tenantNo)
            put.bind(2, kind.rawValue)
            put.bind(4, Int64(document.revision))
            let sum = Seal.document(
                value, kind: "settings", key: kind.rawValue, revision: document.revision, tenant: tenant)
            put.bind(5, Int64(sum))
            try put.run(blob: 3, value)
        }
        let update = try connection.statement(.updateSettingsRevision)
        update.bind(1, tenantNo)
        update.bind(2, Int64(change.revision))
        try update.run()
        let copy = try connection.statement(.copyRevision)
        copy.bind(1, tenantNo)
        copy.bind(2, Int64(change.revision))
        copy.bind(3, Int64(Seal.revision(change.revision, tenant: tenant)))
        try copy.run()
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
