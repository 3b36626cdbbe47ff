import MartletModel
import MartletSession
import NIOCore
import Synchronization

/// One attempt of a call on one connection.
///
/// `@unchecked Sendable`: what varies is touched on the connection's event loop only; but for ``outcome``, which anybody
/// may read.
final class ClientCall: @unchecked Sendable {
    /// Who waits for what comes of it.
    @safe enum Sink {
        case none
        /// Resumed once ``ClientCall/outcome`` is there.
        case unary(UnsafeContinuation<Void, Never>)
        case stream(StreamBuffer)
    }

    enum State {
        /// Not handed to the connection yet.
        case new
        /// Waits for the connection to take bytes.
        case waiting
        case open(CallID)
        case ended
    }

    let request: CallRequest
    /// When it ends at the latest.
    let deadline: NIODeadline?
    /// The deadline bounds only the time to the first part, and the server does not hear of it.
    let isDeadlineForStart: Bool
    /// The first credit.
    let creditBytes: UInt64
    /// What a worker has said and the connection has not sent; nil for calls that take no replies.
    let replies: ReplyQueue?
    /// When a worker says that it is there, unless it says something else before.
    var aliveAt = NIODeadline.distantFuture
    var state = State.new
    var sink = Sink.none
    var hasStarted = false
    /// What has come of a call that has one answer; written once, before `isAnswered`.
    private var answer: Result<CallMessage, CallFailure>?
    private let isAnswered = Atomic(false)

    init(
        _ request: CallRequest, deadline: NIODeadline?, isDeadlineForStart: Bool = false, creditBytes: UInt64 = 0,
        replies: ReplyQueue? = nil
    ) {
        self.request = request
        self.deadline = deadline
        self.isDeadlineForStart = isDeadlineForStart
        self.creditBytes = creditBytes
        self.replies = replies
    }

    /// What has come of a call that has one answer; nil before.
    ///
    /// That its continuation was resumed would do to order this after the writing. This says so in a way that the thread
    /// sanitizer sees, which does not look into the concurrency library.
    var outcome: Result<CallMessage, CallFailure>? { isAnswered.load(ordering: .acquiring) ? answer : nil }

    /// The deadline that holds now.
    var activeDeadline: NIODeadline? { isDeadlineForStart && hasStarted ? nil : deadline }

    /// What it tells the server of its deadline: 0 for none.
    func timeoutMillis(now: NIODeadline) -> UInt32 {
        guard !isDeadlineForStart, let deadline else { return 0 }
        let nanoseconds = (deadline - now).nanoseconds
        return UInt32(clamping: max(1, (nanoseconds + 999_999) / 1_000_000))
    }

    /// Ends it with its one answer.
    func end(answer: CallMessage) { end(.success(answer)) }

    /// Ends it without an answer, or a stream with OK.
    func end(_ failure: CallFailure?) {
        if case .stream(let buffer) = sink { buffer.finish(failure) }
        end(.failure(failure ?? .cancelled()))
    }

    private func end(_ outcome: Result<CallMessage, CallFailure>) {
        let sink = sink
        state = .ended
        replies?.close()
        self.sink = .none
        // The sink is taken: nobody is resumed twice.
        guard case .unary(let continuation) = sink else { return }
        answer = outcome
        isAnswered.store(true, ordering: .releasing)
        unsafe continuation.resume()
    }
}
