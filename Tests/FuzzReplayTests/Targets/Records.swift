import FoundationEssentials
import MartletTesting
import NIOCore

@testable import MartletModel
@testable import MartletRecordCodec

/// Bytes that should be a record, or entries.
///
/// What must hold:
/// - ``RecordDecoder`` says what protobuf-c says (``ProtobufOracle/allows(_:of:)``);
/// - a layout's numbers, and what ``EntryFilter`` says of it, are those of the decoded event;
/// - a record that is rewritten as another schema decodes as the same event in that schema;
/// - a record that was written with its checksum is intact, and damaged for another tenant or with another byte;
/// - a walk over entries, records taken one by one, and decoding all of them agree on how many there are.
enum Records {
    static func run(_ bytes: [UInt8]) throws {
        try checkRecord(ByteBuffer(bytes: bytes))
        try checkEntries(ByteBuffer(bytes: bytes))
        var entries = ByteBuffer()
        RecordedEntries.write(record: ByteBuffer(bytes: bytes), to: &entries)
        try checkEntries(entries)
    }

    private static func checkRecord(_ record: ByteBuffer) throws {
        let decoded = try? RecordedEntries.decode(record: record)
        try hold(
            ProtobufOracle.allows(decoded, of: record),
            "decoded as \(String(describing: decoded)), by protobuf-c as \(ProtobufOracle.decode(record) as Any)")
        guard let event = decoded else { return }
        guard let layout = RecordLayout(record) else { throw Finding("there is no layout of \(event)") }
        try hold(
            layout.position == event.position && layout.version == event.version
                && layout.recordedAt == event.recordedAt,
            "the layout \(layout) is not that of \(event)")
        try checkFilter(layout, event, record)
        try checkChecksum(event, damagedAt: record.readableBytes)
        // Other servers and versions may send what they like; what storage holds is of one form.
        guard layout.outline.isAsStored else { return }
        let numbers = RecordNumbers(record.readableBytesUInt8Span, record: 0..<record.readableBytes)
        try hold(
            numbers.map { [$0.position, $0.version, $0.recordedAt] }
                == [
                    layout.position.rawValue, layout.version.rawValue,
                    UInt64(bitPattern: layout.recordedAt.microseconds),
                ],
            "the numbers \(String(describing: numbers)) are not those of \(layout)")
        try checkRewriting(layout, event, record)
    }

    private static func checkFilter(_ layout: RecordLayout, _ event: RecordedEvent, _ record: ByteBuffer) throws {
        let placed = ["Placed"] as Set<EventType>
        for choice in 0..<8 {
            var filter = EventFilter()
            if choice & 1 != 0 { filter.aggregateTypes = [event.aggregate.type] }
            if choice & 2 != 0 { filter.eventTypes = placed }
            if choice & 4 != 0 { filter.aggregateIDs = [UUID(high: 1, low: 1), event.aggregate.id] }
            let matches = unsafe record.withUnsafeReadableBytes { bytes in
                unsafe EntryFilter(filter).matches(layout.outline, in: bytes)
            }
            try hold(
                matches == filter.matches(event.aggregate, event.event.type), "\(filter) of \(event): \(matches as Any)"
            )
        }
    }

    private static func checkChecksum(_ event: RecordedEvent, damagedAt place: Int) throws {
        guard let encoded = try? EncodedEvent(event.event) else { return }
        let tenants = [1, 2].map { TenantID(UUID(high: 1, low: $0)) }
        var entry = ByteBuffer()
        let start = RecordedEntries.write(
            position: event.position, version: event.version, recordedAt: event.recordedAt, aggregate: event.aggregate,
            event: encoded, tenant: tenants[0], to: &entry)
        guard var record = entry.getSlice(at: start, length: entry.writerIndex - start) else {
            throw Finding("the entry of \(event) has no record")
        }
        func verdict(_ tenant: TenantID) -> ChecksumVerdict? {
            RecordOutline(record)?.storedVerdict(in: record.readableBytesUInt8Span, tenant: tenant)
        }
        try hold(verdict(tenants[0]) == .intact, "\(event) was written and is \(verdict(tenants[0]) as Any)")
        try hold(verdict(tenants[1]) == .damaged, "\(event) is \(verdict(tenants[1]) as Any) for another tenant")
        let at = place % record.readableBytes
        let byte = record.readableBytesView[record.readerIndex + at]
        record.setInteger(byte ^ (1 << (place & 7)), at: record.readerIndex + at)
        try hold(verdict(tenants[0]) != .intact, "\(event) is intact with another byte at \(at)")
    }

    private static func checkRewriting(_ layout: RecordLayout, _ event: RecordedEvent, _ record: ByteBuffer) throws {
        for type in [nil, EventType("Renamed")] as [EventType?] {
            var entry = ByteBuffer()
            let payload = ByteBuffer(string: "{}")
            layout.writeEntry(of: record, type: type?.text, schemaVersion: 9, payload: payload, to: &entry)
            var expected = event
            expected.storedSchemaVersion = layout.eventSchemaVersion
            expected.storedType = event.event.type
            if let type { expected.event.type = type }
            expected.event.schemaVersion = 9
            expected.event.payload = payload
            let rewritten = try? RecordedEntries.decode(entry)
            try hold(rewritten == [expected], "\(event) was rewritten as \(rewritten as Any)")
        }
    }

    private static func checkEntries(_ entries: ByteBuffer) throws {
        let decoded = try? RecordedEntries.decode(entries)
        var ends: [Int] = []
        var isWhole = false
        unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            while let (entry, _) = walk.next() { ends.append(entry.upperBound) }
            isWhole = !walk.isBroken
        }
        try hold(!isWhole || ends.last ?? 0 == entries.readableBytes, "the walk ended before the entries did")
        var rest = entries
        var taken: [Int] = []
        while let record = try? RecordedEntries.nextRecord(of: &rest) {
            taken.append(entries.readableBytes - rest.readableBytes)
            try hold(record.readableBytes <= taken[taken.count - 1], "a record that is longer than its entry")
        }
        try hold(taken == ends, "records end at \(taken), the walk's entries at \(ends)")
        if let decoded {
            try hold(isWhole && ends.count == decoded.count, "\(ends.count) entries, \(decoded.count) records")
        }
    }
}
