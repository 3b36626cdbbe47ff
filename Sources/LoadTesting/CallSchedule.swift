import Synchronization

/// Hands out calls that are due at fixed times, whatever became of the calls before: the open loop.
///
/// A caller that is late takes the oldest call that is due, and its latency counts from when it was due. So a server
/// that stalls shows in the times of all calls that were due meanwhile.
final class CallSchedule: Sendable {
    private let taken = Atomic<UInt64>(0)
    private let window: RunWindow
    private let callsPerSecond: Double
    /// How many calls are due in all.
    let count: UInt64

    init(window: RunWindow, callsPerSecond: Double) {
        self.window = window
        self.callsPerSecond = callsPerSecond
        count = UInt64((window.end.seconds(since: window.start) * callsPerSecond).rounded(.up))
    }

    /// When the next call is due; nil when there are no more.
    func next() -> Moment? {
        let number = taken.wrappingAdd(1, ordering: .relaxed).oldValue
        return number < count ? due(number) : nil
    }

    /// When that call is due.
    func due(_ number: UInt64) -> Moment { window.start + Double(number) / callsPerSecond }

    /// Calls that are due and that no caller has taken.
    func backlog(at now: Moment) -> UInt64 {
        let due = min(count, UInt64(now.seconds(since: window.start) * callsPerSecond))
        let taken = taken.load(ordering: .relaxed)
        return due > taken ? due - taken : 0
    }
}
