import MartletClient
import MartletModel
import MartletSession

/// Appends: how many, and how long each takes.
public struct AppendWorkload: Sendable {
    /// A client starts a new aggregate after this many events.
    static let eventsPerAggregate: UInt64 = 1_000

    /// What all workloads have.
    public var settings: RunSettings
    /// Events of one append.
    public var batch = 1
    /// Aggregates that all clients write to, whatever their versions; 0: each client writes to one of its own, with exact
    /// versions.
    public var aggregates = 0
    /// Tenants, with a share of the clients each.
    public var tenants = 1

    /// Appends with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        try settings.validate()
        try require("--batch", batch, in: 1...100_000)
        try require("--aggregates", aggregates, in: 0...10_000_000)
        try require("--tenants", tenants, in: 1...min(100_000, settings.clients))
        let tenantIDs = try TenantID.forRun(settings.tenant, count: tenants)
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: settings.payloadBytes)
        return try await target.withClients(settings.connectionCount + 1) { clients in
            try await run(Array(clients.dropLast()), control: clients[clients.count - 1], tenantIDs, template)
        }
    }

    private func run(
        _ clients: [MartletClient], control: MartletClient, _ tenants: [TenantID], _ template: EventTemplate
    ) async throws -> RunReport {
        try await control.checkFits(batch: batch, template: template)
        let count = try await TenantCount(tenants, client: control)
        let choice = choice()
        let callers = (0..<settings.clients).map { index in
            AppendCaller(
                client: clients[index % clients.count], tenant: tenants[index % tenants.count], batch: batch,
                aggregates: choice, maker: EventMaker([template]))
        }
        var (report, done) = try await settings.measure("append", callers, control: control, parameters)
        try await count.verify(callers: done, client: control, &report)
        return report
    }

    private func choice() -> AppendCaller.Aggregates {
        guard aggregates > 0 else {
            return .own(type: BenchNames.aggregateType, eventsMax: Self.eventsPerAggregate)
        }
        return .shared(BenchNames.numbered(aggregates))
    }

    private var parameters: [String: ParameterValue] {
        settings.parameters.merging(
            ["batch": .int(batch), "aggregates": .int(aggregates), "tenants": .int(tenants)]
        ) { $1 }
    }
}

extension TenantCount {
    /// Compares what is stored with what appending callers were told.
    func verify(callers: [AppendCaller], client: MartletClient, _ report: inout RunReport) async throws {
        var acknowledged: [TenantID: UInt64] = [:]
        var unknown: [TenantID: UInt64] = [:]
        for caller in callers {
            acknowledged[caller.tenant, default: 0] += caller.acknowledged
            unknown[caller.tenant, default: 0] += caller.unknown
        }
        try await verify(
            acknowledged: tenants.map { acknowledged[$0] ?? 0 }, unknown: tenants.map { unknown[$0] ?? 0 },
            client: client, &report)
    }
}

extension MartletClient {
    /// Checks that the server takes appends of that size.
    /// - Throws: ``BenchFailure`` that names the limit.
    func checkFits(batch: Int, template: EventTemplate) async throws {
        let limits = try await welcome().limits
        guard batch <= limits.eventsPerAppendMax else {
            throw BenchFailure(
                "--batch is \(batch), but the server accepts at most \(limits.eventsPerAppendMax) events per append")
        }
        let bytes = batch * (template.bodyBytes + 8) + 1_024
        guard bytes <= limits.frameBytesMax else {
            throw BenchFailure(
                "--batch \(batch) makes frames of about \(bytes) bytes, but the server accepts at most "
                    + "\(limits.frameBytesMax): give a smaller --batch or --payload")
        }
    }
}
