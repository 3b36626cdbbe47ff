import ArgumentParser
import Foundation
import MartletClient
import MartletLoadTesting
import MartletModel
import NIOCore

/// What the comparisons of rehydration have in common: one client that calls once at a time.
struct RehydrationOptions: ParsableArguments {
    @OptionGroup var tenant: TenantOptions

    @Option(help: "Size of an event's JSON payload, in bytes.")
    var payload = 256

    func tenantID() throws -> TenantID {
        setting(tenant.tenant, "MARTLET_TENANT") == nil ? TenantID(UUID()) : try tenant.tenantID()
    }

    /// A new event with about 100 bytes of metadata and a payload of the length asked for.
    func event(_ number: Int) -> NewEvent {
        var text = #"{"number":\#(number),"text":""#
        text += String(repeating: "x", count: max(0, payload - text.utf8.count - 2)) + #""}"#
        var metadata = EventMetadata()
        metadata.userID = "user-4711"
        metadata.correlationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"
        metadata.causationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a1"
        return NewEvent(type: BenchNames.eventType, metadata: metadata, payload: ByteBuffer(string: text))
    }

    static func aggregate() -> AggregateName { AggregateName(type: BenchNames.aggregateType, id: .v7()) }
}

/// What was measured.
struct Measurement: Sendable {
    var seconds = 0.0
    var calls = 0
    var events = 0
    var latencies: [Duration] = []

    func report(_ name: String) {
        let sorted = latencies.sorted()
        func percentile(_ share: Double) -> String {
            guard !sorted.isEmpty else { return "null" }
            let value = sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
            return String(
                format: "%.3f", Double(value.components.attoseconds) / 1e15 + Double(value.components.seconds) * 1e3)
        }
        Terminal.write(
            line: #"{"bench":"\#(name)","seconds":\#(String(format: "%.2f", seconds)),"calls":\#(calls),"#
                + #""events":\#(events),"events_per_second":\#(Int(Double(events) / max(0.001, seconds))),"#
                + #""p50_ms":\#(percentile(0.5)),"p99_ms":\#(percentile(0.99))}"#)
    }
}

struct BenchRehydrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rehydrate",
        abstract: "Compare loads of a long aggregate with a snapshot to loads without it, and to loads of a short one."
    )

    @OptionGroup var options: RehydrationOptions

    @Option(help: "Events of the long aggregate; its snapshot is 50 events before the end.")
    var events = 100_000

    @Option(help: "Events of the short aggregate.")
    var short = 100

    @Option(help: "Loads of each kind, alternating; a tenth as many of the long one without its snapshot.")
    var rounds = 50

    mutating func run() async throws {
        let (options, tenant) = (options, try options.tenantID())
        let (events, short, rounds) = (max(51, events), max(1, short), max(10, rounds))
        try await options.tenant.server.withClient { client in
            let (long, small) = (RehydrationOptions.aggregate(), RehydrationOptions.aggregate())
            try await Self.fill(client, tenant, long, events, options)
            try await Self.fill(client, tenant, small, short, options)
            _ = try await client.saveSnapshot(
                SaveSnapshotRequest(
                    tenant: tenant, aggregate: long, version: Version(UInt64(events - 50)),
                    snapshot: NewSnapshot(
                        payload: ByteBuffer(string: #"{"state":"\#(String(repeating: "s", count: 1_000))"}"#)))
            )
            var (withSnapshot, alone, whole) = (Measurement(), Measurement(), Measurement())
            for round in 0..<rounds {
                try await Self.load(client, tenant, long, SnapshotUse(), expecting: 50, &withSnapshot)
                try await Self.load(client, tenant, small, nil, expecting: short, &alone)
                if round % 10 == 0 { try await Self.load(client, tenant, long, nil, expecting: events, &whole) }
            }
            withSnapshot.report("load of \(events) events with a snapshot")
            alone.report("load of \(short) events")
            whole.report("load of \(events) events without the snapshot")
        }
    }

    static func fill(
        _ client: MartletClient, _ tenant: TenantID, _ aggregate: AggregateName, _ count: Int,
        _ options: RehydrationOptions
    ) async throws {
        var left = count
        while left > 0 {
            let batch = min(left, 1_000)
            _ = try await client.append(
                (0..<batch).map { options.event($0) }, to: aggregate, expecting: .any, tenant: tenant)
            left -= batch
        }
    }

    static func load(
        _ client: MartletClient, _ tenant: TenantID, _ aggregate: AggregateName, _ use: SnapshotUse?,
        expecting count: Int,
        upcasting: UpcastingOptions = .latest, _ measurement: inout Measurement
    ) async throws {
        let began = ContinuousClock.now
        let stream = try await client.load(
            LoadRequest(tenant: tenant, aggregate: aggregate, snapshot: use, upcasting: upcasting))
        var found = 0
        for try await page in stream.pages { found += page.count }
        let took = ContinuousClock.now - began
        guard found == count, (use == nil) == (stream.view.snapshot == nil) else {
            throw CommandFailure("received \(found) events, expected \(count)")
        }
        measurement.calls += 1
        measurement.events += found
        measurement.latencies.append(took)
        measurement.seconds += Double(took / .microseconds(1)) / 1e6
    }
}

struct BenchUpcast: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upcast",
        abstract: "Compare loads through a chain of five upcasters to loads of events as stored.")

    @OptionGroup var options: RehydrationOptions

    @Option(help: "Events of the aggregate.")
    var events = 20_000

    @Option(help: "Loads of each kind, alternating.")
    var rounds = 11

    /// Five steps on the events of ``RehydrationOptions/event(_:)``.
    private static let document = """
        {"upcasters":[
        {"event":"BenchHappened","from":1,"operations":[{"rename":{"path":"/number","to":"no"}}]},
        {"event":"BenchHappened","from":2,"operations":[{"set":{"path":"/currency","value":"EUR"}}]},
        {"event":"BenchHappened","from":3,"operations":[{"convert":{"path":"/no","to":"string"}}]},
        {"event":"BenchHappened","from":4,"operations":[{"move":{"from":"/text","to":"/body/text"}}]},
        {"event":"BenchHappened","from":5,"operations":[{"default":{"path":"/kind","value":"bench"}}]}]}
        """

    mutating func run() async throws {
        let (options, tenant) = (options, try options.tenantID())
        let (events, rounds) = (max(1, events), max(1, rounds))
        try await options.tenant.server.withClient { client in
            let aggregate = RehydrationOptions.aggregate()
            try await BenchRehydrate.fill(client, tenant, aggregate, events, options)
            try await client.putSettings(
                PutSettingsRequest(tenant: tenant, kind: .upcasters, document: ByteBuffer(string: Self.document)))
            var (upcast, raw) = (Measurement(), Measurement())
            for _ in 0..<rounds {
                try await BenchRehydrate.load(client, tenant, aggregate, nil, expecting: events, &upcast)
                try await BenchRehydrate.load(
                    client, tenant, aggregate, nil, expecting: events, upcasting: .raw, &raw)
            }
            upcast.report("load through five upcasters")
            raw.report("load as stored")
            let cost = (upcast.median - raw.median) / .nanoseconds(1) / Double(events)
            Terminal.write(line: #"{"bench":"five upcasters","ns_per_event_by_medians":\#(Int(cost))}"#)
        }
    }
}

extension Measurement {
    fileprivate var median: Duration { latencies.sorted()[latencies.count / 2] }
}
