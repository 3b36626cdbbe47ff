import DequeModule
import MartletModel
import NIOConcurrencyHelpers

/// What a worker has said on its stream and the connection has not sent yet.
///
/// A reply about each delivery waits here once at most, and the server bounds how many deliveries are under way.
final class ReplyQueue: Sendable {
    fileprivate struct State {
        var replies: Deque<WorkerReply> = []
        /// The deliveries that single replies in `replies` are about.
        var numbers: Set<UInt64> = []
        /// The highest delivery up to which all are acknowledged.
        var acknowledgedTo: UInt64 = 0
        /// The connection knows that there is something.
        var isAnnounced = false
        var isClosed = false
    }

    /// More than the fields beside its reason take in a frame.
    private static let replyBytes = 40
    private let state = NIOLockedValueBox(State())

    /// Adds a reply; one that says nothing new is dropped, and all are once the stream has ended.
    /// - Returns: whether the connection is to be told.
    func add(_ reply: WorkerReply) -> Bool {
        state.withLockedValue { state in
            guard !state.isClosed, state.takesIn(reply) else { return false }
            state.replies.append(reply)
            defer { state.isAnnounced = true }
            return !state.isAnnounced
        }
    }

    /// Takes replies for one frame.
    /// - Returns: nothing if nothing waits: the connection is told of the next one.
    func take(bytesMax: Int) -> [WorkerReply] {
        state.withLockedValue { state in
            var taken: [WorkerReply] = []
            var bytes = 0
            while taken.count < WorkerReply.countMax, let next = state.replies.first {
                var reasonBytes = 0
                if case .reject(_, _, let reason) = next { reasonBytes = reason.utf8.count }
                bytes += Self.replyBytes + reasonBytes
                guard taken.isEmpty || bytes <= bytesMax else { break }
                if let number = next.singleDelivery { state.numbers.remove(number) }
                taken.append(state.replies.removeFirst())
            }
            if taken.isEmpty { state.isAnnounced = false }
            return taken
        }
    }

    /// The stream has ended: nobody takes replies any more.
    func close() {
        state.withLockedValue { state in
            state.isClosed = true
            state.replies = []
            state.numbers = []
        }
    }
}

extension ReplyQueue.State {
    fileprivate mutating func takesIn(_ reply: WorkerReply) -> Bool {
        if let number = reply.singleDelivery {
            return number > acknowledgedTo && numbers.insert(number).inserted
        }
        guard case .acknowledge(let number, upTo: true) = reply else { return true }
        guard number > acknowledgedTo else { return false }
        acknowledgedTo = number
        return true
    }
}

extension WorkerReply {
    /// The one delivery that it is about.
    fileprivate var singleDelivery: UInt64? {
        switch self {
        case .acknowledge(let number, upTo: false), .reject(let number, _, _): number
        case .acknowledge(_, upTo: true), .alive: nil
        }
    }
}
