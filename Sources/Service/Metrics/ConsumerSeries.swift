import MartletModel
import Metrics

/// The gauges of one consumer, or of all that have none of their own.
struct ConsumerSeries {
    private let positionsBehind: Gauge
    private let oldestUnsettled: Gauge
    private let eventsInFlight: Gauge
    private let keysBlocked: Gauge
    private let workers: Gauge
    private let slots: Gauge
    private let slotsStopped: Gauge

    /// - Parameter consumer: nil for the rest, whose labels are no tenant's.
    init(of consumer: ConsumerID?, _ metrics: any MetricsFactory) {
        let labels = [
            ("tenant", consumer.map { "\($0.tenant)" } ?? "rest"),
            ("consumer", consumer.map { "\($0.name)" } ?? "rest"),
        ]
        positionsBehind = metrics.gauge(.consumerPositionsBehind, labels)
        oldestUnsettled = metrics.gauge(.consumerOldestUnsettled, labels)
        eventsInFlight = metrics.gauge(.consumerEventsInFlight, labels)
        keysBlocked = metrics.gauge(.consumerKeysBlocked, labels)
        workers = metrics.gauge(.consumerWorkers, labels)
        slots = metrics.gauge(.consumerSlots, labels)
        slotsStopped = metrics.gauge(.consumerSlotsStopped, labels)
    }

    func record(_ figures: ConsumerFigures) {
        positionsBehind.record(figures.positionsBehind)
        oldestUnsettled.record(Double(figures.oldestAgeMicros) / 1_000_000)
        eventsInFlight.record(figures.eventsInFlight)
        keysBlocked.record(figures.blockedKeys)
        workers.record(figures.workers)
        slots.record(figures.slots)
        slotsStopped.record(figures.stoppedSlots)
    }

    /// The metrics backend forgets them.
    func destroy() {
        for gauge in [
            positionsBehind, oldestUnsettled, eventsInFlight, keysBlocked, workers, slots, slotsStopped,
        ] { gauge.destroy() }
    }
}
