import NIOCore
import MartletSubscriptions
import MartletModel
import MartletStorage
import MartletTenants
import MartletUpcasting

/// Replaces a tenant's settings of one kind. The document is checked on a storage thread, where that may take its time.
/// Acknowledged once they are in force here: whoever reads then gets events under them.
enum PutSettingsCall {
    static func make(_ request: PutSettingsRequest, _ handle: CallHandle) -> ChangingCall {
        let (service, tenant) = (handle.service, request.tenant)
        let (settings, hub) = (service.settings, service.hub)
        return ChangingCall(
            tenant: tenant, handle,
            .made { _ throws(StorageError) in
                if let fault = fault(of: request) { return .failure(fault) }
                return .success(.putSettings(request))
            },
            afterwards: ChangingCall.Afterwards(
                read: { reader throws(StorageError) in
                    try hub.refreshSettings(tenant, try reader.tenantState(of: tenant), settings, reader)
                }, failed: { service.settingsMissed(of: tenant) }))
    }

    private static func fault(of request: PutSettingsRequest) -> MartletError? {
        guard request.document.readableBytes > 0 else { return nil }
        do throws(MartletError) {
            switch request.kind {
            case .upcasters: _ = try UpcasterSet(definition: request.document)
            case .snapshotPolicies: _ = try SnapshotPolicies(document: request.document)
            default: return .invalidField("kind", "is unknown")
            }
            return nil
        } catch { return error }
    }
}
