import MartletModel
import MartletSubscriptions
import NIOCore

/// Follows a tenant until either end has enough.
final class SubscribeCall: CallWork {
    private let driver: SubscriptionDriver
    private let handle: CallHandle

    init(_ request: SubscribeRequest, _ creditBytes: UInt64, _ handle: CallHandle) {
        self.handle = handle
        let service = handle.service
        driver = SubscriptionDriver(
            request: request, creditBytes: creditBytes, eventLoop: handle.eventLoop, hub: service.hub,
            reads: service.reads, room: handle.makeRoom(for: request.tenant), limits: service.limits,
            messageBytesMax: { handle.room },
            onUpcastFailures: { service.counters.failUpcasts($0) },
            emit: { message in
                handle.send(.subscribe(message))
                service.counters.deliver(message.count)
            },
            onEnd: { handle.end($0) })
    }

    func start() {
        handle.service.counters.subscriptionOpened()
        driver.setWritable(handle.isWritable)
        driver.start()
    }

    func addCredit(_ bytes: UInt64) { driver.addCredit(bytes) }

    func pump() { driver.setWritable(handle.isWritable) }

    func cancel() {
        handle.service.counters.subscriptionClosed()
        driver.cancel()
    }
}
