import CMartletSQLite
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// Reads; used by one thread. Every statement is a read transaction of its own, and what several statements of
/// one call read is immutable but for the heads, which each call reads first.
final class SQLiteReader: StorageReader {
    private let file: DatabaseFile
    private var connection: SQLiteConnection?

    init(file: DatabaseFile) { self.file = file }

    /// The file's lock goes last.
    deinit { connection = nil }

    func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
        try read { connection throws(SQLiteFault) in
            try Self.atOnce(connection, statements: tenants.count) { () throws(SQLiteFault) in
                var tenantStates: [TenantState] = []
                for tenant in tenants {
                    tenantStates.append(try Self.tenant(tenant, connection)?.tenantState ?? .empty)
                }
                return tenantStates
            }
        }
    }

    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
        try read { connection throws(SQLiteFault) in
            try Self.atOnce(connection, statements: 2) { () throws(SQLiteFault) in
                guard let (no, tenantState) = try Self.tenant(tenant, connection) else { return StoredSettings() }
                var settings = StoredSettings(revision: tenantState.settingsRevision)
                let select = try connection.statement(.selectSettings)
                select.bind(1, no)
                try select.visit { row throws(SQLiteFault) in
                    let (key, value) = (row.text(0), unsafe ByteBuffer(bytes: row.blob(1)))
                    let sum = Seal.document(
                        value, kind: "settings", key: key, revision: UInt64(bitPattern: row.integer(2)), tenant: tenant)
                    guard row.isNull(3) || row.integer(3) == Int64(sum) else {
                        throw .corrupted("the settings \(key) do not match their checksum")
                    }
                    settings.documents[SettingsKind(rawValue: key)] = value
                }
                return settings
            }
        }
    }

    func consumers(
        of tenant: TenantID, after name: ConsumerName?, countMax: Int
    ) throws(StorageError) -> [NamedConsumer] {
        try consumerRows(of: tenant) { rows throws(SQLiteFault) in
            try rows.list(after: name, countMax: countMax)
        } ?? []
    }

    func tenants(
        withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(StorageError) -> [TenantID] {
        try read { connection throws(SQLiteFault) in
            try Self.atOnce(connection, statements: 2) { () throws(SQLiteFault) in
                try ConsumerTenantRows(name: name, connection: connection).list(
                    in: scope, after: tenant, countMax: countMax)
            }
        }
    }

    func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
        try consumerRows(of: id.tenant) { rows throws(SQLiteFault) in try rows.group(id.name) } ?? nil
    }

    func blockedKeys(
        of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) throws(StorageError) -> [StoredBlockedKey] {
        try consumerRows(of: id.tenant) { rows throws(SQLiteFault) in
            try rows.blockedKeys(of: id.name, slot: slot, after: key, countMax: countMax)
        } ?? []
    }

    func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
        try consumerRows(of: id.tenant) { rows throws(SQLiteFault) in try rows.lastBlockedKey(of: id.name) } ?? nil
    }

    private func consumerRows<Value>(
        of tenant: TenantID, _ body: (TenantConsumerRows) throws(SQLiteFault) -> Value
    ) throws(StorageError) -> Value? {
        try read { connection throws(SQLiteFault) in
            try Self.atOnce(connection, statements: 5) { () throws(SQLiteFault) in
                guard let (no, _) = try Self.tenant(tenant, connection) else { return nil }
                return try body(TenantConsumerRows(tenant: tenant, tenantNo: no, connection: connection))
            }
        }
    }

    func schedules(
        of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
    ) throws(StorageError) -> [ListedSchedule] {
        try read { connection throws(SQLiteFault) in
            try Self.atOnce(connection, statements: 2) { () throws(SQLiteFault) in
                guard let (no, _) = try Self.tenant(tenant, connection) else { return [] }
                return try TenantScheduleRows(tenant: tenant, tenantNo: no, connection: connection).list(
                    after: key, isParkedOnly: isParkedOnly, countMax: countMax)
            }
        }
    }

    func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
        try read { connection throws(SQLiteFault) in
            try Self.atOnce(connection, statements: 2 + question.tenantsMax) { () throws(SQLiteFault) in
                var found = DueSchedules()
                try found.find(question, connection)
                return found
            }
        }
    }

    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
        try read { connection throws(SQLiteFault) in
            guard let (tenantNo, _) = try Self.tenant(tenant, connection),
                let row = try AggregateRow.find(aggregate, in: tenantNo, connection)
            else { return [] }
            return try SnapshotRows.infos(of: row.no, aggregate, tenant, connection)
        }
    }

    func snapshot(
        of aggregate: AggregateName, in tenant: TenantID, at version: Version
    ) throws(StorageError) -> StoredSnapshot? {
        try read { connection throws(SQLiteFault) in
            guard let (tenantNo, _) = try Self.tenant(tenant, connection),
                let row = try AggregateRow.find(aggregate, in: tenantNo, connection)
            else { return nil }
            return try SnapshotRows.snapshot(of: row.no, aggregate, tenant, at: version, connection)
        }
    }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        try read { connection throws(SQLiteFault) in
            guard let (no, tenantState) = try Self.tenant(tenant, connection) else { return .start }
            let head = tenantState.head
            if head.recordedAt <= time { return head.position }
            // Commit times never decrease along positions.
            return Position(
                try Self.lastIndex(upTo: head.position.rawValue) { position throws(SQLiteFault) in
                    let recordedAt = try BlockRows.recordedAt(position, tenantNo: no, connection)
                    return (recordedAt ?? .max) <= time.microseconds
                })
        }
    }

    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version {
        try readAggregate(aggregate, in: tenant) { found, connection throws(SQLiteFault) in
            let isWithin = { (version: UInt64) throws(SQLiteFault) -> Bool in
                try BlockRows.position(of: version, aggregateNo: found.no, pending: found.pending, connection)
                    ?? .max <= position.rawValue
            }
            // Positions grow along versions. Most often the newest is asked for.
            let newest = try RangeRow.last(of: found.no, pending: found.pending, connection).version
            guard newest > 0 else { return Version.none }
            if try isWithin(newest) { return Version(newest) }
            return Version(try Self.lastIndex(upTo: newest - 1, isWithin))
        } ?? .none
    }

    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position? {
        guard .none < version, version <= .max else { return nil }
        return try readAggregate(aggregate, in: tenant) { found, connection throws(SQLiteFault) in
            try BlockRows.position(
                of: version.rawValue, aggregateNo: found.no, pending: found.pending, connection
            ).map { Position($0) }
        } ?? nil
    }

    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        let page = try readAggregate(aggregate, in: tenant) { found, connection throws(SQLiteFault) in
            try BlockRows.page(
                aggregateNo: found.no, tenantNo: found.tenantNo, versions: range, bounds: bounds,
                pending: found.pending, connection)
        }
        guard let page else { return EventPage() }
        try RecordCheck(tenant: tenant).check(page, of: aggregate, versions: range, bounds.direction)
        return page
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        let end = bounds.direction == .forward ? range.to : range.after.next
        let page = try read { connection throws(SQLiteFault) in
            guard range.after < range.to, let (no, tenantState) = try Self.tenant(tenant, connection) else {
                return EventPage(scannedTo: end)
            }
            let scanned = range.scanned(filter: filter, bounds: bounds)
            var page = try BlockRows.page(scanned, tenantNo: no, filter: filter, bounds: bounds, connection)
            page.complete(scanned: scanned, of: range, isFiltered: !filter.isEmpty, bounds.direction)
            // The file is this server's alone: what the head counts and is not there is lost.
            if filter.isEmpty, page.isLast, bounds.direction == .forward,
                page.scannedTo < min(range.to, tenantState.head.position)
            {
                throw .corrupted("the events of tenant \(no) after position \(page.scannedTo) are missing")
            }
            return page
        }
        try RecordCheck(tenant: tenant).check(page, positions: range, filter: filter, bounds.direction)
        return page
    }

    // MARK: How it is done

    private func read<Value>(
        _ body: (SQLiteConnection) throws(SQLiteFault) -> Value
    ) throws(StorageError) -> Value {
        file.gate.enter()
        defer { file.gate.leave() }
        let open = connection
        // Kept only when all goes well.
        connection = nil
        try file.check()
        let used = if let open { open } else { try file.open() }
        do throws(SQLiteFault) {
            let value = try body(used)
            connection = used
            return value
        } catch { throw error.storageError }
    }

    /// An aggregate, as one state has it.
    private struct FoundAggregate {
        var no: Int64
        var tenantNo: Int64
        /// Its ranges that may not be in the table yet.
        var pending: [RangeRow]
    }

    /// Reads of an aggregate in one transaction, with what of it is in memory only; nil where there is none.
    private func readAggregate<Value>(
        _ name: AggregateName, in tenant: TenantID,
        _ body: (FoundAggregate, SQLiteConnection) throws(SQLiteFault) -> Value
    ) throws(StorageError) -> Value? {
        try read { connection throws(SQLiteFault) in
            while true {
                let generation = try RangeRecovery.refresh(file.ranges, connection)
                try connection.statement(.beginRead).run()
                let found = try Self.tenant(tenant, connection)
                if let found { try file.ranges.check(tenantNo: found.no) }
                guard let (tenantNo, tenantState) = found,
                    let row = try AggregateRow.find(name, in: tenantNo, connection)
                else {
                    try connection.statement(.commit).run()
                    return nil
                }
                var (pending, now) = file.ranges.rows(of: row.no)
                guard now == generation else {
                    // Some went into the table after this transaction began.
                    try connection.statement(.commit).run()
                    continue
                }
                let head = tenantState.head.position.rawValue
                while let last = pending.last, last.lastPosition > head { pending.removeLast() }
                let value = try body(FoundAggregate(no: row.no, tenantNo: tenantNo, pending: pending), connection)
                try connection.statement(.commit).run()
                return value
            }
        }
    }

    /// Several statements in one transaction: what one commit moved is seen together.
    private static func atOnce<Value>(
        _ connection: SQLiteConnection, statements: Int, _ body: () throws(SQLiteFault) -> Value
    ) throws(SQLiteFault) -> Value {
        guard statements > 1 else { return try body() }
        try connection.statement(.beginRead).run()
        let value = try body()
        try connection.statement(.commit).run()
        return value
    }

    private static func tenant(
        _ id: TenantID, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> (no: Int64, tenantState: TenantState)? {
        let select = try connection.statement(.selectTenant)
        select.bind(1, id.uuid)
        return try select.firstRow { row throws(SQLiteFault) in
            (
                row.integer(0),
                TenantState(
                    head: TenantHead(
                        position: Position(try row.unsigned(1)), recordedAt: Timestamp(microseconds: row.integer(2)),
                        eventID: unsafe UUID(bytes: row.blob(4))),
                    settingsRevision: try row.unsigned(3))
            )
        }
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
}
