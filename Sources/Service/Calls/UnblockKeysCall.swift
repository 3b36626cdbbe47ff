import MartletModel
import MartletStorage

/// Has blocked keys of a consumer tried again.
enum UnblockKeysCall {
    static func make(_ request: UnblockKeysRequest, _ handle: CallHandle) -> ChangingCall {
        let keys = request.keys.map {
            KeyUnblocking(slot: $0.place.slot, key: $0.place.key, skipping: $0.skipping)
        }
        let change = ConsumerChange(.unblock(keys), of: request.consumer)
        return ChangingCall(
            tenant: request.consumer.tenant, handle,
            .made { reader throws(StorageError) in
                guard try reader.consumer(request.consumer) != nil else { return .failure(.consumerNotFound) }
                return .success(.consumer(change))
            })
    }
}
