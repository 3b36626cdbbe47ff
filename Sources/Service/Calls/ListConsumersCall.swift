import MartletModel
import MartletStorage

/// Answers which consumers a tenant has.
enum ListConsumersCall {
    static func make(_ request: ListConsumersRequest, _ handle: CallHandle) -> ReadingCall {
        // A hundred definitions, each with the largest filter.
        ReadingCall(tenant: request.tenant, answerBytesMax: handle.limits.frameBytesMax, handle) {
            reader throws(StorageError) in
            let found = try reader.consumers(
                of: request.tenant, after: request.after, countMax: ListConsumersRequest.countMax)
            do throws(MartletError) {
                var listed: [ListedConsumer] = []
                for named in found {
                    listed.append(
                        ListedConsumer(
                            name: named.name, revision: named.consumer.revision,
                            definition: try ConsumerDefinition(document: named.consumer.document)))
                }
                return .success(.consumers(listed))
            } catch { return .failure(error) }
        }
    }
}
