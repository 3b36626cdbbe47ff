import MartletModel
import MartletQueries
import MartletStorage

/// Answers the newest snapshot that the caller can use.
enum LoadSnapshotCall {
    static func make(_ request: LoadSnapshotRequest, _ handle: CallHandle) -> ReadingCall {
        let (queries, counters) = (handle.service.queries, handle.service.counters)
        return ReadingCall(tenant: request.tenant, answerBytesMax: handle.limits.snapshotBytesMax, handle) {
            reader throws(StorageError) in
            let loaded = try queries.snapshot(request, reader: reader)
            counters.skipSnapshots(loaded.skipped)
            return .success(.snapshot(loaded))
        }
    }
}
