import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// Appends and loads by the same clients, in shares, while subscribers follow.
public struct MixedWorkload: Sendable {
    /// What all workloads have.
    public var settings: RunSettings
    /// Appends, in percent of the calls; the others are loads.
    public var appendPercent = 50
    /// Events of one append.
    public var batch = 1
    /// Aggregates to load, which are written before.
    public var aggregates = 100
    /// Events of each.
    public var events = 100
    /// Subscribers that follow the tenant; they share the connections with the clients.
    public var subscribers = 10

    /// A mixture with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        try settings.validate()
        try require("--append-percent", appendPercent, in: 1...100)
        try require("--batch", batch, in: 1...100_000)
        try require("--aggregates", aggregates, in: 1...10_000_000)
        try require("--events", events, in: 1...100_000_000)
        try require("--subscribers", subscribers, in: 0...1_000_000)
        let tenant = RunTenants(settings.tenant, count: 1).first
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: settings.payloadBytes)
        return try await target.withClients(settings.connectionCount + 1) { clients in
            let control = clients[clients.count - 1]
            try await control.checkFits(batch: batch, template: template)
            var maker = EventMaker([template])
            let names = (0..<aggregates).map { _ in AggregateName(type: BenchNames.aggregateType, id: maker.id()) }
            try await HistoryMaker(tenant: tenant, templates: [template], onProgress: settings.onWritten)
                .fill(names, events: events, client: control)
            return try await run(Array(clients.dropLast()), control: control, tenant, template, names)
        }
    }

    private func run(
        _ clients: [MartletClient], control: MartletClient, _ tenant: TenantID, _ template: EventTemplate,
        _ names: [AggregateName]
    ) async throws -> RunReport {
        let count = try await TenantCount([tenant], client: control)
        let start = try await control.head(of: tenant).position
        let board = DeliveryTracker(
            subscribers: max(1, subscribers), acknowledgements: AcknowledgementTimes(from: .now()), start: start)
        let fleet = SubscriberFleet(
            subscribers: (0..<subscribers).map { index in
                Subscriber(
                    index: index, client: clients[index % clients.count],
                    request: SubscribeRequest(tenant: tenant, upcasting: .raw),
                    windowBytes: SubscribeWorkload.windowBytes(max(1, subscribers)), board: board)
            }, board: board)
        let shares = CallShares()
        let callers = (0..<settings.clients).map { index in
            MixedCaller(
                append: AppendCaller(
                    client: clients[index % clients.count], tenant: tenant, batch: batch,
                    maker: EventMaker([template]), acknowledgements: board.acknowledgements),
                load: LoadCaller(
                    client: clients[index % clients.count], tenant: tenant, aggregates: names, events: events),
                appendPercent: appendPercent, shares: shares)
        }
        let (measured, failures) = try await fleet.following(from: start) {
            try await fleet.live()
            let window = RunWindow(from: .now() + 0.05, warmup: settings.warmupSeconds, seconds: settings.seconds)
            board.measure(from: window.measureFrom)
            shares.measure(from: window.measureFrom)
            let monitor = RunMonitor(
                "mixed", settings, window: window, callers: callers.count, control: control,
                deliveries: subscribers > 0 ? board : nil)
            let done = try await monitor.watching {
                let done = try await monitor.loop.run(callers)
                let last = board.acknowledgements.lastPosition
                if subscribers > 0 { _ = try await fleet.wait { board.leastPosition >= last } }
                return done
            }
            return (monitor, done)
        }
        let (monitor, done) = measured
        var report = RunReport(workload: "mixed", parameters: parameters)
        monitor.fill(&report)
        report.shares = shares.report
        report.failures += failures.prefix(5)
        let badAnswers = report.errors[Reason.badAnswer.rawValue] ?? 0
        if badAnswers > 0 { report.failures.append("\(badAnswers) calls returned wrong events") }
        try await count.verify(callers: done.map(\.append), client: control, &report)
        report.verified["loaded"] = done.reduce(0) { $0 + $1.load.loaded }
        if subscribers > 0 { board.verify(appends: done.map(\.append), filter: .all, &report) }
        return report
    }

    private var parameters: [String: ParameterValue] {
        settings.parameters.merging(
            [
                "append-percent": .int(appendPercent), "batch": .int(batch), "aggregates": .int(aggregates),
                "events": .int(events), "subscribers": .int(subscribers),
            ]
        ) { $1 }
    }
}

/// A client that appends or loads at each call, by chance.
private struct MixedCaller: Caller {
    var append: AppendCaller
    var load: LoadCaller
    let appendPercent: Int
    let shares: CallShares
    var executor: any TaskExecutor { append.executor }
    private var random = FastRandom()

    init(append: AppendCaller, load: LoadCaller, appendPercent: Int, shares: CallShares) {
        self.append = append
        self.load = load
        self.appendPercent = appendPercent
        self.shares = shares
    }

    mutating func call() async throws(MartletError) -> Int {
        let begun = Moment.now()
        guard Int.random(in: 0..<100, using: &random) < appendPercent else {
            let events = try await load.call()
            shares.succeeded("load", begun: begun, events: events)
            return events
        }
        let events = try await append.call()
        shares.succeeded("append", begun: begun, events: events)
        return events
    }
}

/// The figures of each kind of call. Their times count from the beginning of a call, in an open loop too.
private final class CallShares: Sendable {
    private struct Share: Sendable {
        var latencies = Latencies()
        var events: UInt64 = 0
    }

    private struct State: Sendable {
        var measureFrom = Moment(nanoseconds: .max)
        var shares: [String: Share] = [:]
    }

    private let state = NIOLockedValueBox(State())

    func measure(from moment: Moment) { state.withLockedValue { $0.measureFrom = moment } }

    func succeeded(_ name: String, begun: Moment, events: Int) {
        let micros = Moment.now().micros(since: begun)
        state.withLockedValue { state in
            guard begun >= state.measureFrom else { return }
            state.shares[name, default: Share()].latencies.record(micros)
            state.shares[name, default: Share()].events += UInt64(events)
        }
    }

    var report: [String: RunReport.Share] {
        state.withLockedValue { $0.shares }.mapValues { share in
            RunReport.Share(calls: share.latencies.count, events: share.events, latency: share.latencies.summary)
        }
    }
}
