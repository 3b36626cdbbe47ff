import MartletModel
import MartletStorage
import Metrics
import Synchronization

/// What the server counts, for GetStatus and for the metrics backend that the program set up.
final class ServiceCounters: Sendable {
    private let connections = Atomic<Int>(0)
    private let subscriptions = Atomic<Int>(0)
    private let delivered = Atomic<UInt64>(0)
    private let snapshotsSkipped = Atomic<UInt64>(0)
    private let upcastFailures = Atomic<UInt64>(0)
    private let isDrainingFlag = Atomic<Bool>(false)

    private let connectionsGauge: Gauge
    private let subscriptionsGauge: Gauge
    private let deliveredCounter: Counter
    private let appendedCounter: Counter
    private let snapshotsSkippedCounter: Counter
    private let upcastFailuresCounter: Counter
    private let callsCounter: Counter
    private let failedCallsCounter: Counter
    private let refusedConnectionsCounter: Counter
    private let evictedConnectionsCounter: Counter
    private let failedAcceptsCounter: Counter
    let consumers: ConsumerCounters
    let schedules: ScheduleCounters

    init(_ metrics: any MetricsFactory) {
        connectionsGauge = metrics.gauge(.connections)
        subscriptionsGauge = metrics.gauge(.subscriptions)
        deliveredCounter = metrics.counter(.eventsDelivered)
        appendedCounter = metrics.counter(.eventsAppended)
        snapshotsSkippedCounter = metrics.counter(.snapshotsSkipped)
        upcastFailuresCounter = metrics.counter(.upcastFailures)
        callsCounter = metrics.counter(.calls)
        failedCallsCounter = metrics.counter(.callsFailed)
        refusedConnectionsCounter = metrics.counter(.connectionsRefused)
        evictedConnectionsCounter = metrics.counter(.connectionsEvicted)
        failedAcceptsCounter = metrics.counter(.acceptsFailed)
        consumers = ConsumerCounters(metrics)
        schedules = ScheduleCounters(metrics)
    }

    var connectionCount: Int { connections.load(ordering: .relaxed) }
    var subscriptionCount: Int { subscriptions.load(ordering: .relaxed) }
    var deliveredEventCount: UInt64 { delivered.load(ordering: .relaxed) }
    var snapshotsSkippedCount: UInt64 { snapshotsSkipped.load(ordering: .relaxed) }
    var upcastFailureCount: UInt64 { upcastFailures.load(ordering: .relaxed) }
    var isDraining: Bool { isDrainingFlag.load(ordering: .relaxed) }

    func startDraining() { isDrainingFlag.store(true, ordering: .relaxed) }

    func connectionOpened() {
        connectionsGauge.record(connections.wrappingAdd(1, ordering: .relaxed).newValue)
    }

    func connectionClosed() {
        connectionsGauge.record(connections.wrappingSubtract(1, ordering: .relaxed).newValue)
    }

    func subscriptionOpened() {
        subscriptionsGauge.record(subscriptions.wrappingAdd(1, ordering: .relaxed).newValue)
    }

    func subscriptionClosed() {
        subscriptionsGauge.record(subscriptions.wrappingSubtract(1, ordering: .relaxed).newValue)
    }

    func deliver(_ count: Int) {
        guard count > 0 else { return }
        delivered.wrappingAdd(UInt64(count), ordering: .relaxed)
        deliveredCounter.increment(by: count)
    }

    func skipSnapshots(_ count: Int) {
        guard count > 0 else { return }
        snapshotsSkipped.wrappingAdd(UInt64(count), ordering: .relaxed)
        snapshotsSkippedCounter.increment(by: count)
    }

    func failUpcasts(_ count: Int) {
        upcastFailures.wrappingAdd(UInt64(count), ordering: .relaxed)
        upcastFailuresCounter.increment(by: count)
    }

    func append(_ count: Int) { appendedCounter.increment(by: count) }

    /// Counts what became of a change, or of an append that is refused, as far as anybody counts it.
    func count(_ outcome: WriteOutcome) {
        switch outcome {
        case .consumer(.unblocked(let count, let skipped)): consumers.unblock(count, skipped: skipped)
        case .checkpointRefused(.fenced): consumers.fenceAppend()
        case .schedules(.changed(let changed)):
            schedules.change(
                set: changed.count { $0 == .set || $0 == .moved }, cancelled: changed.count { $0 == .cancelled })
        default: break
        }
    }

    func callStarted() { callsCounter.increment() }

    func callFailed() { failedCallsCounter.increment() }

    func refuseConnection() { refusedConnectionsCounter.increment() }

    func evictConnection() { evictedConnectionsCounter.increment() }

    func failAccept() { failedAcceptsCounter.increment() }
}
