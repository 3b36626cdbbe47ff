import ArgumentParser
import Foundation
import MartletClient
import MartletModel

struct AppendCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "append", abstract: "Append events to an aggregate, all or none.",
        discussion: """
            Input lines: {"type":…,"payload":…,"id"?,"content_type"?,"schema_version"?,"metadata"?}. \
            Prints one line with versions and positions.
            """)

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var aggregate: AggregateOptions

    @Option(help: ArgumentHelp("Version that the aggregate must have.", valueName: "any|none|exists|N"))
    var expect = "any"

    @Argument(help: "A file of JSON lines, or - for standard input.")
    var file = "-"

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let name = try aggregate.name(in: tenantID)
        let expected = try expectedVersion()
        var lines = try LineReader(file)
        var events: [NewEvent] = []
        while let line = try lines.next() {
            do { events.append(try EventLine.decode(line).event) } catch {
                throw UsageError("line \(lines.number): \(error)")
            }
            if let key = aggregate.aggregateKey { events[events.count - 1].metadata.tags[AggregateName.keyTag] = key }
        }
        guard !events.isEmpty else { throw UsageError("no events: give one JSON line per event") }
        let batch = events
        let receipt = try await tenant.server.withClient { client in
            try await client.append(batch, to: name, expecting: expected, tenant: tenantID)
        }
        let part = receipt.aggregates[0]
        Terminal.write(
            line: #"{"first_version":\#(part.firstVersion),"last_version":\#(part.lastVersion),"#
                + #""first_position":\#(receipt.firstPosition),"last_position":\#(receipt.lastPosition),"#
                + #""recorded_at":"\#(receipt.recordedAt)","replayed":\#(receipt.replayed),"#
                + #""snapshot_due":\#(part.snapshotDue)}"#)
    }

    private func expectedVersion() throws -> ExpectedVersion {
        switch expect {
        case "any": return .any
        case "none": return .none
        case "exists": return .exists
        default:
            guard let version = UInt64(expect) else {
                throw UsageError("--expect '\(expect)' is not any, none, exists or a version")
            }
            return .exact(Version(version))
        }
    }
}
