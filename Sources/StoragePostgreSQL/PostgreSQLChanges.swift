import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Snapshots and settings: what is kept beside the events. The tenant's row is locked as for an append, so that what
/// is decided by cannot change.
extension PostgreSQLWriter {
    func apply(_ change: TenantChange, now: Timestamp) throws(StorageError) -> TenantChangeOutcome {
        takeConnection()
        defer { giveBackConnection() }
        let (tenant, aggregate) = (change.tenant, change.aggregate)
        let borrowed = BorrowedTenants([tenant], of: memory)
        var questions = BatchQuestions()
        questions.tenants = [tenant]
        if let aggregate {
            questions.aggregates = [AggregateKey(tenant: tenant, name: aggregate)]
            questions.snapshots = questions.aggregates
        }
        let (outcome, found, isCommitted): (TenantChangeOutcome, Found, Bool)
        do throws(StorageError) {
            (outcome, found, isCommitted) = try transact { connection throws(PostgresFault) in
                let found = try lookUp(questions, borrowed: borrowed, on: connection)
                let (outcome, rest) = decide(change, found, now: now)
                return ((outcome, found, !rest.calls.isEmpty), rest)
            }
        } catch {
            borrowed.forget()
            borrowed.giveBack()
            throw error
        }
        borrowed.renew(by: found, isCommitted: isCommitted)
        if let aggregate, isCommitted { borrowed.known[tenant]?.change(aggregate) }
        borrowed.giveBack()
        return outcome
    }

    private func decide(
        _ change: TenantChange, _ found: Found, now: Timestamp
    ) -> (TenantChangeOutcome, Rest) {
        switch change {
        case .saveSnapshot(let request, let kept):
            save(request, kept: kept, now: now, FoundAggregate(request.aggregate, in: request.tenant, found))
        case .deleteSnapshots(let request):
            delete(request, FoundAggregate(request.aggregate, in: request.tenant, found))
        case .putSettings(let request): put(request, found)
        }
    }

    private struct FoundAggregate {
        var tenantNo: Int64
        var no: Int64
        var version: Version
        var size: AggregateSize
        /// Newest first.
        var snapshots: [SnapshotKey]

        /// Nil where there is no such aggregate.
        init?(_ name: AggregateName, in tenant: TenantID, _ found: Found) {
            let key = AggregateKey(tenant: tenant, name: name)
            guard let tenantNo = found.tenants[tenant]?.no, let no = found.aggregates[key],
                let version = found.facts.versions[key]
            else { return nil }
            self.tenantNo = tenantNo
            self.no = no
            self.version = version
            size = found.facts.sizes[key] ?? AggregateSize()
            snapshots = found.facts.snapshots[key] ?? []
        }

        func noting(newest: Version, bytes: UInt64) -> [PostgresCall] {
            [
                SnapshotCalls.note(newest: newest, bytes: bytes, tenantNo: tenantNo, no),
                PostgresCall("count_change", [PostgresValue(tenantNo)]),
            ]
        }
    }

    private func save(
        _ request: SaveSnapshotRequest, kept: Int, now: Timestamp, _ found: FoundAggregate?
    ) -> (TenantChangeOutcome, Rest) {
        guard let found, request.version <= found.version else {
            return (.snapshotBeyondAggregate(found?.version ?? .none), Rest())
        }
        let plan = SnapshotDecision.decide(
            SnapshotKey(version: request.version, schemaVersion: request.snapshot.schemaVersion),
            existing: found.snapshots, kept: kept)
        let put = plan.isKept ? StoredSnapshot(request.snapshot, version: request.version, now: now) : nil
        var size = found.size
        size.note(plan)
        return (
            .snapshotSaved(SaveSnapshotReceipt(isKept: plan.isKept, newestVersion: plan.newestVersion)),
            Rest(
                calls: SnapshotCalls.calls(
                    put, dropped: plan.dropped, request.aggregate, request.tenant, tenantNo: found.tenantNo, found.no)
                    + found.noting(newest: size.snapshotVersion, bytes: size.snapshotBytes))
        )
    }

    private func delete(
        _ request: DeleteSnapshotsRequest, _ found: FoundAggregate?
    ) -> (TenantChangeOutcome, Rest) {
        guard let found else { return (.snapshotsDeleted(0), Rest()) }
        let versions = found.snapshots.map(\.version)
        let deleted = versions.filter { request.version == nil || request.version == $0 }
        guard !deleted.isEmpty else { return (.snapshotsDeleted(0), Rest()) }
        let newest = versions.first { !deleted.contains($0) }
        return (
            .snapshotsDeleted(deleted.count),
            Rest(
                calls: SnapshotCalls.calls(
                    nil, dropped: deleted, request.aggregate, request.tenant, tenantNo: found.tenantNo, found.no)
                    + found.noting(newest: newest ?? .none, bytes: newest == nil ? 0 : found.size.snapshotBytes))
        )
    }

    private func put(_ request: PutSettingsRequest, _ found: Found) -> (TenantChangeOutcome, Rest) {
        guard let tenant = found.tenants[request.tenant] else { preconditionFailure("the tenant's row was locked") }
        guard request.expectedRevision == nil || request.expectedRevision == tenant.settingsRevision else {
            return (.settingsConflict(revision: tenant.settingsRevision), Rest())
        }
        guard tenant.settingsRevision < UInt64(Int64.max) else {
            return (.limitReached(.settingsRevisions(max: UInt64(Int64.max))), Rest())
        }
        let revision = tenant.settingsRevision + 1
        let kind = [PostgresValue(tenant.no), PostgresValue(request.kind.rawValue)]
        let change =
            request.document.readableBytes == 0
            ? PostgresCall("delete_settings", kind)
            : PostgresCall(
                "put_settings",
                kind + [
                    PostgresValue(request.document), PostgresValue(Int64(revision)),
                    PostgresValue(
                        Int64(
                            Seal.document(
                                request.document, kind: "settings", key: request.kind.rawValue, revision: revision,
                                tenant: request.tenant))),
                ])
        let moved = [PostgresValue(tenant.no), PostgresValue(Int64(revision))]
        let seal = PostgresValue(Int64(Seal.revision(revision, tenant: request.tenant)))
        return (
            .settingsPut(revision: revision),
            Rest(
                calls: [change, PostgresCall("move_revision", moved), PostgresCall("copy_revision", moved + [seal])],
                tell: .tell(CommitNotice.unknown, from: server))
        )
    }
}

/// Statements that change the table `snapshots`.
enum SnapshotCalls {
    static func calls(
        _ put: StoredSnapshot?, dropped: [Version], _ name: AggregateName, _ tenant: TenantID, tenantNo: Int64,
        _ aggregateNo: Int64
    ) -> [PostgresCall] {
        let aggregate = [PostgresValue(tenantNo), PostgresValue(aggregateNo)]
        var calls: [PostgresCall] = []
        if !dropped.isEmpty {
            calls.append(
                PostgresCall("drop_snapshots", aggregate + [PostgresValue(dropped.map { Int64($0.rawValue) })]))
        }
        if let put {
            calls.append(
                PostgresCall(
                    "put_snapshot",
                    aggregate + [
                        PostgresValue(Int64(put.snapshot.version.rawValue)),
                        PostgresValue(put.snapshot.createdAt.microseconds),
                        PostgresValue(Int64(put.snapshot.schemaVersion)), PostgresValue(put.snapshot.contentType),
                        PostgresValue(Int64(put.checksum)), PostgresValue(put.snapshot.payload),
                        PostgresValue(Int64(put.seal(of: name, in: tenant))),
                    ]))
        }
        return calls
    }

    /// Which snapshot of an aggregate is the newest, and how many bytes the aggregate had when it was saved.
    static func note(newest: Version, bytes: UInt64, tenantNo: Int64, _ aggregateNo: Int64) -> PostgresCall {
        PostgresCall(
            "note_snapshot",
            [
                PostgresValue(tenantNo), PostgresValue(aggregateNo), PostgresValue(Int64(newest.rawValue)),
                PostgresValue(Int64(bytes)),
            ])
    }
}

extension TenantChange {
    /// The aggregate that it is about; nil where it is about none.
    fileprivate var aggregate: AggregateName? {
        switch self {
        case .saveSnapshot(let request, _): request.aggregate
        case .deleteSnapshots(let request): request.aggregate
        case .putSettings: nil
        }
    }
}
