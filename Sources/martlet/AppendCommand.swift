import ArgumentParser
import Foundation
import MartletClient
import MartletModel

struct AppendCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "append", abstract: "Append events to one aggregate or to several, all or none.",
        discussion: """
            Input lines: {"type":…,"payload":…,"id"?,"content_type"?,"schema_version"?,"metadata"?}. Without --type, \
            each line names its aggregate: "aggregate_type", and "aggregate_id" or "aggregate_key"; the first line of \
            an aggregate may say what it expects, as --expect does: "expect". Prints one line with versions and \
            positions.
            """)

    @OptionGroup var tenant: TenantOptions

    @Option(help: "Type of the aggregate; without it, each line names its own aggregate.")
    var type: String?

    @OptionGroup var which: AggregateIDOptions

    @Option(
        help: ArgumentHelp(
            "Version that the aggregate must have; of lines that name their aggregates, that of each of them (default any).",
            valueName: "any|none|exists|N"))
    var expect: String?

    @Argument(help: "A file of JSON lines, or - for standard input.")
    var file = "-"

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let parts = try parts(of: tenantID)
        let isNamed = type != nil
        let receipt = try await tenant.server.withClient { client in
            try await client.append(parts, tenant: tenantID)
        }
        var line = "{"
        if isNamed {
            let part = receipt.aggregates[0]
            line += #""first_version":\#(part.firstVersion),"last_version":\#(part.lastVersion),"#
        } else {
            let aggregates = zip(parts, receipt.aggregates).map { part, stored in
                #"{"aggregate_type":\#(EventLine.quoted(part.aggregate.type.text)),"#
                    + #""aggregate_id":"\#(part.aggregate.id.uuidString.lowercased())","#
                    + #""first_version":\#(stored.firstVersion),"last_version":\#(stored.lastVersion),"#
                    + #""snapshot_due":\#(stored.snapshotDue)}"#
            }
            line += "\"aggregates\":[\(aggregates.joined(separator: ","))],"
        }
        line += #""first_position":\#(receipt.firstPosition),"last_position":\#(receipt.lastPosition),"#
        line += #""recorded_at":"\#(receipt.recordedAt)","replayed":\#(receipt.replayed)"#
        if isNamed { line += #","snapshot_due":\#(receipt.aggregates[0].snapshotDue)"# }
        Terminal.write(line: line + "}")
    }

    /// The lines' events by their aggregates, in the order in which these come first.
    private func parts(of tenant: TenantID) throws -> [NewAggregateEvents] {
        let named = try aggregate(in: tenant)
        let expected = try expectedVersion()
        var lines = try LineReader(file)
        var parts: [NewAggregateEvents] = []
        var indexes: [AggregateName: Int] = [:]
        while let line = try lines.next() {
            do {
                var parsed = try EventLine.decode(line, tenant: tenant)
                if let key = which.aggregateKey { parsed.event.metadata.tags[AggregateName.keyTag] = key }
                let aggregate = try aggregate(of: parsed, named)
                if let index = indexes[aggregate] {
                    guard parsed.expected == nil else {
                        throw LineFault("\"expect\" belongs into the first line of an aggregate only")
                    }
                    parts[index].events.append(parsed.event)
                } else {
                    indexes[aggregate] = parts.count
                    parts.append(
                        NewAggregateEvents(
                            aggregate: aggregate, expected: parsed.expected ?? expected, events: [parsed.event]))
                }
            } catch let fault as LineFault {
                throw UsageError("line \(lines.number): \(fault)")
            }
        }
        guard !parts.isEmpty else { throw UsageError("no events: give one JSON line per event") }
        return parts
    }

    /// The aggregate that the options name.
    private func aggregate(in tenant: TenantID) throws -> AggregateName? {
        guard let type else {
            guard !which.areSet else { throw UsageError("--id and --aggregate-key require --type") }
            return nil
        }
        return try which.name(type: type, in: tenant)
    }

    private func aggregate(of parsed: EventLine.Parsed, _ named: AggregateName?) throws(LineFault) -> AggregateName {
        guard let named else {
            guard let aggregate = parsed.aggregate else {
                throw LineFault(
                    "names no aggregate: give --type and --id, or \"aggregate_type\" and \"aggregate_id\" in each line")
            }
            return aggregate
        }
        guard parsed.expected == nil else { throw LineFault("\"expect\" in a line excludes --type: give --expect") }
        guard parsed.aggregate == nil || parsed.aggregate == named else {
            throw LineFault(
                "names another aggregate than --type and --id: leave these out, and each line is stored in its own")
        }
        return named
    }

    private func expectedVersion() throws -> ExpectedVersion {
        guard let expect else { return .any }
        guard let expected = ExpectedVersion(option: expect) else {
            throw UsageError("--expect '\(expect)' is not any, none, exists or a version")
        }
        return expected
    }
}

extension ExpectedVersion {
    /// `any`, `none`, `exists` or a version.
    init?(option text: String) {
        switch text {
        case "any": self = .any
        case "none": self = .none
        case "exists": self = .exists
        default:
            guard let version = UInt64(text) else { return nil }
            self = .exact(Version(version))
        }
    }
}
