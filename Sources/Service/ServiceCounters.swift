import MartletModel
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

    private let connectionsGauge = Gauge(label: "martlet_connections")
    private let subscriptionsGauge = Gauge(label: "martlet_subscriptions")
    private let deliveredCounter = Counter(label: "martlet_events_delivered_total")
    private let appendedCounter = Counter(label: "martlet_events_appended_total")
    private let snapshotsSkippedCounter = Counter(label: "martlet_snapshots_skipped_total")
    private let upcastFailuresCounter = Counter(label: "martlet_upcast_failures_total")
    private let callsCounter = Counter(label: "martlet_calls_total")
    private let failedCallsCounter = Counter(label: "martlet_calls_failed_total")
    private let refusedConnectionsCounter = Counter(label: "martlet_connections_refused_total")
    private let evictedConnectionsCounter = Counter(label: "martlet_connections_evicted_total")
    private let failedAcceptsCounter = Counter(label: "martlet_accepts_failed_total")

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

    func callStarted() { callsCounter.increment() }

    func callFailed() { failedCallsCounter.increment() }

    func refuseConnection() { refusedConnectionsCounter.increment() }

    func evictConnection() { evictedConnectionsCounter.increment() }

    func failAccept() { failedAcceptsCounter.increment() }
}
