import MartletModel
import NIOConcurrencyHelpers

/// Counts what callers did. Spread over parts with a lock each, so that callers do not wait for one another.
final class Recorder: Sendable {
    /// What was counted over the whole measured time.
    struct Totals: Sendable {
        var latencies = Latencies()
        var calls: UInt64 = 0
        var events: UInt64 = 0
        var errors: [Reason: UInt64] = [:]
        /// When the last measured call ended.
        var lastEnd = Moment(nanoseconds: 0)

        mutating func add(_ other: Totals) {
            latencies.add(other.latencies)
            calls += other.calls
            events += other.events
            errors.merge(other.errors, uniquingKeysWith: +)
            lastEnd = max(lastEnd, other.lastEnd)
        }
    }

    /// What was counted since it was last asked for, warm-up included.
    struct Interval: Sendable {
        var latencies = IntervalLatencies()
        var calls: UInt64 = 0
        var events: UInt64 = 0
        var errors: UInt64 = 0

        mutating func add(_ other: Interval) {
            if !other.latencies.isEmpty { latencies.add(other.latencies) }
            calls += other.calls
            events += other.events
            errors += other.errors
        }

        mutating func reset() {
            if !latencies.isEmpty { latencies.reset() }
            (calls, events, errors) = (0, 0, 0)
        }
    }

    private struct Part: Sendable {
        var totals = Totals()
        var interval = Interval()
    }

    private let measureFrom: Moment
    private let parts: [NIOLockedValueBox<Part>]

    /// - Parameter measureFrom: calls that began, or were due, before are left out of the totals.
    init(callers: Int, measureFrom: Moment) {
        self.measureFrom = measureFrom
        parts = (0..<max(1, min(callers, 8))).map { _ in NIOLockedValueBox(Part()) }
    }

    /// A call succeeded.
    /// - Parameter begun: when it began; in an open loop, when it was due.
    func succeeded(caller: Int, begun: Moment, ended: Moment, events: Int) {
        let micros = ended.micros(since: begun)
        parts[caller % parts.count].withLockedValue { part in
            part.interval.latencies.record(micros)
            part.interval.calls += 1
            part.interval.events += UInt64(events)
            guard begun >= measureFrom else { return }
            part.totals.latencies.record(micros)
            part.totals.calls += 1
            part.totals.events += UInt64(events)
            part.totals.lastEnd = max(part.totals.lastEnd, ended)
        }
    }

    /// A call failed.
    func failed(caller: Int, begun: Moment, ended: Moment, reason: Reason, count: UInt64 = 1) {
        parts[caller % parts.count].withLockedValue { part in
            part.interval.errors += count
            guard begun >= measureFrom else { return }
            part.totals.errors[reason, default: 0] += count
            part.totals.lastEnd = max(part.totals.lastEnd, ended)
        }
    }

    /// The totals so far.
    func totals() -> Totals {
        parts.reduce(into: Totals()) { sum, part in sum.add(part.withLockedValue { $0.totals }) }
    }

    /// What came since the last call of this.
    func takeInterval() -> Interval {
        parts.reduce(into: Interval()) { sum, part in
            part.withLockedValue { part in
                sum.add(part.interval)
                part.interval.reset()
            }
        }
    }
}

extension Reason {
    /// Calls that were due and that no caller was free for until the run was given up.
    static let notStarted = Reason(rawValue: "NOT_STARTED")
    /// The load tester got another answer than it must.
    static let badAnswer = Reason(rawValue: "BAD_ANSWER")
}
