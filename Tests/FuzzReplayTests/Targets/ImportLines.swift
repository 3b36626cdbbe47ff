import FoundationEssentials
import MartletModel
import MartletRecordCodec

@testable import martlet

/// Lines of a file that is imported: one that is taken can be exported, and taken again as the same event.
enum ImportLines {
    private static let tenant = TenantID(UUID())

    static func run(_ bytes: [UInt8]) throws {
        let parsed: EventLine.Parsed
        do {
            parsed = try EventLine.decode(bytes, tenant: tenant)
        } catch let fault as LineFault {
            return try hold(!fault.description.isEmpty, "a fault without a word")
        }
        guard let aggregate = parsed.aggregate, parsed.hasID else { return }
        // What the server refuses is never exported.
        guard (try? EncodedEvent(parsed.event)) != nil else { return }
        let recorded = RecordedEvent(
            position: Position(1), version: Version(1), recordedAt: Timestamp(microseconds: 0), aggregate: aggregate,
            event: parsed.event)
        let line = EventLine.encode(recorded)
        try hold(line.last == 0x0A && !line.dropLast().contains(0x0A), "an event takes more than one line")
        let again: EventLine.Parsed
        do {
            again = try EventLine.decode(Array(line.dropLast()), tenant: tenant)
        } catch {
            throw Finding("the exported line is refused: \(error): \(String(decoding: line, as: UTF8.self))")
        }
        try hold(again.event == parsed.event, "\(parsed.event) comes back as \(again.event)")
        try hold(again.aggregate == parsed.aggregate, "\(aggregate) comes back as another")
    }
}
