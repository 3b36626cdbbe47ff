import Metrics

/// What workers did since that was counted last.
struct WorkerCounts: Hashable {
    /// Events that went to workers.
    var delivered = 0
    /// Those of them that were tried before.
    var redelivered = 0
    var acknowledged = 0
    /// Deliveries that workers rejected, by what they asked for.
    var rejectedToRetry = 0
    var rejectedToPark = 0
    var rejectedToStop = 0
    /// Deliveries that were taken back because no word came in time.
    var timedOut = 0
    /// Keys that nobody tries again before somebody asks for it.
    var keysParked = 0
    var slotsAssigned = 0
    /// Slots that workers gave back, or that were taken from them.
    var slotsLost = 0
}

/// What the server counts of all consumers together. Counts come a worker's turn at a time, not event by event.
final class ConsumerCounters: Sendable {
    private let delivered: Counter
    private let redelivered: Counter
    private let acknowledged: Counter
    private let rejectedToRetry: Counter
    private let rejectedToPark: Counter
    private let rejectedToStop: Counter
    private let timedOut: Counter
    private let keysParked: Counter
    private let keysRetried: Counter
    private let keysSkipped: Counter
    private let slotsAssigned: Counter
    private let slotsLost: Counter
    private let fencedProgress: Counter
    private let fencedAppends: Counter

    init(_ metrics: any MetricsFactory = NOOPMetricsHandler.instance) {
        delivered = metrics.counter(.consumerEventsDelivered)
        redelivered = metrics.counter(.consumerEventsRedelivered)
        acknowledged = metrics.counter(.consumerEventsAcknowledged)
        rejectedToRetry = metrics.counter(.consumerEventsRejected, kind: "retry")
        rejectedToPark = metrics.counter(.consumerEventsRejected, kind: "park")
        rejectedToStop = metrics.counter(.consumerEventsRejected, kind: "stop")
        timedOut = metrics.counter(.consumerEventsTimedOut)
        keysParked = metrics.counter(.consumerKeysParked)
        keysRetried = metrics.counter(.consumerKeysRetried)
        keysSkipped = metrics.counter(.consumerKeysSkipped)
        slotsAssigned = metrics.counter(.consumerSlotsAssigned)
        slotsLost = metrics.counter(.consumerSlotsLost)
        fencedProgress = metrics.counter(.consumerFenced, kind: "progress")
        fencedAppends = metrics.counter(.consumerFenced, kind: "append")
    }

    func add(_ counts: WorkerCounts) {
        guard counts != WorkerCounts() else { return }
        delivered.add(counts.delivered)
        redelivered.add(counts.redelivered)
        acknowledged.add(counts.acknowledged)
        rejectedToRetry.add(counts.rejectedToRetry)
        rejectedToPark.add(counts.rejectedToPark)
        rejectedToStop.add(counts.rejectedToStop)
        timedOut.add(counts.timedOut)
        keysParked.add(counts.keysParked)
        slotsAssigned.add(counts.slotsAssigned)
        slotsLost.add(counts.slotsLost)
    }

    /// Somebody asked that keys are tried again, some of them without their first event.
    func unblock(_ count: Int, skipped: Int) {
        keysRetried.add(count - skipped)
        keysSkipped.add(skipped)
    }

    /// The progress of slots was not stored: another epoch is in force.
    func fenceProgress(_ count: Int) { fencedProgress.add(count) }

    /// An append was refused: its checkpoint's slot has another epoch.
    func fenceAppend() { fencedAppends.increment() }
}

extension Counter {
    /// Adds what is not nothing.
    fileprivate func add(_ count: Int) { if count > 0 { increment(by: count) } }
}
