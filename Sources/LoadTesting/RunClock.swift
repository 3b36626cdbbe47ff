import NIOCore

/// A moment of the monotonic clock that a run is measured by, in nanoseconds.
struct Moment: Hashable, Comparable, Sendable {
    var nanoseconds: UInt64

    static func now() -> Moment { Moment(nanoseconds: NIODeadline.now().uptimeNanoseconds) }

    /// Microseconds from `earlier` to here; 0 where it was later.
    func micros(since earlier: Moment) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? (nanoseconds - earlier.nanoseconds) / 1_000 : 0
    }

    /// Seconds from `earlier` to here; 0 where it was later.
    func seconds(since earlier: Moment) -> Double {
        nanoseconds > earlier.nanoseconds ? Double(nanoseconds - earlier.nanoseconds) / 1e9 : 0
    }

    static func + (moment: Moment, seconds: Double) -> Moment {
        Moment(nanoseconds: moment.nanoseconds + UInt64(max(0, seconds) * 1e9))
    }

    static func < (a: Moment, b: Moment) -> Bool { a.nanoseconds < b.nanoseconds }
}

/// When a run warms up, is measured, and ends.
struct RunWindow: Hashable, Sendable {
    /// Calls begin here.
    var start: Moment
    /// What begins before is warm-up and left out of the figures.
    var measureFrom: Moment
    /// No call begins, or is due, from here on.
    var end: Moment

    init(from start: Moment, warmup: Double, seconds: Double) {
        self.start = start
        measureFrom = start + warmup
        end = measureFrom + seconds
    }

    /// Waits until then; returns at once where it has passed.
    /// - Throws: `CancellationError`.
    static func sleep(until moment: Moment) async throws {
        let now = Moment.now()
        guard moment > now else { return }
        try await Task.sleep(for: .nanoseconds(moment.nanoseconds - now.nanoseconds), tolerance: .zero)
    }
}
