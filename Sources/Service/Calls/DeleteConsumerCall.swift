import MartletModel
import MartletStorage

/// Deletes a consumer with all that is stored of it.
enum DeleteConsumerCall {
    static func make(_ consumer: ConsumerID, _ handle: CallHandle) -> ChangingCall {
        ChangingCall(tenant: consumer.tenant, handle, .ready(.consumer(ConsumerChange(.delete, of: consumer))))
    }
}
