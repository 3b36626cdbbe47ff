import Histogram

/// Times in microseconds, counted with three significant digits (HDR histogram).
public struct Latencies: Sendable {
    private(set) var histogram = Histogram<UInt64>(numberOfSignificantValueDigits: .three)

    /// No times.
    public init() {}

    /// Counts a time.
    public mutating func record(_ micros: UInt64, count: UInt64 = 1) { histogram.record(micros, count: count) }

    /// Adds the times of another.
    public mutating func add(_ other: Latencies) { histogram.add(other.histogram) }

    /// How many.
    public var count: UInt64 { histogram.totalCount }

    /// The time that this percentage took at most; 0 without times.
    public func micros(atPercentile percentile: Double) -> UInt64 { histogram.valueAtPercentile(percentile) }

    /// The percentiles that a report names.
    public var summary: LatencySummary {
        guard count > 0 else { return LatencySummary() }
        return LatencySummary(
            p50: micros(atPercentile: 50), p75: micros(atPercentile: 75), p90: micros(atPercentile: 90),
            p95: micros(atPercentile: 95), p99: micros(atPercentile: 99), p999: micros(atPercentile: 99.9),
            p9999: micros(atPercentile: 99.99), max: histogram.maxRecorded, mean: rounded(histogram.mean),
            count: count)
    }

    /// Pairs of percentile and microseconds for a plot, up to the percentile that one single time stands for.
    public var curve: [[Double]] {
        guard count > 0 else { return [] }
        var percentiles = [0.0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90]
        var rest = 10.0
        while rest > 100 / Double(count), percentiles.count < 40 {
            for share in [0.75, 0.5, 0.25, 0.1] { percentiles.append(rounded(100 - rest * share, digits: 7)) }
            rest /= 10
        }
        percentiles.append(100)
        return percentiles.map { [$0, Double(micros(atPercentile: $0))] }
    }
}

/// Times of one second, coarse and small: for the progress line and the course of a run.
struct IntervalLatencies: Sendable {
    private var histogram = Histogram<UInt32>(numberOfSignificantValueDigits: .two)

    mutating func record(_ micros: UInt64, count: UInt32 = 1) { histogram.record(micros, count: count) }

    mutating func add(_ other: IntervalLatencies) { histogram.add(other.histogram) }

    mutating func reset() { histogram.reset() }

    var isEmpty: Bool { histogram.totalCount == 0 }

    var p99: UInt64 { histogram.totalCount == 0 ? 0 : histogram.valueAtPercentile(99) }
}

/// A figure with no more digits than a reader needs.
func rounded(_ value: Double, digits: Int = 3) -> Double {
    guard value.isFinite else { return 0 }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    return (value * scale).rounded() / scale
}
