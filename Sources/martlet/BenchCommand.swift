import ArgumentParser
import EventModel
import Foundation
import Logging
import MartletClient
import NIOCore

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure a running server, in a tenant made for it.",
        discussion: """
            Every acknowledged event is counted back at the end. Absolute figures mean little on a shared machine: \
            compare runs made side by side.
            """,
        subcommands: [
            BenchAppend.self, BenchLoad.self, BenchCatchUp.self, BenchRehydrate.self, BenchUpcast.self,
        ])
}

struct BenchOptions: ParsableArguments {
    @OptionGroup var tenant: TenantOptions

    @Option(help: "Clients, each with a connection of its own, each with one call at a time.")
    var clients = 1

    @Option(help: "Payload of an event, in bytes of JSON.")
    var payload = 256

    func tenantID() throws -> TenantID {
        setting(tenant.tenant, "MARTLET_TENANT") == nil ? TenantID(UUID()) : try tenant.tenantID()
    }

    /// Runs `body` for each client at once.
    func withClients(_ body: @escaping @Sendable (Int, MartletClient) async throws -> Void) async throws {
        let server = tenant.server
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<clients {
                group.addTask {
                    try await server.withClient { client in
                        _ = try await client.welcome()
                        try await body(index, client)
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// A new event with about 100 bytes of metadata and a payload of the length asked for.
    func event(_ number: Int) -> NewEvent {
        var text = #"{"number":\#(number),"text":""#
        text += String(repeating: "x", count: max(0, payload - text.utf8.count - 2)) + #""}"#
        var metadata = EventMetadata()
        metadata.userID = "user-4711"
        metadata.correlationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"
        metadata.causationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a1"
        return NewEvent(type: Self.eventType, metadata: metadata, payload: ByteBuffer(string: text))
    }

    static let eventType = EventType("BenchHappened") ?? { preconditionFailure("the bench's event type is valid") }()
    static let aggregateType = AggregateType("bench") ?? { preconditionFailure("the bench's type is valid") }()

    static func aggregate() -> AggregateName { AggregateName(type: aggregateType, id: .v7()) }
}

/// What was measured.
struct Measurement: Sendable {
    var seconds = 0.0
    var calls = 0
    var events = 0
    var latencies: [Duration] = []

    mutating func add(_ other: Measurement) {
        calls += other.calls
        events += other.events
        latencies += other.latencies
    }

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

/// Adds up what clients measured.
actor Tally {
    private(set) var total = Measurement()
    private var startedAt: ContinuousClock.Instant?

    func start() { if startedAt == nil { startedAt = .now } }

    func add(_ measurement: Measurement) {
        total.add(measurement)
        if let startedAt { total.seconds = Double((ContinuousClock.now - startedAt) / .milliseconds(1)) / 1000 }
    }
}

struct BenchAppend: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "append", abstract: "Each client appends to an aggregate of its own, with exact versions.")

    @OptionGroup var options: BenchOptions

    @Option(help: "Events of one append.")
    var batch = 1

    @Option(help: "How long, in seconds.")
    var seconds = 5.0

    mutating func run() async throws {
        let tenant = try options.tenantID()
        let tally = Tally()
        let (options, batch, seconds) = (options, batch, seconds)
        let before = try await options.tenant.server.withClient { try await $0.head(of: tenant) }
        try await options.withClients { _, client in
            await tally.start()
            var measurement = Measurement()
            var aggregate = BenchOptions.aggregate()
            var version = EventModel.Version.none
            let end = ContinuousClock.now + .seconds(seconds)
            while ContinuousClock.now < end {
                let events = (0..<batch).map { options.event(measurement.events + $0) }
                let start = ContinuousClock.now
                let receipt = try await client.append(events, to: aggregate, expecting: .exact(version), tenant: tenant)
                measurement.latencies.append(ContinuousClock.now - start)
                measurement.calls += 1
                measurement.events += batch
                version = receipt.aggregates[0].lastVersion
                if version.rawValue >= 1_000 { (aggregate, version) = (BenchOptions.aggregate(), .none) }
            }
            await tally.add(measurement)
        }
        let total = await tally.total
        total.report("append clients=\(options.clients) batch=\(batch) payload=\(options.payload)")
        let after = try await options.tenant.server.withClient { try await $0.head(of: tenant) }
        let stored = Int(after.position.rawValue - before.position.rawValue)
        guard stored == total.events else {
            throw CommandFailure("\(total.events) events were acknowledged and \(stored) are stored")
        }
    }
}

struct BenchLoad: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Each client loads aggregates that were filled before.")

    @OptionGroup var options: BenchOptions

    @Option(help: "Events of an aggregate.")
    var events = 1_000

    @Option(help: "Aggregates.")
    var aggregates = 20

    @Option(help: "How long, in seconds.")
    var seconds = 5.0

    mutating func run() async throws {
        let tenant = try options.tenantID()
        let names = (0..<aggregates).map { _ in BenchOptions.aggregate() }
        let (options, events, seconds) = (options, events, seconds)
        try await options.tenant.server.withClient { client in
            for name in names {
                for start in stride(from: 0, to: events, by: 500) {
                    let batch = (start..<min(events, start + 500)).map { options.event($0) }
                    _ = try await client.append(batch, to: name, expecting: .any, tenant: tenant)
                }
            }
        }
        let tally = Tally()
        try await options.withClients { index, client in
            await tally.start()
            var measurement = Measurement()
            let end = ContinuousClock.now + .seconds(seconds)
            while ContinuousClock.now < end {
                let name = names[(index + measurement.calls) % names.count]
                let start = ContinuousClock.now
                var count = 0
                for try await page in try await client.load(LoadRequest(tenant: tenant, aggregate: name)).pages {
                    count += page.count
                }
                guard count == events else { throw CommandFailure("\(count) of \(events) events were loaded") }
                measurement.latencies.append(ContinuousClock.now - start)
                measurement.calls += 1
                measurement.events += count
            }
            await tally.add(measurement)
        }
        await tally.total.report("load clients=\(options.clients) events=\(events) payload=\(options.payload)")
    }
}

struct BenchCatchUp: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catch-up", abstract: "Each client subscribes from the beginning until it has caught up.")

    @OptionGroup var options: BenchOptions

    @Option(help: "Events to catch up with.")
    var events = 200_000

    mutating func run() async throws {
        let tenant = try options.tenantID()
        let (options, events) = (options, events)
        try await options.tenant.server.withClient { client in
            var stored = Int(try await client.head(of: tenant).position.rawValue)
            while stored < events {
                let count = min(1_000, events - stored)
                let batch = (0..<count).map { options.event(stored + $0) }
                _ = try await client.append(batch, to: BenchOptions.aggregate(), expecting: .none, tenant: tenant)
                stored += count
            }
        }
        let tally = Tally()
        try await options.withClients { _, client in
            await tally.start()
            var measurement = Measurement()
            var last = Position.start
            let start = ContinuousClock.now
            receiving: for try await item in client.subscribe(SubscribeRequest(tenant: tenant)) {
                switch item {
                case .events(let batch, _):
                    for event in batch {
                        guard event.position == last.next else {
                            throw CommandFailure("position \(event.position) came after \(last)")
                        }
                        last = event.position
                    }
                    measurement.events += batch.count
                case .caughtUp: break receiving
                default: break
                }
            }
            measurement.calls = 1
            measurement.latencies.append(ContinuousClock.now - start)
            await tally.add(measurement)
        }
        await tally.total.report("catch-up clients=\(options.clients) events=\(events) payload=\(options.payload)")
    }
}
