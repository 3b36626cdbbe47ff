import MartletModel
import MartletStorage

extension MartletError {
    static let cancelled = MartletError(
        .cancelled, reason: .cancelled,
        message: "the call was cancelled; an append may have been stored all the same")

    static func deadlineExceeded(millis: UInt32) -> MartletError {
        MartletError(
            .deadlineExceeded, reason: .deadlineExceeded,
            message: "the call was not done within its \(millis) ms; "
                + "an append may have been stored: retry it with the same event ids",
            isRetryable: true)
    }

    static func callMemoryFull(_ limits: Limits, bytes: Int) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .tooManyCalls,
            message: "the tenant's share of call_bytes_max, \(limits.callBytesMax), is used up by its open calls, and "
                + "this one needs \(bytes) bytes: end some, or retry later",
            isRetryable: true)
    }

    /// An engine answered a command with what is none of its outcomes.
    static func misplaced(_ outcome: WriteOutcome) -> MartletError {
        MartletError(
            .internal, reason: .internalError,
            message: "storage gave an answer that is none of this call: tell the server's operator")
    }
}
