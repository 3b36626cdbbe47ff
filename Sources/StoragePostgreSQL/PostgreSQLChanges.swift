import EventModel
import EventStorage
import FoundationEssentials
import NIOCore

/// Snapshots and settings: what is kept beside the events. The tenant's row is locked as for an append, so that what
/// is decided by cannot change.
extension PostgreSQLWriter {
    func apply(_ change: TenantChange, now: Timestamp) throws(StorageError) -> TenantChangeOutcome {
        try transact { connection throws(PostgresFault) -> (TenantChangeOutcome, [Call]) in
            switch change {
            case .saveSnapshot(let request, let kept):
                let found = try lookUp(request.aggregate, in: request.tenant, on: connection)
                return save(request, kept: kept, now: now, found)
            case .deleteSnapshots(let request):
                return delete(request, try lookUp(request.aggregate, in: request.tenant, on: connection))
            case .putSettings(let request):
                var questions = BatchQuestions()
                questions.tenants = [request.tenant]
                return put(request, try lookUp(questions, on: connection))
            }
        }
    }

    private func lookUp(
        _ aggregate: AggregateName, in tenant: TenantID, on connection: PostgresConnection
    ) throws(PostgresFault) -> FoundAggregate? {
        let key = AggregateKey(tenant: tenant, name: aggregate)
        var questions = BatchQuestions()
        questions.tenants = [tenant]
        questions.aggregates = [key]
        questions.snapshots = [key]
        let found = try lookUp(questions, on: connection)
        guard let tenantNo = found.tenants[tenant]?.no, let no = found.aggregates[key],
            let version = found.facts.versions[key]
        else { return nil }
        return FoundAggregate(
            tenantNo: tenantNo, no: no, version: version, size: found.facts.sizes[key] ?? AggregateSize(),
            snapshots: found.facts.snapshots[key] ?? [])
    }

    private struct FoundAggregate {
        var tenantNo: Int64
        var no: Int64
        var version: Version
        var size: AggregateSize
        /// Newest first.
        var snapshots: [SnapshotKey]

        func noting(newest: Version, bytes: UInt64) -> Call {
            (
                "note_snapshot",
                [
                    PostgresValue(tenantNo), PostgresValue(no), PostgresValue(Int64(newest.rawValue)),
                    PostgresValue(Int64(bytes)),
                ]
            )
        }
    }

    private func save(
        _ request: SaveSnapshotRequest, kept: Int, now: Timestamp, _ found: FoundAggregate?
    ) -> (TenantChangeOutcome, [Call]) {
        guard let found, request.version <= found.version else {
            return (.snapshotBeyondAggregate(found?.version ?? .none), [])
        }
        let plan = SnapshotDecision.decide(
            SnapshotKey(version: request.version, schemaVersion: request.snapshot.schemaVersion),
            existing: found.snapshots, kept: kept)
        let put = plan.isKept ? StoredSnapshot(request.snapshot, version: request.version, now: now) : nil
        return (
            .snapshotSaved(SaveSnapshotReceipt(isKept: plan.isKept, newestVersion: plan.newestVersion)),
            SnapshotCalls.calls(put, dropped: plan.dropped, tenantNo: found.tenantNo, found.no)
                + [found.noting(newest: plan.newestVersion, bytes: found.size.bytes)]
        )
    }

    private func delete(
        _ request: DeleteSnapshotsRequest, _ found: FoundAggregate?
    ) -> (TenantChangeOutcome, [Call]) {
        guard let found else { return (.snapshotsDeleted(0), []) }
        let versions = found.snapshots.map(\.version)
        let deleted = versions.filter { request.version == nil || request.version == $0 }
        guard !deleted.isEmpty else { return (.snapshotsDeleted(0), []) }
        let newest = versions.first { !deleted.contains($0) }
        return (
            .snapshotsDeleted(deleted.count),
            SnapshotCalls.calls(nil, dropped: deleted, tenantNo: found.tenantNo, found.no)
                + [found.noting(newest: newest ?? .none, bytes: newest == nil ? 0 : found.size.snapshotBytes)]
        )
    }

    private func put(_ request: PutSettingsRequest, _ found: Found) -> (TenantChangeOutcome, [Call]) {
        guard let tenant = found.tenants[request.tenant] else { preconditionFailure("the tenant's row was locked") }
        guard request.expectedRevision == nil || request.expectedRevision == tenant.settingsRevision else {
            return (.settingsConflict(revision: tenant.settingsRevision), [])
        }
        let revision = tenant.settingsRevision + 1
        let kind = [PostgresValue(tenant.no), PostgresValue(request.kind.rawValue)]
        let change: Call =
            request.document.readableBytes == 0
            ? ("delete_settings", kind) : ("put_settings", kind + [PostgresValue(request.document)])
        return (
            .settingsPut(revision: revision),
            [
                change, ("move_revision", [PostgresValue(tenant.no), PostgresValue(Int64(revision))]),
                ("tell", [PostgresValue(CommitNotice.unknown)]),
            ]
        )
    }
}

/// Statements that change the table `snapshots`.
enum SnapshotCalls {
    static func calls(
        _ put: StoredSnapshot?, dropped: [Version], tenantNo: Int64, _ aggregateNo: Int64
    ) -> [PostgreSQLWriter.Call] {
        let aggregate = [PostgresValue(tenantNo), PostgresValue(aggregateNo)]
        var calls: [PostgreSQLWriter.Call] = []
        if !dropped.isEmpty {
            calls.append(("drop_snapshots", aggregate + [PostgresValue(dropped.map { Int64($0.rawValue) })]))
        }
        if let put {
            calls.append(
                (
                    "put_snapshot",
                    aggregate + [
                        PostgresValue(Int64(put.snapshot.version.rawValue)),
                        PostgresValue(put.snapshot.createdAt.microseconds),
                        PostgresValue(Int64(put.snapshot.schemaVersion)), PostgresValue(put.snapshot.contentType),
                        PostgresValue(Int64(put.checksum)), PostgresValue(put.snapshot.payload),
                    ]
                ))
        }
        return calls
    }
}
