import EventEncoding
import EventModel
import EventStorage
import FoundationEssentials
import NIOCore

/// Reads of the tables `blocks` and `ranges`.
enum BlockRows {
    /// A row of `ranges`.
    struct Range {
        var lastVersion: UInt64
        var count: Int
        var position: UInt64
        var before: UInt64
        var start: Int
        var length: Int

        var firstVersion: UInt64 { lastVersion - UInt64(count) + 1 }
    }

    /// Events of a tenant within keys, which are of positions that exist.
    static func page(
        _ range: PageRange<Position>, tenantNo: Int64, filter: EventFilter, bounds: PageBounds,
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> EventPage {
        var fill = PageFill(bounds, filter: filter)
        let select = try connection.statement(bounds.direction == .forward ? .selectBlocks : .selectBlocksBackward)
        select.bind(1, EventKeys.bound(tenantNo, range.after.next))
        select.bind(2, EventKeys.bound(tenantNo, range.to))
        try select.forEachRow { row in
            let first = EventKeys.position(of: row.integer(0)).rawValue
            let count = Int(row.integer(1))
            let entries = unsafe row.blob(2)
            let from = max(range.after.rawValue + 1, first) - first
            let to = min(range.to.rawValue - first + 1, UInt64(count))
            guard from < to else { return true }
            if fill.page.count == 0, filter.isEmpty {
                fill.reserve(Self.estimate(entries.count, of: count, wanted: range.to.rawValue - range.after.rawValue))
            }
            return unsafe fill.take(entries, count: count, wanted: Int(from)..<Int(to))
        }
        guard !fill.isBroken else { throw .corrupted("a block of tenant \(tenantNo) holds no events") }
        return fill.page
    }

    /// About how many bytes so many events take, by those of one block.
    private static func estimate(_ bytes: Int, of count: Int, wanted: UInt64) -> Int {
        let each = bytes / max(1, count) + 1
        return wanted > UInt64(Int.max / each) ? .max : Int(wanted) * each
    }

    /// Events of an aggregate within versions.
    static func page(
        aggregateNo: Int64, tenantNo: Int64, versions range: PageRange<Version>, bounds: PageBounds,
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> EventPage {
        var fill = PageFill(bounds)
        let (after, to) = (range.after.rawValue, range.to.rawValue)
        guard after < to else { return fill.page }
        let ranges = try ranges(aggregateNo, after: after, to: to, bounds, connection)
        fill.reserve(ranges.reduce(0) { $0 + $1.length })
        var blob: SQLiteBlob?
        for part in ranges {
            let key = EventKeys.key(tenantNo, Position(part.position - part.before))
            let open: SQLiteBlob
            if let blob { open = blob } else {
                open = try connection.blob(block: key)
                blob = open
            }
            let bytes = part.start..<part.start + part.length
            let from = max(after + 1, part.firstVersion) - part.firstVersion
            let end = min(to, part.lastVersion) - part.firstVersion + 1
            if from == 0, end == part.count, fill.hasRoom(for: part.count, bytes: part.length) {
                let last = Position(part.position + UInt64(part.count) - 1)
                try fill.take(count: part.count, last: last, Version(part.lastVersion)) {
                    (buffer) throws(SQLiteFault) in try open.read(bytes, ofBlock: key, to: &buffer)
                }
                continue
            }
            var entries = ByteBuffer()
            try open.read(bytes, ofBlock: key, to: &entries)
            let isTaken = unsafe entries.withUnsafeReadableBytes { entries in
                unsafe fill.take(entries, count: part.count, wanted: Int(from)..<Int(end))
            }
            guard !fill.isBroken else { throw .corrupted("a range of aggregate \(aggregateNo) holds no events") }
            if !isTaken { break }
        }
        return fill.page
    }

    /// As many ranges, in the order of the page, as its bounds may need.
    private static func ranges(
        _ aggregateNo: Int64, after: UInt64, to: UInt64, _ bounds: PageBounds, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> [Range] {
        let isForward = bounds.direction == .forward
        let select = try connection.statement(isForward ? .selectRanges : .selectRangesBackward)
        select.bind(1, aggregateNo)
        select.bind(2, Int64(clamping: isForward ? after : to))
        var ranges: [Range] = []
        var bytes = 0
        var events = 0
        try select.forEachRow { row in
            let found = Range(
                lastVersion: UInt64(row.integer(0)), count: Int(row.integer(1)), position: UInt64(row.integer(2)),
                before: UInt64(row.integer(3)), start: Int(row.integer(4)), length: Int(row.integer(5)))
            guard isForward ? found.firstVersion <= to : found.lastVersion > after else { return false }
            ranges.append(found)
            // The first may be cut at its near end: it does not count.
            if ranges.count > 1 {
                bytes += found.length
                events += found.count
            }
            return bytes <= bounds.bytesMax && events <= bounds.eventsMax
        }
        return ranges
    }

    /// The position of an aggregate's version; nil where it has none.
    static func position(
        of version: UInt64, aggregateNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> UInt64? {
        let select = try connection.statement(.selectRange)
        select.bind(1, aggregateNo)
        select.bind(2, Int64(clamping: version))
        return try select.firstRow { row in
            let first = UInt64(row.integer(0) - row.integer(1) + 1)
            return version < first ? nil : UInt64(row.integer(2)) + version - first
        } ?? nil
    }

    /// When the event at a position that exists was committed.
    static func recordedAt(
        _ position: UInt64, tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Int64? {
        let select = try connection.statement(.selectBlock)
        select.bind(1, EventKeys.key(tenantNo, Position(position)))
        return try select.firstRow { $0.integer(2) }
    }

    /// The event at a position.
    static func storedEvent(
        at position: Position, tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> StoredEvent {
        let select = try connection.statement(.selectBlock)
        let key = EventKeys.key(tenantNo, position)
        select.bind(1, key)
        let found: StoredEvent?? = try select.firstRow { row in
            let first = row.integer(0)
            let entries = unsafe row.blob(3)
            guard key - first < row.integer(1) else { return nil }
            var walk = unsafe EntryWalk(entries)
            guard walk.skip(Int(key - first)), let record = walk.next()?.record,
                let head = unsafe RecordHead(entries, record: record), head.position == position,
                let type = unsafe AggregateType(
                    String(decoding: UnsafeRawBufferPointer(rebasing: entries[head.aggregateType]), as: UTF8.self)),
                let id = unsafe UUID(bytes: UnsafeRawBufferPointer(rebasing: entries[head.aggregateID]))
            else { return nil }
            return StoredEvent(
                aggregate: AggregateName(type: type, id: id), version: head.version, position: position,
                recordedAt: head.recordedAt,
                record: unsafe ByteBuffer(bytes: UnsafeRawBufferPointer(rebasing: entries[record])))
        }
        guard case let event?? = found else {
            throw .corrupted("no block holds position \(position) of tenant \(tenantNo)")
        }
        return event
    }
}
