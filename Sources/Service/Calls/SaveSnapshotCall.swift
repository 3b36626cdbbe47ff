import NIOCore
import MartletModel
import MartletStorage
import MartletTenants

/// Saves a snapshot; the tenant's policy says how many are kept.
enum SaveSnapshotCall {
    static func make(_ request: SaveSnapshotRequest, _ handle: CallHandle) -> ChangingCall {
        let settings = handle.service.settings
        let known = settings.known(request.tenant, now: handle.eventLoop.now)
        let kept = known.map { $0.settings.policies[request.aggregate.type].kept }
        return ChangingCall(
            tenant: request.tenant, handle, prepared: kept.map { .saveSnapshot(request, kept: $0) }
        ) { reader throws(StorageError) in
            let standing = try reader.standing(of: request.tenant)
            let policies = try settings.resolve(request.tenant, standing, reader: reader).policies
            return .success(.saveSnapshot(request, kept: policies[request.aggregate.type].kept))
        }
    }
}
