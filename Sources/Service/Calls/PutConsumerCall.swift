import MartletModel
import MartletStorage

/// Makes a consumer, or replaces its definition.
enum PutConsumerCall {
    static func make(_ request: PutConsumerRequest, _ handle: CallHandle) -> ChangingCall {
        let (clock, countMax) = (handle.service.clock, handle.limits.consumersPerTenantMax)
        return ChangingCall(
            tenant: request.consumer.tenant, handle,
            .made { reader throws(StorageError) in
                do throws(MartletError) { try request.definition.validate() } catch { return .failure(error) }
                return try ConsumerStart.checkpoint(
                    request.start, of: request.consumer.tenant, now: clock(), reader: reader
                ).map { start in
                    let put = PutConsumer(
                        request.definition, start: start, expected: request.expected, countMax: countMax)
                    return .consumer(ConsumerChange(.put(put), of: request.consumer))
                }
            })
    }
}
