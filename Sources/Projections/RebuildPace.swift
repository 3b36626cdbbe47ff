public import MartletModel

/// How far a rebuild has come.
public struct RebuildProgress: Hashable, Sendable {
    /// The number of the generation that is being built.
    public var generation: Int64
    /// The tenant whose events it is taking in; of a read model over many, they come one after the other.
    public var tenant: TenantID
    /// All events of the tenant up to there are in it, but for those of keys that are passed over.
    public var position: UInt64
    /// The tenant's last position, as of the last read.
    public var end: UInt64
    /// Events that this call has taken in.
    public var events: UInt64
    /// Of these, in a second, since the call began.
    public var eventsPerSecond: Double
    /// How long it takes to come to the end of all tenants at the pace so far; nil before anything was taken in.
    public var timeLeft: Duration?
}

/// Measures a rebuild, and slows it down.
struct RebuildPace: Sendable {
    private let elapsed: @Sendable () -> Duration
    private let sleep: @Sendable (Duration) async throws -> Void
    private let eventsPerSecondMax: Double?
    private let timeShare: Double
    /// A tenant's positions.
    private struct Way {
        var (start, position, end): (UInt64, UInt64, UInt64)
    }

    private var ways: [TenantID: Way] = [:]
    /// Of all tenants.
    private var (passed, left): (UInt64, UInt64) = (0, 0)
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

    /// Notes what there is to do of a tenant, before any of it is taken in.
    mutating func expect(_ tenant: TenantID, from place: Position, to head: Position) {
        let end = max(place, head).rawValue
        ways[tenant] = Way(start: place.rawValue, position: place.rawValue, end: end)
        left += end - place.rawValue
    }

    mutating func progress<Database: ProjectionDatabase>(
        _ builder: GenerationBuilder<Database>, at position: Position, end: Position, events count: Int
    ) -> RebuildProgress {
        let (position, end) = (position.rawValue, max(end, position).rawValue)
        let old = ways[builder.tenant] ?? Way(start: position, position: position, end: position)
        let way = Way(start: old.start, position: max(old.position, position), end: end)
        ways[builder.tenant] = way
        passed += way.position - old.position
        left = left + (end - min(end, way.position)) - (old.end - min(old.end, old.position))
        events += UInt64(count)
        let seconds = now / .seconds(1)
        return RebuildProgress(
            generation: builder.generation.number ?? 0, tenant: builder.tenant, position: way.position, end: way.end,
            events: events, eventsPerSecond: seconds > 0 ? Double(events) / seconds : 0,
            timeLeft: passed > 0 ? now * (Double(left) / Double(passed)) : nil)
    }
}
