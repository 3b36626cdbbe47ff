import MartletModel
import MartletQueries
import MartletStorage

/// Answers what snapshots an aggregate has, without their states.
enum ListSnapshotsCall {
    /// What the answer tells of one snapshot, with the longest content type.
    private static let snapshotBytes = 192

    static func make(_ tenant: TenantID, _ aggregate: AggregateName, _ handle: CallHandle) -> ReadingCall {
        let queries = handle.service.queries
        return ReadingCall(tenant: tenant, answerBytesMax: SnapshotPolicy.keptMax * snapshotBytes, handle) {
            reader throws(StorageError) in
            .success(.snapshots(try queries.snapshots(of: aggregate, in: tenant, reader: reader)))
        }
    }
}
