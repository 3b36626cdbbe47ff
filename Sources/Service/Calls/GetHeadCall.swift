import MartletModel
import MartletStorage

/// Answers a tenant's head.
enum GetHeadCall {
    static func make(_ tenant: TenantID, _ handle: CallHandle) -> ReadingCall {
        ReadingCall(tenant: tenant, handle) { reader throws(StorageError) in
            .success(.head(try reader.head(of: tenant)))
        }
    }
}
