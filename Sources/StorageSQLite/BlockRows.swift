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
        select.bind(1, EventKeys.bound(tenantNo, range.after.next))
        select.bind(2, EventKeys.bound(tenantNo, range.to))
        try select.forEachRow { row in
            let first = EventKeys.position(of: row.integer(0)).rawValue
            let count = Int(clamping: max(0, row.integer(1)))
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
            let key = EventKeys.key(tenantNo, Position(part.blockPosition))
            let open: SQLiteBlob
            if let blob {
                open = blob
            } else {
                open = try connection.blob(block: key)
                blob = open
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
            guard !fill.isBroken else { throw .corrupted("a range of aggregate \(aggregateNo) holds no events") }
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
        var isBroken = false
        let wanted = pending.filter { $0.firstVersion <= to && $0.lastVersion > after }
        switch bounds.direction {
        case .forward:
            let select = try connection.statement(.selectRanges)
            select.bind(1, aggregateNo)
            select.bind(2, Int64(clamping: after))
            try select.forEachRow { row in
                guard let range = RangeRow(row, tenantNo: tenantNo, aggregateNo: aggregateNo) else {
                    isBroken = true
                    return false
                }
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
            try select.forEachRow { row in
                guard let range = RangeRow(row, tenantNo: tenantNo, aggregateNo: aggregateNo) else {
                    isBroken = true
                    return false
                }
                return range.lastVersion > after && found.add(range)
            }
        }
        guard !isBroken else { throw .corrupted("a range of aggregate number \(aggregateNo) is none") }
        return found.rows
    }

    /// The position of an aggregate's version; nil where it has none.
    static func position(
        of version: UInt64, aggregateNo: Int64, pending: [RangeRow], _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> UInt64? {
        if let first = pending.first, version >= first.firstVersion {
            guard let range = pending.first(where: { $0.lastVersion >= version }) else { return nil }
            return range.position + version - range.firstVersion
        }
        let select = try connection.statement(.selectRange)
        select.bind(1, aggregateNo)
        select.bind(2, Int64(clamping: version))
        return try select.firstRow { row in
            guard row.integer(0) >= row.integer(1), row.integer(1) > 0, row.integer(2) > 0 else { return nil }
            let first = UInt64(row.integer(0) - row.integer(1) + 1)
            return version < first ? nil : UInt64(row.integer(2)) &+ (version - first)
        } ?? nil
    }

    /// When the event at a position that exists was committed.
    static func recordedAt(
        _ position: UInt64, tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Int64? {
        let select = try connection.statement(.selectBlock)
        select.bind(1, EventKeys.bound(tenantNo, Position(position)))
        return try select.firstRow { $0.integer(2) }
    }

    /// The event at a position, which has that id.
    static func storedEvent(
        at position: Position, _ key: EventKey, tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> StoredEvent {
        let select = try connection.statement(.selectBlock)
        let rowKey = EventKeys.bound(tenantNo, position)
        select.bind(1, rowKey)
        let found: StoredEvent?? = try select.firstRow { row in
            let first = row.integer(0)
            let entries = unsafe row.blob(3)
            guard rowKey &- first < row.integer(1), rowKey >= first else { return nil }
            var walk = unsafe EntryWalk(entries)
            guard walk.skip(Int(rowKey - first)), let record = walk.next()?.record,
                let layout = unsafe RecordLayout(entries, record: record),
                let aggregate = unsafe layout.aggregate(in: entries),
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
            throw SQLiteFault(code: SQLITE_CORRUPT, message: error.description)
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
    /// A row of ``Query/selectRanges``; nil where it is none that this code wrote.
    fileprivate init?(_ row: borrowing SQLiteStatement.Row, tenantNo: Int64, aggregateNo: Int64) {
        let (lastVersion, count, position, before) = (row.integer(0), row.integer(1), row.integer(2), row.integer(3))
        let (start, length) = (row.integer(4), row.integer(5))
        guard 1...Int64(Int32.max) ~= count, lastVersion >= count, 1..<1 << Int64(Schema.positionBits) ~= position,
            0..<position ~= before, 0...Int64(Int32.max) ~= start, 0...Int64(Int32.max) ~= length
        else { return nil }
        self.init(
            tenantNo: tenantNo, aggregateNo: aggregateNo, lastVersion: UInt64(lastVersion), count: Int(count),
            position: UInt64(position), before: UInt64(before), start: Int(start), length: Int(length), bytes: 0)
    }
}
