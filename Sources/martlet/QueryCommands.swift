import ArgumentParser
import Foundation
import MartletClient
import MartletModel

struct LoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Print the events of one aggregate in version order.")

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var aggregate: AggregateOptions
    @OptionGroup var upcasting: UpcastingFlags

    @Option(help: ArgumentHelp("Only events after this version.", valueName: "version"))
    var after: UInt64 = 0

    @Option(help: ArgumentHelp("Up to and including this version.", valueName: "version"))
    var toVersion: UInt64?

    @Option(help: ArgumentHelp("As of this time, in RFC 3339.", valueName: "time"))
    var asOf: String?

    @Option(help: ArgumentHelp("As of this position of the tenant.", valueName: "position"))
    var asOfPosition: UInt64?

    @Flag(help: "Newest first.")
    var backward = false

    @Option(help: ArgumentHelp("Print at most this many events.", valueName: "count"))
    var max: UInt64?

    @Flag(
        help:
            "Start from the newest snapshot not after the target: prints {\"snapshot\":…} first, null if there is none."
    )
    var snapshot = false

    @Option(
        help: ArgumentHelp(
            "With --snapshot, only one of this schema version; may be repeated.", valueName: "version"))
    var snapshotSchema: [UInt32] = []

    mutating func run() async throws {
        guard snapshot || snapshotSchema.isEmpty else { throw UsageError("--snapshot-schema requires --snapshot") }
        guard !(snapshot && backward) else { throw UsageError("--snapshot works only forward: omit --backward") }
        guard [toVersion != nil, asOf != nil, asOfPosition != nil].filter({ $0 }).count <= 1 else {
            throw UsageError("give only one of --to-version, --as-of and --as-of-position")
        }
        let target: LoadTarget =
            if let toVersion {
                .version(Version(toVersion))
            } else if let asOfPosition {
                .position(Position(asOfPosition))
            } else if let asOf {
                .time(try timestamp(asOf, "--as-of"))
            } else {
                .now
            }
        let tenantID = try tenant.tenantID()
        let request = LoadRequest(
            tenant: tenantID, aggregate: try aggregate.name(in: tenantID), after: Version(after),
            target: target, direction: backward ? .backward : .forward, eventsMax: max,
            snapshot: snapshot ? SnapshotUse(schemaVersions: Set(snapshotSchema)) : nil,
            upcasting: try upcasting.options())
        try await tenant.server.withClient { client in
            let events = try await client.load(request)
            if request.snapshot != nil {
                Terminal.write(EventLine.encode(events.view.snapshot, skipped: events.view.snapshotsSkipped))
            }
            for try await event in events { Terminal.write(EventLine.encode(event)) }
        }
    }
}

struct FilterOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Only aggregates of this type; may be repeated.", valueName: "type"))
    var type: [String] = []

    @Option(help: ArgumentHelp("Only events of this type; may be repeated.", valueName: "type"))
    var eventType: [String] = []

    @Option(help: ArgumentHelp("Only this aggregate id; may be repeated.", valueName: "uuid"))
    var id: [String] = []

    func filter() throws -> EventFilter {
        EventFilter(
            aggregateTypes: Set(try type.map { try aggregateType($0) }),
            eventTypes: Set(try eventType.map { try martlet.eventType($0) }),
            aggregateIDs: Set(try id.map { try uuid($0, "--id") }))
    }
}

struct ReadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "read", abstract: "Print a tenant's events in position order.")

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var filter: FilterOptions
    @OptionGroup var upcasting: UpcastingFlags

    @Option(help: ArgumentHelp("Only events after this position.", valueName: "position"))
    var after: UInt64 = 0

    @Option(help: ArgumentHelp("Up to and including this position.", valueName: "position"))
    var to: UInt64?

    @Option(help: ArgumentHelp("As of this time, in RFC 3339.", valueName: "time"))
    var asOf: String?

    @Flag(help: "Newest first.")
    var backward = false

    @Option(help: ArgumentHelp("Print at most this many events.", valueName: "count"))
    var max: UInt64?

    mutating func run() async throws {
        guard to == nil || asOf == nil else { throw UsageError("give only one of --to and --as-of") }
        let target: ReadTarget =
            if let to {
                .position(Position(to))
            } else if let asOf {
                .time(try timestamp(asOf, "--as-of"))
            } else {
                .head
            }
        let request = ReadRequest(
            tenant: try tenant.tenantID(), after: Position(after), target: target,
            direction: backward ? .backward : .forward, filter: try filter.filter(), eventsMax: max,
            upcasting: try upcasting.options())
        try await tenant.server.withClient { client in
            let events = try await client.read(request)
            for try await event in events { Terminal.write(EventLine.encode(event)) }
        }
    }
}

struct SubscribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "subscribe", abstract: "Print a tenant's existing and new events.",
        discussion: "Runs until it is stopped or has printed --count events, across restarts of the server.")

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var filter: FilterOptions
    @OptionGroup var upcasting: UpcastingFlags

    @Option(help: ArgumentHelp("Where to start.", valueName: "start|head|position|time"))
    var from = "start"

    @Option(help: ArgumentHelp("Stop after this many events.", valueName: "count"))
    var count: UInt64?

    mutating func run() async throws {
        let request = SubscribeRequest(
            tenant: try tenant.tenantID(), start: try subscriptionStart(from, "--from"), filter: try filter.filter(),
            upcasting: try upcasting.options())
        let count = count ?? .max
        guard count > 0 else { return }
        try await tenant.server.withClient { client in
            var printed: UInt64 = 0
            for try await item in client.subscribe(request) {
                switch item {
                case .events(let events, _):
                    for event in events {
                        Terminal.write(EventLine.encode(event))
                        printed += 1
                        if printed == count { return }
                    }
                case .upcastersChanged(let position, let revision, _):
                    Terminal.complain(
                        "the upcasters have changed: events after position \(position) follow revision \(revision)")
                case .caughtUp, .fellBehind, .checkpoint, .heartbeat, .started, .reconnected: break
                }
            }
        }
    }
}

struct HeadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "head", abstract: "Print a tenant's last position.")

    @OptionGroup var tenant: TenantOptions

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let head = try await tenant.server.withClient { try await $0.head(of: tenantID) }
        let recordedAt = head.position == .start ? "null" : "\"\(head.recordedAt)\""
        Terminal.write(line: #"{"position":\#(head.position),"recorded_at":\#(recordedAt)}"#)
    }
}

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Print the server's status.")

    @OptionGroup var server: ServerOptions

    mutating func run() async throws {
        let status = try await server.withClient { try await $0.status() }
        Terminal.write(
            line: #"{"server_version":\#(EventLine.quoted(status.serverVersion)),"#
                + #""storage":\#(EventLine.quoted(status.storageEngine)),"storage_ready":\#(status.storageReady),"#
                + #""storage_message":\#(EventLine.quoted(status.storageMessage)),"#
                + #""schema_version":\#(status.schemaVersion),"uptime_seconds":\#(status.uptimeMicros / 1_000_000),"#
                + #""server_time":"\#(status.serverTime)","connections":\#(status.connections),"#
                + #""subscriptions":\#(status.subscriptions),"waiting_append_bytes":\#(status.waitingAppendBytes),"#
                + #""events_appended":\#(status.eventsAppended),"events_delivered":\#(status.eventsDelivered),"#
                + #""snapshots_skipped":\#(status.snapshotsSkipped),"upcast_failures":\#(status.upcastFailures),"#
                + #""process_cpu_micros":\#(status.processCPUMicros),"resident_bytes":\#(status.residentBytes),"#
                + #""resident_peak_bytes":\#(status.residentPeakBytes),"draining":\#(status.isDraining)}"#)
        guard status.storageReady else {
            throw MartletError(
                .unavailable, reason: .storageUnavailable,
                message: "the server answers, and its storage does not: \(status.storageMessage)", isRetryable: true)
        }
    }
}
