/// Waiting times between tries: exponential, with full jitter, so that many clients that lost one server do not come
/// back all at once.
public struct Backoff: Hashable, Sendable {
    /// The first wait is at most this.
    public var initial: Duration
    /// No wait is longer.
    public var max: Duration
    /// Each wait may be this many times as long as the one before.
    public var multiplier: Double

    /// A backoff of those parts.
    public init(initial: Duration = .milliseconds(50), max: Duration = .seconds(5), multiplier: Double = 2) {
        self.initial = initial
        self.max = max
        self.multiplier = multiplier
    }

    /// The longest wait after this many failures.
    public func bound(afterFailures count: Int) -> Duration {
        var bound = initial
        for _ in 1..<Swift.max(1, Swift.min(count, 64)) where bound < max { bound = scaled(bound, by: multiplier) }
        return Swift.min(bound, max)
    }

    /// The wait after this many failures.
    /// - Parameter random: from 0 up to 1.
    public func delay(afterFailures count: Int, random: Double) -> Duration {
        scaled(bound(afterFailures: count), by: random)
    }

    private func scaled(_ duration: Duration, by factor: Double) -> Duration {
        .seconds(duration / .seconds(1) * factor)
    }
}
