import MartletModel
import MartletStorage
import NIOCore

/// Answers a tenant's settings of one kind, as they were put.
enum GetSettingsCall {
    static func make(_ tenant: TenantID, _ kind: SettingsKind, _ handle: CallHandle) -> ReadingCall {
        ReadingCall(tenant: tenant, answerBytesMax: handle.limits.settingsBytesMax, handle) {
            reader throws(StorageError) in
            let settings = try reader.settings(of: tenant)
            return .success(
                .settings(
                    SettingsDocument(
                        document: settings.documents[kind] ?? ByteBuffer(), revision: settings.revision)))
        }
    }
}
