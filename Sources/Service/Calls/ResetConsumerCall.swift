import MartletModel
import MartletQueries
import MartletStorage

/// Has a consumer begin again from another place, or says what would come again then.
enum ResetConsumerCall {
    static func make(_ request: ResetConsumerRequest, _ handle: CallHandle) -> any CallWork {
        let (consumer, clock) = (request.consumer, handle.service.clock)
        guard request.isPreview else {
            return ChangingCall(
                tenant: consumer.tenant, handle,
                .made { reader throws(StorageError) in
                    try ConsumerStart.checkpoint(
                        request.start, of: consumer.tenant, now: clock(), reader: reader
                    ).map { .consumer(ConsumerChange(.reset(to: $0), of: consumer)) }
                })
        }
        return ReadingCall(tenant: consumer.tenant, handle) { reader throws(StorageError) in
            guard let group = try reader.group(consumer) else { return .failure(.consumerNotFound) }
            return try ConsumerStart.checkpoint(
                request.start, of: consumer.tenant, now: clock(), reader: reader
            ).map { .consumerReset(ResetConsumerReceipt(after: $0.position, before: group.furthest)) }
        }
    }
}

/// Where a consumer begins.
enum ConsumerStart {
    /// The position that is meant, and the id of its event.
    static func checkpoint(
        _ start: SubscriptionStart, of tenant: TenantID, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<Checkpoint, MartletError> {
        let head = try reader.head(of: tenant)
        let request = SubscribeRequest(tenant: tenant, start: start)
        switch try QueryResolution.start(of: request, head: head, now: now, reader: reader) {
        case .failure(let error): return .failure(error)
        case .success(.start): return .success(.start)
        case .success(let position):
            let ids = try reader.eventIDs(at: [EventPlace(tenant: tenant, position: position)])
            guard let id = ids[0] else { return .failure(.historyChanged(comparableTo: nil)) }
            return .success(Checkpoint(position: position, eventID: id))
        }
    }
}
