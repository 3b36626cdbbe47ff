import ArgumentParser
import Foundation
import MartletClient
import MartletModel
import MartletSession
import MartletUpcasting
import NIOCore

struct UpcastersCheck: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Try a file's steps on the stored events that they concern; change nothing.",
        discussion: """
            Reads the events as stored and upcasts them in this program, by the tenant's steps and the file's. Prints \
            samples and failures as they occur, then one line per stored type and schema version, then the total. \
            Exits with code 5 if an event would fail. Does not try snapshots: a load skips one that fails.
            """)

    @OptionGroup var tenant: TenantOptions

    @Flag(help: "Use only the file's steps, as apply --replace does.")
    var replace = false

    @Option(help: ArgumentHelp("Only events stored as this type; may be repeated.", valueName: "type"))
    var type: [String] = []

    @Option(help: "Show this many events of each stored type and schema version, before and after upcasting.")
    var samples = 1

    @Option(help: "Show this many failures of each stored type and schema version.")
    var failures = 5

    @Argument(help: "A file in JSON or YAML, or - for standard input.")
    var file: String

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        guard samples >= 0, failures >= 0 else { throw UsageError("--samples and --failures must be 0 or more") }
        let applied = try UpcasterSet(definition: try DocumentFile.read(file))
        let types = Set(try type.map { try eventType($0) })
        let (replace, samples, failures) = (replace, samples, failures)
        let failed = try await tenant.server.withClient { client in
            let present = try await UpcasterChange.present(client, tenantID).set
            let trial = try await UpcastTrial.run(
                replace ? applied : try present.applying(applied), by: applied, of: types, tenantID, client,
                samples: samples, failures: failures)
            trial.report()
            return trial.total.failed
        }
        guard failed == 0 else { throw CommandRefusal("UPCAST_FAILED: \(failed) events would not be upcast") }
    }
}

/// Upcasts events that came as stored, and counts what becomes of them. Its memory grows with the types and schema
/// versions that it meets, up to a bound, not with the events.
struct UpcastTrial {
    private static let groupsMax = 10_000

    struct Counts {
        var events: UInt64 = 0
        var passed: UInt64 = 0
        var unchanged: UInt64 = 0
        var failed: UInt64 = 0

        var line: String {
            #""events":\#(events),"pass":\#(passed),"unchanged":\#(unchanged),"fail":\#(failed)"#
        }
    }

    /// A stored type and schema version; version 0 stands for all those that found no place of their own.
    private struct Key: Hashable {
        var type: EventType
        var schemaVersion: UInt32
    }

    private let set: UpcasterSet
    private let payloadBytesMax: Int
    private let samples: Int
    private let failures: Int
    private var groups: [Key: Counts] = [:]
    private(set) var total = Counts()
    /// Up to where events were tried.
    private(set) var end = Position.start

    init(set: UpcasterSet, payloadBytesMax: Int, samples: Int, failures: Int) {
        self.set = set
        self.payloadBytesMax = payloadBytesMax
        self.samples = samples
        self.failures = failures
    }

    /// Tries stored events; prints samples and failures as they come.
    /// - Parameters:
    ///   - set: all steps, with those of `applied`.
    ///   - types: stored types; none are all that a step of `applied` concerns.
    static func run(
        _ set: UpcasterSet, by applied: UpcasterSet, of types: Set<EventType> = [], _ tenant: TenantID,
        _ client: MartletClient, samples: Int, failures: Int
    ) async throws -> UpcastTrial {
        let limits = try await client.welcome().limits
        var trial = UpcastTrial(
            set: set, payloadBytesMax: limits.upcastPayloadBytesMax, samples: samples, failures: failures)
        let stored = types.isEmpty ? trial.storedTypes(of: applied) : types
        guard !stored.isEmpty else { return trial }
        // What does not fit a filter is left out here.
        let filter = EventFilter(eventTypes: stored.count <= limits.filterValuesMax ? stored : [])
        let events = try await client.read(ReadRequest(tenant: tenant, filter: filter, upcasting: .raw))
        var bar = ProgressBar("check", total: events.view.to.rawValue)
        for try await page in events.pages {
            for event in page where stored.contains(event.event.type) { trial.take(event) }
            bar.update(trial.total.events, progress: page.last?.position.rawValue ?? 0)
        }
        bar.update(trial.total.events, progress: events.view.to.rawValue, isLast: true)
        trial.end = events.view.to
        return trial
    }

    /// The stored types whose events come to a step of `applied`, also by way of a type that they had before.
    func storedTypes(of applied: UpcasterSet) -> Set<EventType> {
        let types = Set(
            applied.steps.compactMap { step -> EventType? in
                switch step.subject {
                case .event(let type): type
                case .snapshot: nil
                }
            })
        return set.storedTypes(deliveredAs: types)
    }

    mutating func take(_ recorded: RecordedEvent) {
        let event = recorded.event
        var key = Key(type: event.type, schemaVersion: event.schemaVersion)
        if groups[key] == nil, groups.count >= Self.groupsMax { key.schemaVersion = 0 }
        var counts = groups[key] ?? Counts()
        counts.events += 1
        total.events += 1
        var payload = ByteBuffer()
        let outcome = set.upcast(
            event: event.type, schemaVersion: event.schemaVersion, contentType: event.contentType,
            payload: event.payload, outputBytesMax: payloadBytesMax, to: &payload)
        switch outcome {
        case .unchanged:
            counts.unchanged += 1
            total.unchanged += 1
        case .upcast(let upcast):
            counts.passed += 1
            total.passed += 1
            if counts.passed <= UInt64(samples) { show(recorded, upcast, payload) }
        case .failed(let failure):
            counts.failed += 1
            total.failed += 1
            if counts.failed <= UInt64(failures) { show(recorded, failure) }
        }
        groups[key] = counts
    }

    private func place(_ recorded: RecordedEvent) -> String {
        #""position":\#(recorded.position),"id":"\#(recorded.event.id.uuidString.lowercased())","#
            + #""type":\#(EventLine.quoted(recorded.event.type.text)),"schema_version":\#(recorded.event.schemaVersion)"#
    }

    private func show(_ recorded: RecordedEvent, _ upcast: Upcast, _ payload: ByteBuffer) {
        var line = Array(#"{"sample":{\#(place(recorded)),"becomes":{"#.utf8)
        if let type = upcast.eventType { line += Array(#""type":\#(EventLine.quoted(type.text)),"#.utf8) }
        line += Array(#""schema_version":\#(upcast.schemaVersion)},"#.utf8)
        let contentType = recorded.event.contentType
        line += EventLine.member("before", recorded.event.payload, contentType: contentType) + [UInt8(ascii: ",")]
        line += EventLine.member("after", payload, contentType: contentType)
        Terminal.write(line + Array("}}\n".utf8))
    }

    private func show(_ recorded: RecordedEvent, _ failure: UpcastFailure) {
        var line = #"{"failure":{\#(place(recorded)),"step":\#(EventLine.quoted("\(failure.subject)")),"#
        line += #""from":\#(failure.fromVersion),"operation":\#(failure.operation.map(String.init) ?? "null"),"#
        line += #""path":\#(EventLine.quoted(failure.pointer)),"complaint":\#(EventLine.quoted(failure.complaint))}}"#
        Terminal.write(line: line)
    }

    /// Prints a line for each stored type and schema version, and the sum.
    func report() {
        let sorted = groups.sorted {
            (ExactText($0.key.type.text), $0.key.schemaVersion) < (ExactText($1.key.type.text), $1.key.schemaVersion)
        }
        for (key, counts) in sorted {
            let version = key.schemaVersion == 0 ? "null" : "\(key.schemaVersion)"
            var line = #"{"type":\#(EventLine.quoted(key.type.text)),"schema_version":\#(version),\#(counts.line)"#
            let end = set.delivered(event: key.type, schemaVersion: key.schemaVersion)
            if end != (key.type, key.schemaVersion) {
                line +=
                    #","becomes":{"type":\#(EventLine.quoted(end.type.text)),"schema_version":\#(end.schemaVersion)}"#
            }
            Terminal.write(line: line + "}")
        }
        Terminal.write(line: #"{"to_position":\#(end),\#(total.line)}"#)
    }
}
