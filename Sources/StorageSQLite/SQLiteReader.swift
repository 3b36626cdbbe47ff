import CSQLite
import EventEncoding
import EventModel
import EventStorage
import FoundationEssentials
import NIOCore

/// Reads; used by one thread. Every statement is a read transaction of its own, and what several statements of
/// one call read is immutable but for the heads, which each call reads first.
final class SQLiteReader: StorageReader {
    private let file: DatabaseFile
    private var connection: SQLiteConnection?

    init(file: DatabaseFile) { self.file = file }

    func head(of tenant: TenantID) throws(StorageError) -> TenantHead {
        try read { connection throws(SQLiteFault) in try Self.tenant(tenant, connection)?.head ?? .empty }
    }

    func heads(of tenants: [TenantID]) throws(StorageError) -> [TenantHead] {
        try read { connection throws(SQLiteFault) in
            // In one transaction: what one commit moved is seen together.
            try connection.statement(.beginRead).run()
            var heads: [TenantHead] = []
            for tenant in tenants { heads.append(try Self.tenant(tenant, connection)?.head ?? .empty) }
            try connection.statement(.commit).run()
            return heads
        }
    }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        try read { connection throws(SQLiteFault) in
            guard let (no, head) = try Self.tenant(tenant, connection) else { return .start }
            if head.recordedAt <= time { return head.position }
            // Commit times never decrease along positions.
            let select = try connection.statement(.selectRecordedAt)
            return Position(
                try Self.lastIndex(upTo: head.position.rawValue) { position throws(SQLiteFault) in
                    select.bind(1, EventKeys.key(no, Position(position)))
                    let recordedAt = try select.firstRow { $0.integer(0) }
                    return (recordedAt ?? .max) <= time.microseconds
                })
        }
    }

    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version {
        try read { connection throws(SQLiteFault) in
            guard let (tenantNo, _) = try Self.tenant(tenant, connection),
                let (no, version) = try Self.aggregate(aggregate, in: tenantNo, connection)
            else { return .none }
            let bound = EventKeys.bound(tenantNo, position)
            let select = try connection.statement(.selectKeyOfVersion)
            let isWithin = { (version: UInt64) throws(SQLiteFault) -> Bool in
                select.bind(1, no)
                select.bind(2, Int64(version))
                return (try select.firstRow { $0.integer(0) } ?? .max) <= bound
            }
            // Positions grow along versions. Most often the newest is asked for.
            if try isWithin(version.rawValue) { return version }
            return Version(try Self.lastIndex(upTo: version.rawValue - 1, isWithin))
        }
    }

    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position? {
        try read { connection throws(SQLiteFault) in
            guard version <= .max, let (tenantNo, _) = try Self.tenant(tenant, connection),
                let (no, _) = try Self.aggregate(aggregate, in: tenantNo, connection)
            else { return nil }
            let select = try connection.statement(.selectKeyOfVersion)
            select.bind(1, no)
            select.bind(2, Int64(version.rawValue))
            return try select.firstRow { EventKeys.position(of: $0.integer(0)) }
        }
    }

    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        try read { connection throws(SQLiteFault) in
            guard let (tenantNo, _) = try Self.tenant(tenant, connection),
                let (no, _) = try Self.aggregate(aggregate, in: tenantNo, connection)
            else { return EventPage() }
            let select = try connection.statement(
                bounds.direction == .forward ? .pageOfAggregate : .pageOfAggregateBackward)
            select.bind(1, no)
            select.bind(2, Int64(clamping: range.after.rawValue))
            select.bind(3, Int64(clamping: range.to.rawValue))
            return try Self.page(select, bounds)
        }
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        let end = bounds.direction == .forward ? range.to : range.after.next
        return try read { connection throws(SQLiteFault) in
            guard range.after < range.to, let (no, _) = try Self.tenant(tenant, connection) else {
                return EventPage(scannedTo: end)
            }
            let scanned = range.scanned(filter: filter, bounds: bounds)
            let select = try connection.statement(Self.query(filter, bounds.direction))
            select.bind(1, EventKeys.bound(no, scanned.after))
            select.bind(2, EventKeys.bound(no, scanned.to))
            if !filter.isEmpty {
                select.bind(3, Self.array(filter.eventTypes.map(\.text)))
                select.bind(4, Self.array(filter.aggregateTypes.map(\.text)))
                select.bind(5, Self.array(filter.aggregateIDs.map { $0.uuidString.filter { $0 != "-" } }))
            }
            var page = try Self.page(select, bounds)
            page.complete(scanned: scanned, of: range, bounds.direction)
            return page
        }
    }

    // MARK: How it is done

    private func read<Value>(
        _ body: (SQLiteConnection) throws(SQLiteFault) -> Value
    ) throws(StorageError) -> Value {
        let open = connection
        // Kept only when all goes well.
        connection = nil
        try file.check()
        let used = if let open { open } else { try SQLiteConnection(path: file.path, creates: false) }
        do throws(SQLiteFault) {
            let value = try body(used)
            connection = used
            return value
        } catch { throw error.storageError }
    }

    private static func tenant(
        _ id: TenantID, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> (no: Int64, head: TenantHead)? {
        let select = try connection.statement(.selectTenant)
        select.bind(1, id.uuid)
        return try select.firstRow { row in
            (
                row.integer(0),
                TenantHead(
                    position: Position(UInt64(row.integer(1))), recordedAt: Timestamp(microseconds: row.integer(2)))
            )
        }
    }

    private static func aggregate(
        _ name: AggregateName, in tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> (no: Int64, version: Version)? {
        let select = try connection.statement(.selectAggregate)
        select.bind(1, tenantNo)
        select.bind(2, name.id)
        select.bind(3, name.type.text)
        return try select.firstRow { ($0.integer(0), Version(UInt64($0.integer(1)))) }
    }

    private static func query(_ filter: EventFilter, _ direction: Direction) -> Query {
        switch (filter.isEmpty, direction) {
        case (true, .forward): .page
        case (true, .backward): .pageBackward
        case (false, .forward): .filteredPage
        case (false, .backward): .filteredPageBackward
        }
    }

    /// Rows of (key, version, record), until the bounds.
    private static func page(_ select: SQLiteStatement, _ bounds: PageBounds) throws(SQLiteFault) -> EventPage {
        var page = EventPage()
        try select.forEachRow { row in
            let record = unsafe row.blob(2)
            guard page.count < bounds.eventsMax,
                page.count == 0
                    || page.entries.readableBytes + RecordedEntries.entryBytes(recordBytes: record.count)
                        <= bounds.bytesMax
            else {
                page.isLast = false
                return false
            }
            unsafe RecordedEntries.write(record: record, to: &page.entries)
            page.count += 1
            page.lastPosition = EventKeys.position(of: row.integer(0))
            page.lastVersion = Version(UInt64(row.integer(1)))
            return true
        }
        return page
    }

    /// The last index in `1...count` for which `holds` is true, where it is true up to some index and false from
    /// there on; 0 where it is never true.
    private static func lastIndex(
        upTo count: UInt64, _ holds: (UInt64) throws(SQLiteFault) -> Bool
    ) throws(SQLiteFault) -> UInt64 {
        var low: UInt64 = 0
        var high = count
        while low < high {
            let middle = low + (high - low + 1) / 2
            if try holds(middle) { low = middle } else { high = middle - 1 }
        }
        return low
    }

    /// A JSON array of texts; nil for none, which stands for all.
    private static func array(_ values: [String]) -> String? {
        guard !values.isEmpty else { return nil }
        let bytes = try? JSONEncoder().encode(values)
        return bytes.map { String(decoding: $0, as: UTF8.self) }
    }
}
