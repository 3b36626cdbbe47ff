import MartletModel
import MartletStorage

/// Saves a snapshot; the tenant's policy says how many are kept.
enum SaveSnapshotCall {
    static func make(_ request: SaveSnapshotRequest, _ handle: CallHandle) -> ChangingCall {
        let kept = SnapshotPolicy.never.kept
        return ChangingCall(tenant: request.tenant, handle, .ready(.saveSnapshot(request, kept: kept)))
    }
}
