/// How far a rebuild has come.
public struct RebuildProgress: Hashable, Sendable {
    /// The number of the generation that is being built.
    public var generation: Int64
    /// All events up to there are in it, but for those of keys that are passed over.
    public var position: UInt64
    /// The tenant's last position, as of the last read.
    public var end: UInt64
    /// Events that this call has taken in.
    public var events: UInt64
    /// Of these, in a second, since the call began.
    public var eventsPerSecond: Double
    /// How long it takes to come to ``end`` at the pace so far; nil before anything was taken in.
    public var timeLeft: Duration?
}

/// Measures a rebuild, and slows it down.
struct RebuildPace: Sendable {
    private let elapsed: @Sendable () -> Duration
    private let sleep: @Sendable (Duration) async throws -> Void
    private let eventsPerSecondMax: Double?
    private let timeShare: Double
    private var start: UInt64?
    private(set) var events: UInt64 = 0

    init<Time: _Concurrency.Clock<Duration>>(_ clock: Time, eventsPerSecondMax: Double?, timeShare: Double) {
        let began = clock.now
        elapsed = { began.duration(to: clock.now) }
        sleep = { try await clock.sleep(for: $0) }
        self.eventsPerSecondMax = eventsPerSecondMax
        self.timeShare = min(1, max(0.001, timeShare))
    }

    var now: Duration { elapsed() }

    /// Pauses after events that were taken in since `began`.
    func rest(events: Int, began: Duration) async throws {
        let worked = now - began
        var whole = worked / timeShare
        if let eventsPerSecondMax, eventsPerSecondMax > 0 {
            whole = max(whole, .seconds(Double(events) / eventsPerSecondMax))
        }
        if whole > worked { try await sleep(whole - worked) }
    }

    func pause(_ time: Duration) async throws { try await sleep(time) }

    mutating func progress(
        _ generation: ProjectionGeneration, from: UInt64, to position: UInt64, end: UInt64, events count: Int
    )
        -> RebuildProgress
    {
        let start = start ?? from
        self.start = start
        events += UInt64(count)
        let seconds = now / .seconds(1)
        let end = max(end, position)
        return RebuildProgress(
            generation: generation.number ?? 0, position: position, end: end, events: events,
            eventsPerSecond: seconds > 0 ? Double(events) / seconds : 0,
            timeLeft: position > start ? now * (Double(end - position) / Double(position - start)) : nil)
    }
}
