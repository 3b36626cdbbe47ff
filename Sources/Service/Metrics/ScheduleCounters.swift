import MartletModel
import Metrics

/// What the server counts of schedules.
final class ScheduleCounters: Sendable {
    private let set: Counter
    private let cancelled: Counter
    private let fired: Counter
    private let parked: Counter
    private let lateness: Timer

    init(_ metrics: any MetricsFactory) {
        set = metrics.counter(.schedulesSet)
        cancelled = metrics.counter(.schedulesCancelled)
        fired = metrics.counter(.schedulesFired)
        parked = metrics.counter(.schedulesParked)
        lateness = Timer(
            label: MetricName.scheduleLateness.rawValue, dimensions: [], preferredDisplayUnit: .seconds,
            factory: metrics)
    }

    /// So many schedules were set or moved, and so many cancelled.
    func change(set setCount: Int, cancelled cancelledCount: Int) {
        if setCount > 0 { set.increment(by: setCount) }
        if cancelledCount > 0 { cancelled.increment(by: cancelledCount) }
    }

    /// The event of a schedule is stored.
    /// - Parameters:
    ///   - due: when it was to be.
    ///   - at: when it was, by its commit time.
    func fire(due: Timestamp, at time: Timestamp) {
        fired.increment()
        let (late, isTooLate) = time.microseconds.subtractingReportingOverflow(due.microseconds)
        lateness.recordMicroseconds(isTooLate ? Int64.max : max(0, late))
    }

    func park() { parked.increment() }
}
