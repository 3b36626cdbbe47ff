import MartletClient
import MartletModel

/// Loads of whole aggregates, which are written before.
public struct LoadWorkload: Sendable {
    /// What all workloads have.
    public var settings: RunSettings
    /// Aggregates to choose from at each call.
    public var aggregates = 100
    /// Events of each.
    public var events = 100

    /// Loads with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        try settings.validate()
        try require("--aggregates", aggregates, in: 1...10_000_000)
        try require("--events", events, in: 1...100_000_000)
        let tenant = RunTenants(settings.tenant, count: 1).first
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: settings.payloadBytes)
        return try await target.withClients(settings.connectionCount + 1) { clients in
            let control = clients[clients.count - 1]
            var maker = EventMaker([template])
            let names = (0..<aggregates).map { _ in AggregateName(type: BenchNames.aggregateType, id: maker.id()) }
            try await HistoryMaker(tenant: tenant, templates: [template], onProgress: settings.onWritten)
                .fill(names, events: events, client: control)
            let callers = (0..<settings.clients).map { index in
                LoadCaller(
                    client: clients[index % (clients.count - 1)], tenant: tenant, aggregates: names, events: events)
            }
            var (report, done) = try await settings.measure("load", callers, control: control, parameters)
            report.verified["loaded"] = done.reduce(0) { $0 + $1.loaded }
            return report
        }
    }

    private var parameters: [String: ParameterValue] {
        settings.parameters.merging(["aggregates": .int(aggregates), "events": .int(events)]) { $1 }
    }
}

/// Reads of a whole history by position, which is written before.
public struct ReadWorkload: Sendable {
    /// What all workloads have.
    public var settings: RunSettings
    /// Events of the history.
    public var history = 100_000

    /// Reads with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it. Each client reads the history at least once, however long that takes.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        try settings.validate()
        try require("--history", history, in: 1...1_000_000_000)
        let tenant = RunTenants(settings.tenant, count: 1).first
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: settings.payloadBytes)
        return try await target.withClients(settings.connectionCount + 1) { clients in
            let control = clients[clients.count - 1]
            let before = try await control.head(of: tenant).position
            try await HistoryMaker(tenant: tenant, templates: [template], onProgress: settings.onWritten)
                .fill(history: history, client: control)
            let callers = (0..<settings.clients).map { index in
                ReadCaller(
                    client: clients[index % (clients.count - 1)], tenant: tenant, after: before, events: history)
            }
            var (report, done) = try await settings.measure("read", callers, control: control, parameters)
            report.verified["completeReads"] = done.reduce(0) { $0 + $1.complete }
            report.verified["history"] = UInt64(history)
            return report
        }
    }

    private var parameters: [String: ParameterValue] {
        settings.parameters.merging(["history": .int(history)]) { $1 }
    }
}

extension RunSettings {
    /// Lets callers call, and reports what was measured.
    func measure<C: Caller>(
        _ workload: String, _ callers: [C], control: MartletClient, _ parameters: [String: ParameterValue]
    ) async throws -> (RunReport, [C]) {
        let window = RunWindow(from: .now() + 0.05, warmup: warmupSeconds, seconds: seconds)
        let monitor = RunMonitor(workload, self, window: window, callers: callers.count, control: control)
        let done = try await monitor.watching { try await monitor.loop.run(callers) }
        var report = RunReport(workload: workload, parameters: parameters)
        monitor.fill(&report)
        let badAnswers = report.errors[Reason.badAnswer.rawValue] ?? 0
        if badAnswers > 0 { report.failures.append("\(badAnswers) calls returned wrong events") }
        return (report, done)
    }
}
