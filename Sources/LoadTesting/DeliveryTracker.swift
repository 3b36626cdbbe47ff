import MartletModel
import NIOConcurrencyHelpers
import Synchronization

/// Where every subscriber of a run stands, and how long deliveries took.
final class DeliveryTracker: Sendable {
    /// What was delivered since it was last asked for.
    struct Interval: Sendable {
        var latencies = IntervalLatencies()
        var deliveries: UInt64 = 0
    }

    fileprivate struct Part: Sendable {
        var latencies = Latencies()
        var commitLatencies = Latencies()
        var interval = Interval()
        var deliveries: UInt64 = 0
        var early: UInt64 = 0
        var lastDelivery = Moment(nanoseconds: 0)
    }

    /// How many subscribers there are.
    let subscribers: Int
    let acknowledgements: AcknowledgementTimes
    private let measuresLatency: Bool
    /// Deliveries of what was acknowledged before are left out of the totals.
    private let measureFromNanoseconds = Atomic<UInt64>(.max)
    /// The same by the clock that commit times are told by.
    private let measureFromWallMicros = Atomic<UInt64>(.max)
    private let positions: AtomicNumbers
    private let counts: AtomicNumbers
    private let live = Atomic<Int>(0)
    private let failed = Atomic<Int>(0)
    private let head = Atomic<UInt64>(0)
    private let breaks = NIOLockedValueBox<[Reason: UInt64]>([:])
    private let parts: [NIOLockedValueBox<Part>]

    /// - Parameters:
    ///   - start: where all subscribers begin.
    ///   - measuresLatency: false: all deliveries count, without a time.
    init(
        subscribers: Int, acknowledgements: AcknowledgementTimes, start: Position, measuresLatency: Bool = true
    ) {
        self.subscribers = subscribers
        self.acknowledgements = acknowledgements
        self.measuresLatency = measuresLatency
        positions = AtomicNumbers(count: subscribers)
        counts = AtomicNumbers(count: subscribers)
        for index in 0..<subscribers { positions[index] = start.rawValue }
        parts = (0..<max(1, min(subscribers, 8))).map { _ in NIOLockedValueBox(Part()) }
    }

    /// Subscribers that have caught up once.
    var liveCount: Int { live.load(ordering: .relaxed) }

    /// A subscriber has caught up for the first time.
    func wentLive() { live.wrappingAdd(1, ordering: .relaxed) }

    /// Subscribers that ended because something was not right.
    var failedCount: Int { failed.load(ordering: .relaxed) }

    /// A subscriber ended because something was not right.
    func subscriberFailed() { failed.wrappingAdd(1, ordering: .relaxed) }

    /// A subscription broke, and is taken up again.
    func broke(_ reason: Reason) { breaks.withLockedValue { $0[reason, default: 0] += 1 } }

    /// Begins to measure.
    func measure(from moment: Moment) {
        let ahead = moment.micros(since: .now())
        measureFromWallMicros.store(Self.wallMicros() + ahead, ordering: .relaxed)
        measureFromNanoseconds.store(moment.nanoseconds, ordering: .relaxed)
    }

    private static func wallMicros() -> UInt64 { UInt64(clamping: Timestamp.now().microseconds) }

    /// Position that subscribers are to reach, where nobody appends.
    func expect(_ position: UInt64) { head.store(position, ordering: .relaxed) }

    /// Where that subscriber stands.
    func position(of subscriber: Int) -> UInt64 { positions[subscriber] }

    /// What that subscriber was delivered.
    func count(of subscriber: Int) -> UInt64 { counts[subscriber] }

    /// Where the last one stands.
    var leastPosition: UInt64 { positions.least }

    /// What the one with the fewest events was delivered.
    var leastCount: UInt64 { counts.least }

    /// What all of them were delivered.
    var deliveredCount: UInt64 { (0..<subscribers).reduce(0) { $0 + counts[$1] } }

    /// How far the last one is behind, in events.
    var lagEvents: UInt64 {
        let to = max(acknowledgements.lastPosition, head.load(ordering: .relaxed))
        let least = leastPosition
        return to > least ? to - least : 0
    }

    /// A subscriber got events.
    func delivered(_ positions: PagePositions, to subscriber: Int, at now: Moment) {
        let nowMicros = now.micros(since: acknowledgements.start)
        let measureMicros = Moment(nanoseconds: measureFromNanoseconds.load(ordering: .relaxed))
            .micros(since: acknowledgements.start)
        let (wallNow, wallFrom) = (Self.wallMicros(), measureFromWallMicros.load(ordering: .relaxed))
        self.positions[subscriber] = positions.last
        counts.add(UInt64(positions.count), at: subscriber)
        parts[subscriber % parts.count].withLockedValue { part in
            part.interval.deliveries += UInt64(positions.count)
            guard measuresLatency else {
                part.deliveries += UInt64(positions.count)
                part.lastDelivery = max(part.lastDelivery, now)
                return
            }
            // Events of one append have one time: they are counted together.
            var run = Run(micros: 0, isEarly: false, count: 0)
            positions.forEach { position in
                let next: Run
                switch acknowledgements.time(of: position) {
                case .forgotten: return
                case .notYet:
                    guard nowMicros >= measureMicros else { return }
                    next = Run(micros: 0, isEarly: true, count: 1)
                case .at(let time):
                    guard time >= measureMicros else { return }
                    next = Run(micros: nowMicros > time ? nowMicros - time : 0, isEarly: false, count: 1)
                }
                if next.micros == run.micros, next.isEarly == run.isEarly {
                    run.count += 1
                } else {
                    part.add(run, at: now)
                    run = next
                }
            }
            part.add(run, at: now)
            for commit in positions.commits where commit.micros >= wallFrom {
                part.commitLatencies.record(
                    wallNow > commit.micros ? wallNow - commit.micros : 0, count: commit.count)
            }
        }
    }

    /// A subscriber has nothing to get up to there.
    func passed(_ position: UInt64, by subscriber: Int) {
        if position > positions[subscriber] { positions[subscriber] = position }
    }

    fileprivate struct Run {
        var micros: UInt64
        var isEarly: Bool
        var count: UInt64
    }

    /// What came since the last call of this.
    func takeInterval() -> Interval {
        parts.reduce(into: Interval()) { sum, part in
            part.withLockedValue { part in
                if !part.interval.latencies.isEmpty {
                    sum.latencies.add(part.interval.latencies)
                    part.interval.latencies.reset()
                }
                sum.deliveries += part.interval.deliveries
                part.interval.deliveries = 0
            }
        }
    }

    /// When the last delivery that counts came.
    var lastDelivery: Moment {
        parts.reduce(Moment(nanoseconds: 0)) { max($0, $1.withLockedValue { $0.lastDelivery }) }
    }

    /// Puts into a report what was delivered; its seconds must be known.
    func fill(_ report: inout RunReport) {
        var sum = Part()
        for part in parts {
            let part = part.withLockedValue { $0 }
            sum.latencies.add(part.latencies)
            sum.commitLatencies.add(part.commitLatencies)
            sum.deliveries += part.deliveries
            sum.early += part.early
        }
        report.deliveries = sum.deliveries
        report.deliveriesPerSecond = rounded(Double(sum.deliveries) / max(0.001, report.seconds))
        for (reason, count) in breaks.withLockedValue({ $0 }) { report.errors[reason.rawValue, default: 0] += count }
        guard measuresLatency else { return }
        report.deliveryLatency = sum.latencies.summary
        report.deliveryPercentiles = sum.latencies.curve
        report.commitToDeliveryLatency = sum.commitLatencies.summary
        if sum.deliveries > 0 {
            report.deliveriesBeforeAcknowledgement = rounded(Double(sum.early) / Double(sum.deliveries), digits: 6)
        }
    }
}

extension DeliveryTracker.Part {
    fileprivate mutating func add(_ run: DeliveryTracker.Run, at now: Moment) {
        guard run.count > 0 else { return }
        latencies.record(run.micros, count: run.count)
        interval.latencies.record(run.micros, count: UInt32(clamping: run.count))
        deliveries += run.count
        if run.isEarly { early += run.count }
        lastDelivery = max(lastDelivery, now)
    }
}
