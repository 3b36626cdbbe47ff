import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Statements that store what is kept beside the events: snapshots and settings.
enum BesideCalls {
    /// - Parameter numbers: of the plan's aggregates.
    static func calls(_ plan: TenantPlan, tenantNo: Int64, numbers: [AggregateName: Int64]) -> [PostgresCall] {
        var calls: [PostgresCall] = []
        for change in plan.snapshots {
            guard let no = numbers[change.aggregate] else { continue }
            calls += self.calls(
                change.put, dropped: change.dropped, change.aggregate, plan.tenant, tenantNo: tenantNo, no)
        }
        for (name, move) in plan.aggregates where move.hasSnapshots {
            guard let no = numbers[name] else { continue }
            calls.append(
                note(newest: move.size.snapshotVersion, bytes: move.size.snapshotBytes, tenantNo: tenantNo, no))
        }
        if let settings = plan.settings { calls += self.calls(settings, of: plan.tenant, tenantNo: tenantNo) }
        return calls
    }

    private static func calls(
        _ change: TenantPlan.SettingsChange, of tenant: TenantID, tenantNo: Int64
    ) -> [PostgresCall] {
        let documents = change.documents.map { kind, document in
            let row = [PostgresValue(tenantNo), PostgresValue(kind.rawValue)]
            guard let value = document.value else { return PostgresCall("delete_settings", row) }
            let sum = Seal.document(
                value, kind: "settings", key: kind.rawValue, revision: document.revision, tenant: tenant)
            return PostgresCall(
                "put_settings",
                row + [PostgresValue(value), PostgresValue(Int64(document.revision)), PostgresValue(Int64(sum))])
        }
        let moved = [PostgresValue(tenantNo), PostgresValue(Int64(change.revision))]
        let seal = PostgresValue(Int64(Seal.revision(change.revision, tenant: tenant)))
        return documents + [PostgresCall("move_revision", moved), PostgresCall("copy_revision", moved + [seal])]
    }

    private static func calls(
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
    private static func note(newest: Version, bytes: UInt64, tenantNo: Int64, _ aggregateNo: Int64) -> PostgresCall {
        PostgresCall(
            "note_snapshot",
            [
                PostgresValue(tenantNo), PostgresValue(aggregateNo), PostgresValue(Int64(newest.rawValue)),
                PostgresValue(Int64(bytes)),
            ])
    }
}
