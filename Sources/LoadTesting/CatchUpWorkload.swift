import MartletClient
import MartletModel

/// Subscribers that begin at the beginning of a history, which is written before: how long until each has caught up.
public struct CatchUpWorkload: Sendable {
    /// What all workloads have; its rate, clients and seconds are not looked at.
    public var settings: RunSettings
    /// Subscribers, each following the whole tenant.
    public var subscribers = 1
    /// Events of the history.
    public var history = 100_000

    /// Catching up with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        var settings = settings
        (settings.callsPerSecond, settings.warmupSeconds) = (nil, 0)
        settings.clients = subscribers
        try settings.validate()
        try require("--subscribers", subscribers, in: 1...100_000)
        try require("--history", history, in: 1...1_000_000_000)
        let tenant = RunTenants(settings.tenant, count: 1).first
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: settings.payloadBytes)
        let parameters: [String: ParameterValue] = [
            "subscribers": .int(subscribers), "connections": .int(settings.connectionCount),
            "history": .int(history), "payload": .int(settings.payloadBytes),
            "window": .int(SubscribeWorkload.windowBytes(subscribers)),
        ]
        return try await target.withClients(settings.connectionCount + 1) { [settings] clients in
            try await run(
                Array(clients.dropLast()), control: clients[clients.count - 1], tenant, template, settings, parameters)
        }
    }

    private func run(
        _ clients: [MartletClient], control: MartletClient, _ tenant: TenantID, _ template: EventTemplate,
        _ settings: RunSettings, _ parameters: [String: ParameterValue]
    ) async throws -> RunReport {
        let start = try await control.head(of: tenant).position
        try await HistoryMaker(tenant: tenant, templates: [template], onProgress: settings.onWritten).fill(
            history: history, client: control)
        let end = start.rawValue + UInt64(history)
        let window = RunWindow(from: .now(), warmup: 0, seconds: 1e6)
        let board = DeliveryTracker(
            subscribers: subscribers, acknowledgements: AcknowledgementTimes(from: window.start, capacity: 1),
            start: start, measuresLatency: false)
        board.measure(from: window.measureFrom)
        board.expect(end)
        let monitor = RunMonitor(
            "catch-up", settings, window: window, callers: subscribers, control: control, deliveries: board)
        let request = SubscribeRequest(tenant: tenant, upcasting: .raw)
        let failures = try await monitor.watching {
            try await withThrowingTaskGroup(of: Subscriber.End.self) { group in
                for index in 0..<subscribers {
                    let subscriber = Subscriber(
                        index: index, client: clients[index % clients.count], request: request,
                        windowBytes: SubscribeWorkload.windowBytes(subscribers), board: board, until: end)
                    group.addTask(executorPreference: subscriber.client.taskExecutor) {
                        let begun = Moment.now()
                        let end = await subscriber.run(from: start)
                        if end == .reached {
                            monitor.recorder.succeeded(caller: index, begun: begun, ended: .now(), events: history)
                        }
                        return end
                    }
                }
                return try await group.reduce(into: [String]()) { failures, end in
                    if case .failed(let why) = end { failures.append(why) }
                }
            }
        }
        var report = RunReport(workload: "catch-up", parameters: parameters)
        monitor.fill(&report)
        report.failures += failures.sorted().prefix(5)
        report.verified["history"] = UInt64(history)
        board.verify(matching: UInt64(history), unknown: 0, upTo: end, &report)
        return report
    }
}
