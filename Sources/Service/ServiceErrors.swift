public import MartletModel

extension MartletError {
    static let cancelled = MartletError(
        .cancelled, reason: .cancelled,
        message: "the call was cancelled; an append may still have been stored")

    /// A call did not finish within its time.
    public static func deadlineExceeded(millis: UInt32) -> MartletError {
        MartletError(
            .deadlineExceeded, reason: .deadlineExceeded,
            message: "the call did not finish within its \(millis) ms; "
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

    /// Storage answered a call with what is the outcome of another kind of call.
    static let unexpectedOutcome = MartletError(
        .internal, reason: .internalError,
        message: "storage gave the answer to another kind of call: tell the server's operator")

    static let unreadableRecord = MartletError(
        .dataLoss, reason: .storageCorrupted, message: "a stored event cannot be read: check the storage")

    static func workerSilent(millis: Int) -> MartletError {
        MartletError(
            .deadlineExceeded, reason: .workerSilent,
            message: "nothing was heard of the worker for \(millis) ms, so that its slots go to others: say that it is "
                + "alive once in a third of this time, and connect again",
            isRetryable: true)
    }

    static let workerReplaced = MartletError(
        .aborted, reason: .workerReplaced,
        message: "a newer stream has this worker's name and takes its slots: give each worker a name of its own")

    static func tooManyTenants(_ limits: Limits, _ consumer: ConsumerName) -> MartletError {
        let countMax = limits.tenantsPerStreamMax
        return MartletError(
            .failedPrecondition, reason: .tooManyTenants,
            message: "tenants_per_stream_max is \(countMax), and more tenants than that have a consumer "
                + "\"\(consumer)\": divide them among several streams, each of which names its tenants",
            limit: .init(name: "tenants_per_stream_max", limit: UInt64(countMax), actual: UInt64(countMax) + 1))
    }

    static func tooManyWorkers(_ limits: Limits) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .tooManyConsumers,
            message: "the consumer has \(limits.workersPerConsumerMax) workers, the most that it may have: end one, or "
                + "retry later",
            isRetryable: true)
    }
}
