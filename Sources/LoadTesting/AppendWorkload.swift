import MartletClient
import MartletModel
import MartletSession

/// Appends: how many, and how long each takes.
///
/// Without shared aggregates, each client appends to one of its own with exact versions. With them, each append goes to
/// one chosen at random, whatever its version.
public struct AppendWorkload: Sendable {
    private static let aggregatesMax = 10_000_000

    /// What all workloads have.
    public var settings: RunSettings
    /// Events of one append.
    public var batch = 1
    /// Aggregates of each tenant that all its clients write to at random, whatever their versions; 0: each client writes
    /// to one of its own, with exact versions.
    public var aggregates = 0
    /// Tenants, with a share of the clients each. With more of them than clients, which takes ``aggregates``, each append
    /// goes to one at random. The tenant that is asked for is the first; the ids of the others count up from it.
    public var tenants = 1
    /// Writes an event to each aggregate of each tenant before anything is measured, so that all are there.
    public var fills = false
    /// Decides which tenants and aggregates each client chooses, in order; nil: another seed for each run.
    public var seed: UInt64?

    /// Appends with those settings.
    public init(_ settings: RunSettings) { self.settings = settings }

    /// Runs it.
    /// - Throws: ``BenchFailure`` for settings that cannot be; an error of the server where the run cannot begin.
    public func run(_ target: BenchTarget) async throws -> RunReport {
        try validate()
        let tenants = RunTenants(settings.tenant, count: tenants)
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: settings.payloadBytes)
        return try await target.withClients(settings.connectionCount + 1) { clients in
            let (callers, control) = (Array(clients.dropLast()), clients[clients.count - 1])
            try await control.checkFits(batch: batch, template: template)
            guard aggregates > 0 else {
                return try await runExactly(callers, control: control, tenants.all, template)
            }
            return try await runAtRandom(callers, control: control, tenants, template)
        }
    }

    private func validate() throws {
        try settings.validate()
        try require("--batch", batch, in: 1...100_000)
        try require("--aggregates", aggregates, in: 0...Self.aggregatesMax)
        try require("--tenants", tenants, in: 1...RunTenants.countMax)
        guard aggregates == 0 else {
            guard !fills || tenants * aggregates <= AggregateFill.eventsMax else {
                throw BenchFailure(
                    "--fill would write \(tenants * aggregates) events, one to each of --aggregates \(aggregates) of "
                        + "each of --tenants \(tenants): give fewer of them, at most \(AggregateFill.eventsMax) in all")
            }
            return
        }
        guard tenants <= settings.clients else {
            throw BenchFailure(
                "--tenants is \(tenants) and --clients \(settings.clients): with more tenants than clients each "
                    + "append goes to a tenant at random, which takes --aggregates: give 1 or more, or as many "
                    + "clients as tenants")
        }
        guard !fills else {
            throw BenchFailure("--fill writes to --aggregates, which is 0: give 1 to \(Self.aggregatesMax) of them")
        }
        guard seed == nil else {
            throw BenchFailure(
                "--seed chooses among --aggregates, which is 0: give 1 to \(Self.aggregatesMax), or no --seed")
        }
    }

    private func runExactly(
        _ clients: [MartletClient], control: MartletClient, _ tenants: [TenantID], _ template: EventTemplate
    ) async throws -> RunReport {
        let count = try await TenantCount(tenants, client: control)
        let callers = (0..<settings.clients).map { index in
            AppendCaller(
                client: clients[index % clients.count], tenant: tenants[index % tenants.count], batch: batch,
                maker: EventMaker([template]))
        }
        var (report, done) = try await settings.measure("append", callers, control: control, parameters)
        try await count.verify(callers: done, client: control, &report)
        return report
    }

    private func runAtRandom(
        _ clients: [MartletClient], control: MartletClient, _ tenants: RunTenants, _ template: EventTemplate
    ) async throws -> RunReport {
        if fills {
            try await AggregateFill(
                tenants: tenants, aggregates: aggregates, template: template, onProgress: settings.onWritten
            ).run(clients)
        }
        let seed = seed ?? UInt64.random(in: 0...UInt64(UInt32.max))
        let tally = TenantTally(tenants)
        let count = try await TenantCount(tally.tenants, client: control)
        let callers = (0..<settings.clients).map { index in
            RandomAppendCaller(
                client: clients[index % clients.count], batch: batch, choices: choices(of: index, among: tenants),
                tally: tally, maker: EventMaker([template]), random: FastRandom(seed: seed, stream: UInt64(index)))
        }
        var (report, _) = try await settings.measure("append", callers, control: control, parameters)
        report.seed = seed
        try await count.verify(
            acknowledged: tally.acknowledged, unknown: tally.unknown, client: control, &report)
        if tally.tenants.count < tenants.count { report.verified["tenantsCounted"] = UInt64(tally.tenants.count) }
        return report
    }

    /// With at most as many tenants as clients, each client stays with one.
    func choices(of client: Int, among tenants: RunTenants) -> RandomAppendCaller.Choices {
        let own = client % tenants.count
        return RandomAppendCaller.Choices(
            tenants: tenants, tenantNumbers: tenants.count > settings.clients ? 0..<tenants.count : own..<own + 1,
            aggregates: aggregates)
    }

    private var parameters: [String: ParameterValue] {
        settings.parameters.merging(
            [
                "batch": .int(batch), "aggregates": .int(aggregates), "tenants": .int(tenants),
                "fill": .text(fills ? "yes" : "no"),
            ]
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
