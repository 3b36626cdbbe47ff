import MartletModel
import MartletStorage

/// Answers which keys of a consumer are blocked.
enum ListBlockedKeysCall {
    /// What the answer tells of one key at most.
    private static let keyBytes = BlockedKey.reasonBytesMax + ConsumerKey.bytesMax + 128

    static func make(_ request: ListBlockedKeysRequest, _ handle: CallHandle) -> ReadingCall {
        let (consumer, countMax) = (request.consumer, ListBlockedKeysRequest.countMax)
        return ReadingCall(tenant: consumer.tenant, answerBytesMax: countMax * keyBytes, handle) {
            reader throws(StorageError) in
            guard try reader.consumer(consumer) != nil else { return .failure(.consumerNotFound) }
            let after = request.after.map {
                BlockedKeyID(slot: SlotID(consumer: consumer, number: $0.slot), key: $0.key)
            }
            let keys = try reader.blockedKeys(of: consumer, slot: nil, after: after, countMax: countMax)
            return .success(
                .blockedKeys(
                    keys.map { ListedKey(place: KeyPlace(slot: $0.slot, key: $0.key), blocked: $0.blocked) }))
        }
    }
}
