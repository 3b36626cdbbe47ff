import MartletDelivery
import MartletModel
import MartletQueries
import MartletStorage
import NIOCore

/// Answers the newest snapshot that the caller can use.
enum LoadSnapshotCall {
    static func make(_ request: LoadSnapshotRequest, _ handle: CallHandle) -> ReadingCall {
        let (queries, counters) = (handle.service.queries, handle.service.counters)
        let size = AnswerSize(handle.limits)
        return ReadingCall(tenant: request.tenant, answerBytesMax: handle.limits.snapshotBytesMax, handle) {
            reader throws(StorageError) in
            let loaded = try queries.snapshot(request, reader: reader)
            counters.skipSnapshots(loaded.skipped)
            if let snapshot = loaded.snapshot {
                let what = "the snapshot at version \(snapshot.version)"
                if let fault = size.fault(of: what, bytes: snapshot.payload.readableBytes) { return .failure(fault) }
            }
            return .success(.snapshot(loaded))
        }
    }
}
