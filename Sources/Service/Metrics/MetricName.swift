import Metrics

/// Every metric of the server, under the name that a metrics backend gets. Docs/OPERATIONS.md describes each.
enum MetricName: String, CaseIterable {
    case connections = "martlet_connections"
    case connectionsRefused = "martlet_connections_refused_total"
    case connectionsEvicted = "martlet_connections_evicted_total"
    case acceptsFailed = "martlet_accepts_failed_total"
    case certificateSecondsLeft = "martlet_certificate_seconds_left"
    case subscriptions = "martlet_subscriptions"
    case eventsAppended = "martlet_events_appended_total"
    case eventsDelivered = "martlet_events_delivered_total"
    case snapshotsSkipped = "martlet_snapshots_skipped_total"
    case upcastFailures = "martlet_upcast_failures_total"
    case calls = "martlet_calls_total"
    case callsFailed = "martlet_calls_failed_total"

    // Of all consumers together.
    case consumerEventsDelivered = "martlet_consumer_events_delivered_total"
    case consumerEventsRedelivered = "martlet_consumer_events_redelivered_total"
    case consumerEventsAcknowledged = "martlet_consumer_events_acknowledged_total"
    case consumerEventsRejected = "martlet_consumer_events_rejected_total"
    case consumerEventsTimedOut = "martlet_consumer_events_timed_out_total"
    case consumerKeysParked = "martlet_consumer_keys_parked_total"
    case consumerKeysRetried = "martlet_consumer_keys_retried_total"
    case consumerKeysSkipped = "martlet_consumer_keys_skipped_total"
    case consumerSlotsAssigned = "martlet_consumer_slots_assigned_total"
    case consumerSlotsLost = "martlet_consumer_slots_lost_total"
    case consumerFenced = "martlet_consumer_fenced_total"
    case consumersInRest = "martlet_consumers_in_rest"

    // Of each consumer: see ``ConsumerGauges``.
    case consumerPositionsBehind = "martlet_consumer_positions_behind"
    case consumerOldestUnsettled = "martlet_consumer_oldest_unsettled_seconds"
    case consumerEventsInFlight = "martlet_consumer_events_in_flight"
    case consumerKeysBlocked = "martlet_consumer_keys_blocked"
    case consumerWorkers = "martlet_consumer_workers"
    case consumerSlots = "martlet_consumer_slots"
    case consumerSlotsStopped = "martlet_consumer_slots_stopped"

    case schedulesSet = "martlet_schedules_set_total"
    case schedulesCancelled = "martlet_schedules_cancelled_total"
    case schedulesFired = "martlet_schedules_fired_total"
    case schedulesParked = "martlet_schedules_parked_total"
    case scheduleLateness = "martlet_schedule_lateness_seconds"
}

extension MetricsFactory {
    func counter(_ name: MetricName, kind: String? = nil) -> Counter {
        Counter(label: name.rawValue, dimensions: kind.map { [("kind", $0)] } ?? [], factory: self)
    }

    func gauge(_ name: MetricName, _ labels: [(String, String)] = []) -> Gauge {
        Gauge(label: name.rawValue, dimensions: labels, factory: self)
    }
}
