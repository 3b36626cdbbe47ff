import MartletDelivery
import MartletModel
import MartletStorage
import NIOCore

/// Answers a tenant's settings of one kind, as they were put.
enum GetSettingsCall {
    static func make(_ tenant: TenantID, _ kind: SettingsKind, _ handle: CallHandle) -> ReadingCall {
        let size = AnswerSize(handle.limits)
        return ReadingCall(tenant: tenant, answerBytesMax: handle.limits.settingsBytesMax, handle) {
            reader throws(StorageError) in
            let settings = try reader.settings(of: tenant)
            let document = settings.documents[kind] ?? ByteBuffer()
            if let fault = size.fault(of: "the document", bytes: document.readableBytes) { return .failure(fault) }
            return .success(.settings(SettingsDocument(document: document, revision: settings.revision)))
        }
    }
}
