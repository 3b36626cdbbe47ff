import MartletClient
public import MartletModel
import NIOCore

/// Events that are appended while many subscribers follow, and how long each takes to reach each of them.
public struct SubscribeWorkload: Sendable {
    /// Bytes that all subscribers together may hold, where each has its own window.
    private static let windowsBytesMax = 512 << 20
    private static let windowBytesMin = 64 << 10

    /// What all workloads have: its clients are those that append, ``RunSettings/connections`` the subscribers'
    /// connections, and the rate is set by ``eventsPerSecond``.
    public var settings: RunSettings
    /// Subscribers, each following the whole tenant.
    public var subscribers = 100
    /// Events appended per second by all clients together; 0: as fast as possible.
    public var eventsPerSecond = 1_000.0
    /// Events of one append.
    public var batch = 1
    /// What subscribers ask for. Where it is not empty, events are written in equal shares under
    /// ``BenchNames/aggregateTypes`` and ``BenchNames/eventTypes``.
    public var filter = EventFilter.all
    /// Steps that an upcaster of the tenant takes with each event that is delivered; 0: events come as they are stored.
    public var upcastSteps = 0

    /// Subscriptions with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        var settings = settings
        try require("--subscribers", subscribers, in: 1...1_000_000)
        try require("--batch", batch, in: 1...100_000)
        guard eventsPerSecond >= 0 else {
            throw BenchFailure("--rate is \(eventsPerSecond): give events per second, or 0 for full speed")
        }
        try filter.checkWritten()
        try require("--upcast-steps", upcastSteps, in: 0...100)
        if eventsPerSecond > 0 { settings.callsPerSecond = eventsPerSecond / Double(batch) }
        let connections = min(settings.connections ?? 1, subscribers)
        settings.connections = nil
        try settings.validate()
        let (writerConnections, tenant) = (min(settings.clients, 8), RunTenants(settings.tenant, count: 1).first)
        let templates = try filter.templates(payloadBytes: settings.payloadBytes)
        let windowBytes = Self.windowBytes(subscribers)
        var parameters = settings.parameters
        parameters.merge(
            [
                "subscribers": .int(subscribers), "connections": .int(connections), "batch": .int(batch),
                "writerConnections": .int(writerConnections), "rate": .double(eventsPerSecond),
                "window": .int(windowBytes), "filter": .text(filter.text), "upcastSteps": .int(upcastSteps),
            ]
        ) { $1 }
        let run: @Sendable ([MartletClient], [MartletClient]) async throws -> RunReport = {
            [self, settings, parameters] readers, writers in
            try await self.run(
                readers, writers, tenant: tenant, templates, settings, windowBytes: windowBytes, parameters)
        }
        return try await target.withClients(connections) { readers in
            try await target.withClients(writerConnections + 1) { try await run(readers, $0) }
        }
    }

    private func run(
        _ readers: [MartletClient], _ writers: [MartletClient], tenant: TenantID, _ templates: [EventTemplate],
        _ settings: RunSettings, windowBytes: Int, _ parameters: [String: ParameterValue]
    ) async throws -> RunReport {
        let control = writers[writers.count - 1]
        try await control.checkFits(batch: batch, template: templates[0])
        let count = try await TenantCount([tenant], client: control)
        let start = try await control.head(of: tenant).position
        let board = DeliveryTracker(
            subscribers: subscribers, acknowledgements: AcknowledgementTimes(from: .now()), start: start)
        if upcastSteps > 0 {
            let definition = BenchNames.upcasters(of: templates.map(\.type), steps: upcastSteps)
            try await control.putSettings(
                PutSettingsRequest(tenant: tenant, kind: .upcasters, document: ByteBuffer(string: definition)))
        }
        let request = SubscribeRequest(
            tenant: tenant, filter: filter, upcasting: upcastSteps > 0 ? UpcastingOptions() : .raw)
        let fleet = SubscriberFleet(
            subscribers: (0..<subscribers).map { index in
                Subscriber(
                    index: index, client: readers[index % readers.count], request: request, windowBytes: windowBytes,
                    board: board)
            }, board: board)
        let callers = (0..<settings.clients).map { index in
            AppendCaller(
                client: writers[index % (writers.count - 1)], tenant: tenant, batch: batch,
                type: filter.isEmpty
                    ? BenchNames.aggregateType : BenchNames.aggregateTypes[index % BenchNames.aggregateTypes.count],
                maker: EventMaker(templates), acknowledgements: board.acknowledgements, filter: filter)
        }
        let (measured, failures) = try await fleet.following(from: start) {
            try await fleet.live()
            let window = RunWindow(from: .now() + 0.05, warmup: settings.warmupSeconds, seconds: settings.seconds)
            board.measure(from: window.measureFrom)
            let monitor = RunMonitor(
                "subscribe", settings, window: window, callers: callers.count, control: control, deliveries: board)
            let done = try await monitor.watching {
                let done = try await monitor.loop.run(callers)
                let (matching, last) = (done.reduce(0) { $0 + $1.matching }, board.acknowledgements.lastPosition)
                _ = try await fleet.wait {
                    filter.isEmpty ? board.leastPosition >= last : board.leastCount >= matching
                }
                return done
            }
            return (monitor, done)
        }
        let (monitor, done) = measured
        var report = RunReport(workload: "subscribe", parameters: parameters)
        monitor.fill(&report)
        report.failures += failures.prefix(5)
        try await count.verify(callers: done, client: control, &report)
        board.verify(appends: done, filter: filter, &report)
        return report
    }

    static func windowBytes(_ subscribers: Int) -> Int {
        max(windowBytesMin, min(1 << 20, windowsBytesMax / subscribers))
    }
}

extension EventFilter {
    /// Checks that what it lets through is written at all.
    fileprivate func checkWritten() throws {
        let aggregates = aggregateTypes.subtracting(BenchNames.aggregateTypes).map(\.text).sorted()
        let events = eventTypes.subtracting(BenchNames.eventTypes).map(\.text).sorted()
        for (flag, names, written) in [
            ("--aggregate-type", aggregates, BenchNames.aggregateTypes.map(\.text)),
            ("--event-type", events, BenchNames.eventTypes.map(\.text)),
        ] where !names.isEmpty {
            throw BenchFailure("\(flag) \(names[0]) is never written: choose from \(written.joined(separator: ", "))")
        }
    }

    fileprivate func templates(payloadBytes: Int) throws(MartletError) -> [EventTemplate] {
        var templates: [EventTemplate] = []
        for type in isEmpty ? [BenchNames.eventType] : BenchNames.eventTypes {
            templates.append(try EventTemplate(type: type, payloadBytes: payloadBytes))
        }
        return templates
    }

    fileprivate var text: String {
        isEmpty
            ? "none" : (aggregateTypes.map(\.text).sorted() + eventTypes.map(\.text).sorted()).joined(separator: " ")
    }
}
