import FoundationEssentials
import MartletConsumers
import MartletModel
import MartletRecordCodec
import MartletSubscriptions
import NIOCore

/// Tells the metrics of one worker. Used on its event loop.
///
/// Nothing is read for it: it looks at the slots that the worker has, and at the head that the tenant's feed knows.
final class WorkerMetrics {
    private let service: EventService
    private let id: ConsumerID
    private let session: UUID
    private var nextLook: NIODeadline
    private var hasBegun = false
    private var isOver = false
    /// The tenant's feed, while the worker has slots: its readings follow it, but a slot that has stopped takes part in none.
    private var feed: TenantFeed?

    init(_ service: EventService, _ id: ConsumerID, _ session: UUID, now: NIODeadline) {
        self.service = service
        self.id = id
        self.session = session
        nextLook = now + ConsumerGauges.interval
    }

    /// The worker has a place, so that its consumer is one that exists: before that its name is no label. More than once is
    /// once.
    func begin(now: NIODeadline) {
        guard !hasBegun, !isOver else { return }
        hasBegun = true
        service.consumerGauges.set(ConsumerFigures(workers: 1), of: session, id, now: now)
    }

    /// Whether the worker's slots are to be looked at.
    func isDue(_ now: NIODeadline) -> Bool { hasBegun && !isOver && now >= nextLook }

    /// Tells what has happened, and how the worker's slots are.
    func tell(_ counts: WorkerCounts, _ slots: WorkerSlots, _ runs: [SlotRun], now: SlotMachine.Moment) {
        nextLook = now.uptime + ConsumerGauges.interval
        service.counters.consumers.add(counts)
        follow(!slots.all.isEmpty)
        let figures = figures(of: slots, runs, now.time)
        // A reading that is looked at may find damage, which ends the call.
        if !isOver { service.consumerGauges.set(figures, of: session, id, now: now.uptime) }
    }

    /// The worker has left.
    func end(_ counts: WorkerCounts) {
        isOver = true
        service.counters.consumers.add(counts)
        follow(false)
        service.consumerGauges.remove(session, of: id)
    }

    private func follow(_ isWanted: Bool) {
        if isWanted, feed == nil { feed = service.hub.follow(id.tenant) }
        guard !isWanted, let feed else { return }
        if service.hub.unfollow(feed) { service.reads.forget(id.tenant) }
        self.feed = nil
    }

    /// The same as a description of the consumer tells, for the worker's slots, and by what is known rather than stored.
    private func figures(of slots: WorkerSlots, _ runs: [SlotRun], _ time: Timestamp) -> ConsumerFigures {
        var figures = ConsumerFigures(workers: 1, slots: slots.all.count)
        var oldest: Timestamp?
        // Up to where readings have nothing left to deliver.
        var ends: [ObjectIdentifier: Position] = [:]
        for run in runs {
            guard let slot = run.next?.slot, let (next, _) = run.nextEvent() else {
                ends[ObjectIdentifier(run)] = run.position
                continue
            }
            // It was read and not delivered, unless its slot has had it from another reading, or passes it over. What of the
            // events behind it is passed over too is not looked at.
            guard slot.machine.readTo.position < next.position,
                !slot.machine.hasBlockedKeys || slot.machine.progress.blocked[next.key] == nil
            else {
                ends[ObjectIdentifier(run)] = next.position
                continue
            }
            ends[ObjectIdentifier(run)] = next.position.previous
            oldest = min(oldest ?? next.recordedAt, next.recordedAt)
        }
        let head = feed?.head.position ?? .start
        var settledTo = head
        for slot in slots.all.values {
            figures.eventsInFlight += slot.machine.underWayCount
            figures.blockedKeys += slot.machine.blockedKeyCount
            if slot.stopReason != nil { figures.stoppedSlots += 1 }
            if let first = slot.machine.oldest {
                settledTo = min(settledTo, first.place.position.previous)
                oldest = min(oldest ?? first.recordedAt, first.recordedAt)
            } else {
                let end = slot.run.flatMap { ends[ObjectIdentifier($0)] } ?? .start
                settledTo = min(settledTo, max(slot.machine.readTo.position, end))
            }
        }
        figures.positionsBehind = head.rawValue - settledTo.rawValue
        if let oldest { figures.oldestAgeMicros = max(0, time.microseconds - oldest.microseconds) }
        return figures
    }
}

extension Position {
    /// The one before it.
    fileprivate var previous: Position { Position(rawValue - min(1, rawValue)) }
}
