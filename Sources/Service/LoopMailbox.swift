import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// How answers of appends get from a commit thread to the connections of one event loop, and onto their sockets: all
/// that one commit answers wakes the loop once, and each connection writes once.
final class LoopMailbox: Sendable {
    struct Answer {
        var calls: NIOLoopBound<ConnectionCalls>
        var call: CallKey
        var result: Result<WriteOutcome, MartletError>
    }

    private let eventLoop: any EventLoop
    private let answers = NIOLockedValueBox<[Answer]>([])
    private let touched: NIOLoopBoundBox<[any CallTransport]>
    let frameTurns: FrameTurns

    /// A mailbox of the event loop that this is called on.
    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        touched = NIOLoopBoundBox([], eventLoop: eventLoop)
        frameTurns = FrameTurns(eventLoop: eventLoop)
    }

    /// Brings an answer to its connection; from any thread.
    func deliver(_ answer: Answer) {
        let wasEmpty = answers.withLockedValue { answers in
            answers.append(answer)
            return answers.count == 1
        }
        if wasEmpty { eventLoop.execute { self.handOut() } }
    }

    private func handOut() {
        let taken = answers.withLockedValue { answers in
            defer { answers = [] }
            return answers
        }
        for answer in taken { answer.calls.value.finish(answer.call, answer.result) }
        flush()
    }

    /// Has a connection flushed at the end of this turn of the event loop; on the event loop.
    func flushLater(_ transport: any CallTransport) {
        touched.value.append(transport)
        if touched.value.count == 1 { eventLoop.execute { self.flush() } }
    }

    private func flush() {
        let transports = touched.value
        guard !transports.isEmpty else { return }
        touched.value = []
        for transport in transports { transport.flush() }
    }
}
