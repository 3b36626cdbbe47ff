import MartletModel
import MartletStorage

/// Deletes snapshots of an aggregate.
enum DeleteSnapshotsCall {
    static func make(_ request: DeleteSnapshotsRequest, _ handle: CallHandle) -> ChangingCall {
        ChangingCall(tenant: request.tenant, handle, .ready(.deleteSnapshots(request)))
    }
}
