import MartletModel
import NIOCore

/// How one attempt of a call failed.
struct CallFailure: Error, Hashable, Sendable {
    /// What failed.
    var error: MartletError
    /// The server may have carried out the call, or still do so.
    var mayHaveRun = false
    /// There was no connection: the wait before the next try is the connection's, not the call's.
    var isConnecting = false

    static func cancelled(mayHaveRun: Bool = false) -> CallFailure {
        CallFailure(
            error: MartletError(
                .cancelled, reason: .cancelled,
                message: mayHaveRun
                    ? "the call was cancelled; an append may still have been stored" : "the call was cancelled"),
            mayHaveRun: mayHaveRun)
    }

    static func deadlineExceeded(mayHaveRun: Bool) -> CallFailure {
        CallFailure(
            error: MartletError(
                .deadlineExceeded, reason: .deadlineExceeded,
                message: mayHaveRun
                    ? "the call did not end in time; an append may have been stored: retry it with the same event ids"
                    : "the call could not start in time: check that the server is reachable, or allow more time",
                isRetryable: true),
            mayHaveRun: mayHaveRun)
    }

    static let clientClosed = CallFailure(
        error: MartletError(
            .unavailable, reason: .clientClosed, message: "the client is closed: start calls while it runs"))
}

/// Decides whether a call that failed is tried again, and when. Reads no clock.
struct Attempts: Sendable {
    enum Decision: Equatable {
        case retry(after: Duration)
        case giveUp(MartletError)
    }

    /// The call's own end; nil for none.
    let deadline: NIODeadline?
    private let backoff: Backoff
    private let budget: Duration?
    private let writes: Bool
    private var giveUpAt: NIODeadline?
    private var failureCount = 0
    private var mayHaveRun = false

    /// - Parameters:
    ///   - budget: how long to retry, counted from `now` and again from each ``succeed(now:)``; nil for ever.
    ///   - writes: the call changes what is stored, so that it matters whether it may have run.
    init(backoff: Backoff, budget: Duration?, deadline: NIODeadline?, writes: Bool, now: NIODeadline) {
        self.backoff = backoff
        self.budget = budget
        self.deadline = deadline
        self.writes = writes
        giveUpAt = budget.map { now + TimeAmount(clamping: $0) }
    }

    /// The call got somewhere: what fails from here on is a new failure.
    mutating func succeed(now: NIODeadline) {
        failureCount = 0
        giveUpAt = budget.map { now + TimeAmount(clamping: $0) }
    }

    /// An attempt failed.
    /// - Parameter random: from 0 up to 1.
    mutating func fail(_ failure: CallFailure, now: NIODeadline, random: Double) -> Decision {
        mayHaveRun = mayHaveRun || failure.mayHaveRun
        guard failure.error.isRetryable else { return .giveUp(final(failure.error)) }
        if let deadline, now >= deadline {
            guard failure.error.code != .deadlineExceeded else { return .giveUp(failure.error) }
            return .giveUp(CallFailure.deadlineExceeded(mayHaveRun: writes && mayHaveRun).error)
        }
        var delay = Duration.zero
        if !failure.isConnecting {
            failureCount += 1
            delay = backoff.delay(afterFailures: failureCount, random: random)
        }
        let next = now + TimeAmount(clamping: delay)
        if let giveUpAt, next >= giveUpAt { return .giveUp(final(failure.error)) }
        if let deadline, next >= deadline { return .giveUp(final(failure.error)) }
        return .retry(after: delay)
    }

    /// Without a definite answer the caller must know that an append may be stored.
    private func final(_ error: MartletError) -> MartletError {
        guard writes, mayHaveRun, error.isRetryable || error.reason == .clientClosed,
            error.code != .deadlineExceeded, error.reason != .outcomeUnknown
        else { return error }
        return MartletError(
            .unknown, reason: .outcomeUnknown,
            message: "it is unknown whether the append was stored; the last attempt failed with \(error); "
                + "retry with the same event ids, which is safe either way", isRetryable: true)
    }
}

extension TimeAmount {
    /// The same time, as far as 64 bits of nanoseconds reach.
    init(clamping duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let (nanoseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        // A century is for ever, and leaves room to add a deadline to it.
        let bound: Int64 = 100 * 365 * 86_400 * 1_000_000_000
        let clamped = overflow ? (seconds < 0 ? -bound : bound) : Swift.min(Swift.max(nanoseconds, -bound), bound)
        self = .nanoseconds(clamped + attoseconds / 1_000_000_000)
    }
}

extension MartletError {
    /// A status after which a call may have been carried out all the same.
    var mayHaveRun: Bool {
        reason == .outcomeUnknown || code == .deadlineExceeded || code == .cancelled
    }
}
