import MartletModel
import NIOCore

/// Waits until a consumer has come to a position: what a read model shows has that event in it then. Ends with its
/// deadline where it does not come so far.
final class AwaitConsumerCall: CallWork {
    private let request: AwaitConsumerRequest
    private let handle: CallHandle
    private var waiting: UInt64?

    init(_ request: AwaitConsumerRequest, _ handle: CallHandle) {
        self.request = request
        self.handle = handle
    }

    func start() {
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        waiting = handle.service.watch.wait(
            for: request.consumer, to: request.position, on: handle.eventLoop
        ) { result in
            bound.eventLoop.execute { bound.value.end(result) }
        }
    }

    func pump() {}

    func cancel() {
        if let waiting { handle.service.watch.cancel(waiting, of: request.consumer) }
        waiting = nil
    }

    private func end(_ result: Result<Position, MartletError>) {
        guard waiting != nil else { return }
        waiting = nil
        switch result {
        case .success(let settledTo): handle.answer(.consumerReached(settledTo))
        case .failure(let error): handle.end(error)
        }
    }
}
