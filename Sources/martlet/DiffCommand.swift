import ArgumentParser
import Foundation
import MartletClient
import MartletModel

struct DiffCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Print what happened to an aggregate between two points in its history.",
        discussion: """
            Prints the events after --from, up to and including --to, and a last line {"diff":…}: the versions, the \
            number of events, and the number of each type.
            """)

    /// Event types that the summary counts one by one.
    private static let typesMax = 1_000

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var aggregate: AggregateOptions
    @OptionGroup var upcasting: UpcastingFlags

    @Option(
        help: ArgumentHelp("Start after this version, or after the version at this time.", valueName: "version|time"))
    var from: String

    @Option(
        help: ArgumentHelp(
            "Up to and including this version, or as of this time. Default: now.", valueName: "version|time"))
    var to: String?

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let name = try aggregate.name(in: tenantID)
        let options = try upcasting.options()
        let start = try Self.target(from, "--from")
        let end = try to.map { try Self.target($0, "--to") } ?? .now
        if case (.version(let first), .version(let last)) = (start, end), first > last { throw Self.reversed }
        if case (.time(let first), .time(let last)) = (start, end), first > last { throw Self.reversed }
        let isOpen = to == nil
        try await tenant.server.withClient { client in
            let after: Version
            if case .version(let version) = start {
                after = version
            } else {
                // What has happened does not change: two views of it agree.
                let request = LoadRequest(
                    tenant: tenantID, aggregate: name, target: start, direction: .backward, eventsMax: 1,
                    upcasting: .raw)
                after = try await client.load(request).view.version
            }
            let events = try await client.load(
                LoadRequest(tenant: tenantID, aggregate: name, after: after, target: end, upcasting: options))
            guard events.view.version >= after || isOpen else { throw Self.reversed }
            var types: [ExactText: UInt64] = [:]
            var (count, firstAt, lastAt): (UInt64, Timestamp?, Timestamp?) = (0, nil, nil)
            for try await event in events {
                Terminal.write(EventLine.encode(event))
                count += 1
                firstAt = firstAt ?? event.recordedAt
                lastAt = event.recordedAt
                let type = ExactText(event.event.type.text)
                if types[type] != nil || types.count < Self.typesMax { types[type, default: 0] += 1 }
            }
            let counted = types.sorted { $0.key < $1.key }.map { "\(EventLine.quoted($0.key.text)):\($0.value)" }
            var line = #"{"diff":{"from_version":\#(after),"to_version":\#(events.view.version),"events":\#(count)"#
            if let firstAt, let lastAt { line += #","first_at":"\#(firstAt)","last_at":"\#(lastAt)""# }
            Terminal.write(line: line + #","types":{\#(counted.joined(separator: ","))}}}"#)
        }
    }

    private static let reversed = UsageError("--from is after --to")

    private static func target(_ text: String, _ option: String) throws -> LoadTarget {
        if let version = UInt64(text) { return .version(Version(version)) }
        guard let time = TimeText.parse(text, now: .now()) else {
            throw UsageError("\(option) '\(text)' is not a version, or \(TimeText.forms)")
        }
        return .time(time)
    }
}
