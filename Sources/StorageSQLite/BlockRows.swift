import CMartletSQLite
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// Reads of the tables `blocks` and `ranges`.
enum BlockRows {
    /// Events of a tenant within keys, which are of positions that exist.
    static func page(
        _ range: PageRange<Position>, tenantNo: Int64, filter: EventFilter, bounds: PageBounds,
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> EventPage {
        var fill = PageFill(bounds, filter: filter)
        let select = try connection.statement(bounds.direction == .forward ? .selectBlocks : .selectBlocksBackward)
        let last = min(range.to, EventKeys.positionMax).rawValue
        select.bind(1, try EventKeys.bound(tenantNo, range.after.next))
        select.bind(2, try EventKeys.bound(tenantNo, range.to))
        var seen: Position?
        try select.forEachRow { row throws(SQLiteFault) in
            if fill.ends(after: seen) { return false }
            let first = try EventKeys.position(of: row.integer(0), in: tenantNo).rawValue
            let count = Int(try row.unsigned(1))
            let entries = unsafe row.blob(2)
            let from = max(range.after.next.rawValue, first) - first
            let to = first > last ? 0 : min(last - first + 1, UInt64(count))
            guard from < to else { return true }
            if fill.page.count == 0, filter.isEmpty {
                fill.reserve(Self.estimate(entries.count, of: count, wanted: range.to.rawValue - range.after.rawValue))
            }
            guard unsafe fill.take(entries, count: count, wanted: Int(from)..<Int(to)) else { return false }
            fill.filtered(entries.count)
            seen = Position(bounds.direction == .forward ? first + to - 1 : first + from)
            return true
        }
        guard !fill.isBroken else { throw .corrupted("a block of tenant \(tenantNo) has no readable events") }
        return fill.page
    }

    /// About how many bytes so many events take, by those of one block.
    private static func estimate(_ bytes: Int, of count: Int, wanted: UInt64) -> Int {
        let each = bytes / max(1, count) + 1
        return wanted > UInt64(Int.max / each) ? .max : Int(wanted) * each
    }

    /// Events of an aggregate within versions.
    /// - Parameter pending: ranges that may not be in the table yet.
    static func page(
        aggregateNo: Int64, tenantNo: Int64, versions range: PageRange<Version>, bounds: PageBounds,
        pending: [RangeRow], _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> EventPage {
        var fill = PageFill(bounds)
        let (after, to) = (range.after.rawValue, range.to.rawValue)
        guard after < to else { return fill.page }
        let ranges = try ranges(
            of: aggregateNo, tenantNo: tenantNo, after: after, to: to, bounds, pending: pending, connection)
        fill.reserve(ranges.reduce(0) { $0 + $1.length })
        var blob: SQLiteBlob?
        for part in ranges {
            let key = try EventKeys.key(tenantNo, Position(part.blockPosition))
            let open: SQLiteBlob
            if let blob {
                open = blob
            } else {
                open = try connection.blob(block: key)
                blob = open
            }
            guard part.firstVersion <= to, part.lastVersion > after else {
                throw .corrupted("ranges of aggregate \(aggregateNo) overlap")
            }
            let bytes = part.start..<part.start + part.length
            let from = max(after + 1, part.firstVersion) - part.firstVersion
            let end = min(to, part.lastVersion) - part.firstVersion + 1
            if from == 0, end == part.count, fill.hasRoom(for: part.count, bytes: part.length) {
                try fill.take(count: part.count, last: Position(part.lastPosition), Version(part.lastVersion)) {
                    (buffer) throws(SQLiteFault) in try open.read(bytes, ofBlock: key, to: &buffer)
                }
                continue
            }
            var entries = ByteBuffer()
            try open.read(bytes, ofBlock: key, to: &entries)
            let isTaken = unsafe entries.withUnsafeReadableBytes { entries in
                unsafe fill.take(entries, count: part.count, wanted: Int(from)..<Int(end))
            }
            guard !fill.isBroken else { throw .corrupted("a range of aggregate \(aggregateNo) has no readable events") }
            if !isTaken { break }
        }
        return fill.page
    }

    /// As many ranges, in the order of the page, as its bounds may need.
    private static func ranges(
        of aggregateNo: Int64, tenantNo: Int64, after: UInt64, to: UInt64, _ bounds: PageBounds, pending: [RangeRow],
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> [RangeRow] {
        var found = RangeList(bounds)
        let wanted = pending.filter { $0.firstVersion <= to && $0.lastVersion > after }
        switch bounds.direction {
        case .forward:
            let select = try connection.statement(.selectRanges)
            select.bind(1, aggregateNo)
            select.bind(2, Int64(clamping: after))
            try select.forEachRow { row throws(SQLiteFault) in
                let range = try RangeRow(row, tenantNo: tenantNo, aggregateNo: aggregateNo)
                return range.firstVersion <= to && found.add(range)
            }
            // A few may be in both.
            let last = found.rows.last?.lastVersion ?? after
            for range in wanted where range.lastVersion > last { if !found.add(range) { break } }
        case .backward:
            for range in wanted.reversed() { if !found.add(range) { break } }
            let below = found.rows.last.map { $0.firstVersion - 1 } ?? to
            guard below > after else { break }
            let select = try connection.statement(.selectRangesBackward)
            select.bind(1, aggregateNo)
            select.bind(2, Int64(clamping: below))
            try select.forEachRow { row throws(SQLiteFault) in
                let range = try RangeRow(row, tenantNo: tenantNo, aggregateNo: aggregateNo)
                return range.lastVersion > after && found.add(range)
            }
        }
        return found.rows
    }

    /// The position of an aggregate's version; nil where it has none.
    static func position(
        of version: UInt64, aggregateNo: Int64, pending: [RangeRow], _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> UInt64? {
        if let first = pending.first, version >= first.firstVersion {
            guard let range = pending.first(where: { $0.lastVersion >= version }), version >= range.firstVersion
            else { return nil }
            return range.position + version - range.firstVersion
        }
        let select = try connection.statement(.selectRange)
        select.bind(1, aggregateNo)
        select.bind(2, Int64(clamping: version))
        return try select.firstRow { row throws(SQLiteFault) in
            let (last, count) = (try row.unsigned(0), try row.unsigned(1))
            let position = try row.unsigned(2, to: Int64(EventKeys.positionMax.rawValue))
            guard 1...last ~= count else { throw .corrupted("a range of aggregate \(aggregateNo) has \(count) events") }
            let first = last - count + 1
            return version < first ? nil : position + (version - first)
        } ?? nil
    }

    /// When the event at a position that exists was committed.
    static func recordedAt(
        _ position: UInt64, tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Int64? {
        let select = try connection.statement(.selectBlock)
        select.bind(1, try EventKeys.key(tenantNo, Position(position)))
        return try select.firstRow { $0.integer(2) }
    }

    /// The event at a position, which has that id.
    static func storedEvent(
        at position: Position, _ key: EventKey, tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> StoredEvent {
        let select = try connection.statement(.selectBlock)
        let rowKey = try EventKeys.key(tenantNo, position)
        select.bind(1, rowKey)
        let found: StoredEvent?? = try select.firstRow { row in
            let first = row.integer(0)
            let entries = unsafe row.blob(3)
            guard first >= 0, rowKey - first < row.integer(1) else { return nil }
            var walk = unsafe EntryWalk(entries)
            guard walk.skip(Int(rowKey - first)), let record = walk.next()?.record,
                let layout = unsafe RecordLayout(entries, record: record),
                let aggregate = unsafe layout.outline.aggregate(in: entries),
                unsafe UUID(bytes: UnsafeRawBufferPointer(rebasing: entries[layout.eventID])) == key.id
            else { return nil }
            return StoredEvent(
                aggregate: aggregate, version: layout.version, position: position, recordedAt: layout.recordedAt,
                record: unsafe ByteBuffer(bytes: UnsafeRawBufferPointer(rebasing: entries[record])))
        }
        guard case let event?? = found else {
            throw .corrupted("no block holds event \(key.id) at position \(position)")
        }
        do throws(StorageError) { try RecordCheck(tenant: key.tenant).check(event) } catch {
            throw SQLiteFault(damage: error)
        }
        return event
    }
}

/// Ranges until there are enough for a page.
private struct RangeList {
    private let bounds: PageBounds
    private(set) var rows: [RangeRow] = []
    private var bytes = 0
    private var events = 0

    init(_ bounds: PageBounds) { self.bounds = bounds }

    /// - Returns: whether more are needed.
    mutating func add(_ range: RangeRow) -> Bool {
        guard bytes <= bounds.bytesMax, events <= bounds.eventsMax else { return false }
        // The first may be cut at its near end: it does not count.
        if !rows.isEmpty {
            bytes += range.length
            events += range.count
        }
        rows.append(range)
        return bytes <= bounds.bytesMax && events <= bounds.eventsMax
    }
}

extension RangeRow {
    /// No block is larger.
    private static var blockBytesMax: Int64 { 1 << 32 }

    /// A row of ``Query/selectRanges``, whose numbers go together.
    fileprivate init(
        _ row: borrowing SQLiteStatement.Row, tenantNo: Int64, aggregateNo: Int64
    ) throws(SQLiteFault) {
        let positionMax = Int64(EventKeys.positionMax.rawValue)
        let count = try row.unsigned(1, to: positionMax)
        self.init(
            tenantNo: tenantNo, aggregateNo: aggregateNo, lastVersion: try row.unsigned(0), count: Int(count),
            position: try row.unsigned(2, to: positionMax), before: try row.unsigned(3, to: positionMax),
            start: Int(try row.unsigned(4, to: Self.blockBytesMax)),
            length: Int(try row.unsigned(5, to: Self.blockBytesMax)), bytes: 0)
        guard count > 0, count <= lastVersion, before < position else {
            throw .corrupted("a range of aggregate \(aggregateNo) has \(count) events at position \(position)")
        }
    }
}
