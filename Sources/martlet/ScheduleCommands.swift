import ArgumentParser
import Foundation
import MartletClient
import MartletModel
import NIOCore

struct SchedulesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schedules",
        abstract: "Set, cancel and list events that the server appends when their time has come.",
        subcommands: [SchedulesSet.self, SchedulesCancel.self, SchedulesList.self])
}

struct SchedulesSet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Append an event at a later time; a schedule of the same key is replaced.",
        discussion: """
            Durations are a whole number and a unit: 500ms, 30s, 15m, 12h, 3d. Prints what became of the change: "set", \
            "moved" if the key had a schedule, or "fired" if the event is stored already. Repeat the command with the \
            printed --event-id if its outcome is not known: the event is not appended twice.
            """)

    @OptionGroup var tenant: TenantOptions

    @Argument(help: ArgumentHelp("Names the schedule: 1 to 128 bytes of [A-Za-z0-9_.:-].", valueName: "key"))
    var key: String

    @Option(help: ArgumentHelp("When the event is appended; at once if that has passed.", valueName: "time"))
    var at: String?

    @Option(help: ArgumentHelp("The same, from the server's time of now on.", valueName: "duration"))
    var `in`: String?

    @Option(help: ArgumentHelp("What the event is appended to.", valueName: "type/uuid"))
    var aggregate: String

    @Option(help: "Type of the event.")
    var type: String

    @Option(help: "The event's payload; read from standard input if omitted.")
    var payload: String?

    @Option(help: ArgumentHelp("Media type of the payload.", valueName: "type"))
    var contentType = NewEvent.json

    @Option(help: ArgumentHelp("The payload's schema version.", valueName: "version"))
    var schemaVersion: UInt32 = 1

    @Option(help: ArgumentHelp("Id of the event; a new one if omitted.", valueName: "uuid"))
    var eventID: String?

    @Option(
        help: ArgumentHelp("Do not append the event later than this after its time.", valueName: "duration"))
    var lateAtMost: String?

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let due = try dueTime()
        let name = try aggregateName()
        let latenessMax = try lateAtMost.map { try duration($0, "--late-at-most") }
        guard latenessMax != .zero else { throw UsageError("--late-at-most must be at least 1ms") }
        var event = NewEvent(
            type: try eventType(type), contentType: contentType, schemaVersion: schemaVersion, payload: ByteBuffer())
        if let eventID { event.id = try uuid(eventID, "--event-id") }
        let key = try scheduleKey(key)
        event.payload = ByteBuffer(
            bytes: try payload.map { Array($0.utf8) } ?? DocumentFile.contents("-", bytesMax: Limits().frameBytesMax))
        let schedule = ScheduledEvent(
            key, due: Timestamp(microseconds: 0), aggregate: name, event: event, latenessMax: latenessMax)
        let (set, outcome) = try await tenant.server.withClient { client in
            var schedule = schedule
            switch due {
            case .at(let time): schedule.due = time
            case .after(let duration):
                let (seconds, attoseconds) = duration.components
                let now = try await client.status().serverTime
                schedule.due.microseconds = now.microseconds + seconds * 1_000_000 + attoseconds / 1_000_000_000_000
            }
            return (schedule, try await client.setSchedule(schedule, tenant: tenantID))
        }
        Terminal.write(
            line: #"{"key":"\#(set.key)","outcome":"\#(ScheduleLine.text(of: outcome))","due":"\#(set.due)","#
                + #""event_id":"\#(set.event.id.uuidString.lowercased())"}"#)
    }

    private enum DueTime {
        case at(Timestamp)
        case after(Duration)
    }

    private func dueTime() throws -> DueTime {
        switch (at, self.in) {
        case (let at?, nil): .at(try timestamp(at, "--at"))
        case (nil, let text?): .after(try duration(text, "--in"))
        default: throw UsageError("give either --at or --in")
        }
    }

    private func aggregateName() throws -> AggregateName {
        guard let slash = aggregate.lastIndex(of: "/") else {
            throw UsageError("--aggregate '\(aggregate)' is not TYPE/UUID")
        }
        return AggregateName(
            type: try aggregateType(String(aggregate[..<slash])),
            id: try uuid(String(aggregate[aggregate.index(after: slash)...]), "--aggregate"))
    }
}

struct SchedulesCancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel", abstract: "Delete schedules, all or none.",
        discussion: """
            Prints one line per key: "cancelled", or "absent" if there is none, as after its event was appended.
            """)

    @OptionGroup var tenant: TenantOptions

    @Argument(help: ArgumentHelp("Keys, as list prints them; 1 to 100.", valueName: "key"))
    var keys: [String]

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        guard keys.count <= ScheduleChange.countMax else {
            throw UsageError("\(keys.count) keys: at most \(ScheduleChange.countMax) at once")
        }
        let keys = try keys.map { try scheduleKey($0) }
        let outcomes = try await tenant.server.withClient { client in
            try await client.changeSchedules(keys.map { .cancel($0) }, tenant: tenantID)
        }
        for (key, outcome) in zip(keys, outcomes) {
            Terminal.write(line: #"{"key":"\#(key)","outcome":"\#(ScheduleLine.text(of: outcome))"}"#)
        }
    }
}

struct SchedulesList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Print one line per schedule of the tenant, sorted by key.",
        discussion: """
            A schedule whose event was appended is not listed. "parked" is why an event could not be appended when it was \
            due: set the schedule again, or cancel it.
            """)

    @OptionGroup var tenant: TenantOptions

    @Flag(help: "Only schedules that are parked.")
    var parked = false

    @Option(help: ArgumentHelp("Print at most this many schedules.", valueName: "count"))
    var max: UInt32?

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let countMax = max.map { Int($0) } ?? .max
        let isParkedOnly = parked
        try await tenant.server.withClient { client in
            var left = countMax
            var after: ScheduleKey?
            while left > 0 {
                let request = ListSchedulesRequest(
                    tenant: tenantID, after: after, isParkedOnly: isParkedOnly,
                    count: Swift.min(left, ListSchedulesRequest.countMax))
                let page = try await client.schedules(request)
                for listed in page { Terminal.write(line: ScheduleLine.line(listed)) }
                left -= Swift.min(left, page.count)
                guard page.count >= request.count, let last = page.last else { return }
                after = last.key
            }
        }
    }
}

/// What the schedules commands print, as JSON lines.
private enum ScheduleLine {
    static func text(of outcome: ScheduleChanged) -> String {
        switch outcome {
        case .set: "set"
        case .moved: "moved"
        case .cancelled: "cancelled"
        case .absent: "absent"
        case .fired: "fired"
        }
    }

    static func line(_ listed: ListedSchedule) -> String {
        #"{"key":"\#(listed.key)","due":"\#(listed.due)","aggregate_type":"\#(listed.aggregate.type)","#
            + #""aggregate_id":"\#(listed.aggregate.id.uuidString.lowercased())","#
            + #""event_id":"\#(listed.eventID.uuidString.lowercased())","#
            + #""event_type":\#(EventLine.quoted(listed.eventType.text)),"payload_bytes":\#(listed.payloadBytes),"#
            + #""late_at_most_millis":\#(listed.latenessMillisMax.map { "\($0)" } ?? "null"),"#
            + #""parked":\#(listed.parked.map { EventLine.quoted($0) } ?? "null")}"#
    }
}

private func scheduleKey(_ text: String) throws -> ScheduleKey {
    guard let key = ScheduleKey(text) else {
        throw UsageError("'\(text)' is not a schedule's key: 1 to 128 bytes of [A-Za-z0-9_.:-]")
    }
    return key
}

/// A whole number and a unit; less than 10,000 years.
private func duration(_ text: String, _ option: String) throws -> Duration {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let units = ["ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000] as [String: Int64]
    guard let number = Int64(digits), let unit = units[String(text.dropFirst(digits.count))] else {
        throw UsageError("\(option) '\(text)' is not a duration, as in 500ms, 30s, 15m, 12h or 3d")
    }
    let (millis, overflow) = number.multipliedReportingOverflow(by: unit)
    guard !overflow, millis < 315_000_000_000_000 else {
        throw UsageError("\(option) '\(text)' is too long: at most 9999 years")
    }
    return .milliseconds(millis)
}
