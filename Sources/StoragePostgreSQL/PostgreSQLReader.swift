import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// Reads; used by one thread. A statement is one snapshot; where a page takes several, each goes on from the event that the
/// one before ended with.
final class PostgreSQLReader: StorageReader {
    private let connectionString: String
    private let schema: Schema
    /// Which schedules other servers see to.
    let owners: ScheduleOwners
    private let openConnections: OpenConnections
    /// What of one tenant was learned from its pages: nothing of it changes what another one gets.
    private var sizes = RecentlyUsed<TenantID, PageSizes>(countMax: 1_024)

    init(connectionString: String, schema: Schema, owners: ScheduleOwners, open: OpenConnections) {
        self.owners = owners
        self.connectionString = connectionString
        self.schema = schema
        openConnections = open
    }

    func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
        let rows = try run("tenantStates", [PostgresValue(tenants.map(\.uuid))])
        var tenantStates = [TenantState](repeating: .empty, count: tenants.count)
        for row in 0..<rows.rowCount {
            tenantStates[Int(rows.integer(row, 0)) - 1] = TenantState(
                head: TenantHead(
                    position: Position(try Self.unsigned(rows, row, 1)),
                    recordedAt: Timestamp(microseconds: rows.integer(row, 2)),
                    eventID: unsafe rows.isNull(row, 4) ? nil : UUID(bytes: rows.bytes(row, 4))),
                settingsRevision: try Self.unsigned(rows, row, 3))
        }
        return tenantStates
    }

    func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?] {
        let rows = try run("event_ids", Self.places(places))
        var ids = [UUID?](repeating: nil, count: places.count)
        for row in 0..<rows.rowCount {
            ids[Int(rows.integer(row, 0)) - 1] = unsafe UUID(bytes: rows.bytes(row, 1))
        }
        return ids
    }

    private static func places(_ places: [EventPlace]) -> [PostgresValue] {
        [
            PostgresValue(places.map(\.tenant.uuid)),
            PostgresValue(places.map { Int64(clamping: $0.position.rawValue) }),
        ]
    }

    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
        let rows = try run("settings", [PostgresValue(tenant.uuid)])
        var settings = StoredSettings()
        for row in 0..<rows.rowCount {
            settings.revision = try Self.unsigned(rows, row, 0)
            if rows.isNull(row, 1) { continue }
            let (key, value) = (rows.text(row, 1), unsafe ByteBuffer(bytes: rows.bytes(row, 2)))
            let sum = Seal.document(
                value, kind: "settings", key: key, revision: UInt64(bitPattern: rows.integer(row, 3)), tenant: tenant)
            guard rows.isNull(row, 4) || rows.integer(row, 4) == Int64(sum) else {
                throw StorageError(
                    .corrupted, "the settings \(key) do not match their checksum: run martlet doctor --deep")
            }
            settings.documents[SettingsKind(rawValue: key)] = value
        }
        return settings
    }

    func consumers(
        of tenant: TenantID, after name: ConsumerName?, countMax: Int
    ) throws(StorageError) -> [NamedConsumer] {
        try rows(
            "consumers", [PostgresValue(tenant.uuid), PostgresValue(name?.text ?? ""), PostgresValue(Int64(countMax))]
        ) { row, rows throws(PostgresFault) in try rows.consumer(row, of: tenant) }
    }

    func tenants(
        withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(StorageError) -> [TenantID] {
        var statement = "tenants_with_consumer"
        var which = tenant.map { PostgresValue($0.uuid) } ?? .null
        if case .only(let tenants) = scope {
            statement = "named_tenants_with_consumer"
            which = PostgresValue(tenants.filter { one in tenant.map { one > $0 } ?? true }.sorted().map(\.uuid))
        }
        return try rows(statement, [PostgresValue(name.text), which, PostgresValue(Int64(countMax))]) {
            row, rows throws(PostgresFault) in try rows.tenant(row)
        }
    }

    func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
        let named = [PostgresValue(id.tenant.uuid), PostgresValue(id.name.text)]
        let found = try rows("consumer", named) { row, rows throws(PostgresFault) in
            try rows.consumer(row, of: id.tenant).consumer
        }
        guard let consumer = found.first else { return nil }
        let slots = try rows("slots", named) { row, rows throws(PostgresFault) in try rows.slot(row, of: id) }
        let workers = try rows("workers", named) { row, rows throws(PostgresFault) in try rows.worker(row) }
        return StoredGroup(
            consumer: consumer, slots: Dictionary(slots.map { ($0.number, $0.slot) }) { $1 },
            workers: Dictionary(workers.map { ($0.name, $0) }) { $1 },
            hasBlockedKeys: try blockedKeys(of: id, slot: nil, after: nil, countMax: 1).count > 0)
    }

    func blockedKeys(
        of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) throws(StorageError) -> [StoredBlockedKey] {
        let first = max(key?.slot.number ?? 0, slot ?? 0)
        // A key has at least one byte: none is above every key of the slot before.
        let after = key.map { $0.slot.number == first ? $0.key.bytes : [] } ?? []
        return try rows(
            "blocked_key_page",
            [
                PostgresValue(id.tenant.uuid), PostgresValue(id.name.text), PostgresValue(Int64(first)),
                PostgresValue(ByteBuffer(bytes: after)), PostgresValue(Int64(slot ?? ConsumerDefinition.slotsMax)),
                PostgresValue(Int64(countMax)),
            ]
        ) { row, rows throws(PostgresFault) in try rows.blockedKey(row, of: id) }
    }

    func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
        try rows("last_blocked_key", [PostgresValue(id.tenant.uuid), PostgresValue(id.name.text)]) {
            row, rows throws(PostgresFault) in try rows.blockedKey(row, of: id)
        }.first
    }

    private func rows<Value>(
        _ statement: String, _ values: [PostgresValue],
        _ body: (Int32, ConsumerRows) throws(PostgresFault) -> Value
    ) throws(StorageError) -> [Value] {
        let result = try run(statement, values)
        var found: [Value] = []
        do throws(PostgresFault) {
            for row in 0..<result.rowCount { found.append(try body(row, ConsumerRows(rows: result))) }
        } catch { throw error.storageError }
        return found
    }

    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
        let rows = try run("snapshots", Self.name(aggregate, tenant))
        var infos: [SnapshotInfo] = []
        for row in 0..<rows.rowCount {
            let bytes = rows.integer(row, 4)
            var info = SnapshotInfo(
                version: Version(try Self.unsigned(rows, row, 0)),
                createdAt: Timestamp(microseconds: rows.integer(row, 2)),
                schemaVersion: UInt32(try Self.unsigned(rows, row, 1, to: Int64(UInt32.max))),
                contentType: rows.text(row, 3), payloadBytes: Int(clamping: max(0, bytes)),
                isIntact: bytes == rows.integer(row, 5))
            let sum = UInt32(truncatingIfNeeded: rows.integer(row, 6))
            if !rows.isNull(row, 7),
                rows.integer(row, 7) != Int64(Seal.snapshot(info, checksum: sum, of: aggregate, in: tenant))
            {
                info.isIntact = false
            }
            infos.append(info)
        }
        return infos
    }

    func snapshot(
        of aggregate: AggregateName, in tenant: TenantID, at version: Version
    ) throws(StorageError) -> StoredSnapshot? {
        guard version <= .max else { return nil }
        let rows = try run("snapshot", Self.name(aggregate, tenant) + [PostgresValue(Int64(version.rawValue))])
        guard rows.rowCount > 0 else { return nil }
        var stored = StoredSnapshot(
            snapshot: Snapshot(
                version: Version(try Self.unsigned(rows, 0, 0)),
                createdAt: Timestamp(microseconds: rows.integer(0, 1)),
                schemaVersion: UInt32(try Self.unsigned(rows, 0, 2, to: Int64(UInt32.max))),
                contentType: rows.text(0, 3),
                payload: unsafe ByteBuffer(bytes: rows.bytes(0, 5))),
            checksum: UInt32(truncatingIfNeeded: rows.integer(0, 4)))
        stored.isSealed = rows.isNull(0, 6) || rows.integer(0, 6) == Int64(stored.seal(of: aggregate, in: tenant))
        return stored
    }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        let rows = try run("position_as_of", [PostgresValue(tenant.uuid), PostgresValue(time.microseconds)])
        return rows.rowCount == 0 ? .start : Position(try Self.unsigned(rows, 0, 0))
    }

    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version {
        let rows = try run(
            "version_as_of", Self.name(aggregate, tenant) + [PostgresValue(Int64(clamping: position.rawValue))])
        return rows.rowCount == 0 ? .none : Version(try Self.unsigned(rows, 0, 0))
    }

    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position? {
        guard version <= .max else { return nil }
        let rows = try run(
            "position_of", Self.name(aggregate, tenant) + [PostgresValue(Int64(version.rawValue))])
        return rows.rowCount == 0 ? nil : Position(try Self.unsigned(rows, 0, 0))
    }

    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        let page = try read(
            bounds.direction == .forward ? "aggregate_page" : "aggregate_page_backward", tenant,
            PageRange(after: Position(range.after.rawValue), to: Position(range.to.rawValue)), numbered: 1, bounds
        ) { after, to, following in
            Self.name(aggregate, tenant) + [after, to, following]
        }
        try RecordCheck(tenant: tenant).check(page, of: aggregate, versions: range, bounds.direction)
        return page
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        guard range.after < range.to else {
            return EventPage(scannedTo: bounds.direction == .forward ? range.to : range.after.next)
        }
        let scanned = range.scanned(filter: filter, bounds: bounds)
        var statement = "page"
        var conditions: [PostgresValue] = []
        var endEventID: UUID?
        if !filter.isEmpty {
            statement = "filtered_page"
            conditions = [
                filter.eventTypes.isEmpty ? .null : PostgresValue(filter.eventTypes.map(\.text)),
                filter.aggregateTypes.isEmpty ? .null : PostgresValue(filter.aggregateTypes.map(\.text)),
                filter.aggregateIDs.isEmpty ? .null : PostgresValue(Array(filter.aggregateIDs)),
            ]
            // Before the page: where the past changes in between, the next page does not fit.
            if bounds.marksEnd {
                let end = bounds.direction == .forward ? scanned.to : scanned.after.next
                endEventID = try eventIDs(at: [EventPlace(tenant: tenant, position: end)])[0]
                // There was an event there when the range was chosen.
                guard endEventID != nil else { throw .historyChanged }
            }
        }
        if bounds.direction == .backward { statement += "_backward" }
        var page = try read(statement, tenant, scanned, numbered: 0, bounds) { after, to, following in
            [PostgresValue(tenant.uuid), after, to, following] + conditions
        }
        page.complete(scanned: scanned, of: range, isFiltered: !filter.isEmpty, bounds.direction)
        if !filter.isEmpty, page.scannedTo != page.lastPosition { page.endEventID = endEventID }
        try RecordCheck(tenant: tenant).check(page, positions: range, filter: filter, bounds.direction)
        return page
    }

    // MARK: How it is done

    private static func unsigned(
        _ rows: PostgresResult, _ row: Int32, _ column: Int32, to max: Int64 = .max
    ) throws(StorageError) -> UInt64 {
        do throws(PostgresFault) { return try rows.unsigned(row, column, to: max) } catch { throw error.storageError }
    }

    func run(_ statement: String, _ parameters: [PostgresValue]) throws(StorageError) -> PostgresResult {
        // A connection that broke while it was idle says so only now: a read can simply be done again.
        for isLastAttempt in [false, true] {
            var used: PostgresConnection?
            do throws(PostgresFault) {
                let connection = try openConnections.connection(for: .reading, idle: openConnections.idleReaders.take) {
                    () throws(PostgresFault) in try open()
                }
                used = connection
                let result = try connection.run(PostgresCall(statement, parameters))
                giveBack(connection)
                return result
            } catch {
                if error.isConnectionLost {
                    openConnections.idleReaders.dropAll()
                } else if let used, !error.isOfSharedSession {
                    giveBack(used)
                }
                guard error.isConnectionLost, !isLastAttempt else { throw error.storageError }
            }
        }
        preconditionFailure("the last attempt returns or throws")
    }

    /// Settings of its sessions. The plans are those of look-ups by key, whatever the parameters and however young the
    /// statistics.
    static let settings = """
        SET statement_timeout = '60s';
        SET default_transaction_read_only = on;
        SET plan_cache_mode = force_generic_plan;
        SET enable_seqscan = off;
        SET enable_bitmapscan = off;
        SET enable_hashjoin = off;
        SET enable_mergejoin = off;
        SET enable_sort = off;
        SET jit = off;
        """

    private func open() throws(PostgresFault) -> PostgresConnection {
        let opened = try PostgresConnection(
            connectionString, statements: schema.readerStatements, in: openConnections, for: .reading)
        try opened.run(Self.settings)
        return opened
    }

    private func giveBack(_ connection: PostgresConnection) {
        guard openConnections.keeps(.reading) else { return }
        openConnections.idleReaders.giveBack(connection)
        openConnections.noteGivenBack()
    }

    private static func name(_ aggregate: AggregateName, _ tenant: TenantID) -> [PostgresValue] {
        [PostgresValue(tenant.uuid), PostgresValue(aggregate.id), PostgresValue(aggregate.type.text)]
    }

    /// Reads a page whose rows have the columns that a page has: with as many statements as it takes to fill it, or to come
    /// to the range's end, whatever was guessed of the events' sizes.
    ///
    /// - Parameters:
    ///   - range: of positions, or of versions.
    ///   - column: which of both numbers of a row it is of.
    ///   - parameters: those of the statement after the first two, for a range and the event before it.
    private func read(
        _ statement: String, _ tenant: TenantID, _ range: PageRange<Position>, numbered column: Int32,
        _ bounds: PageBounds,
        _ parameters: (_ after: PostgresValue, _ to: PostgresValue, _ following: PostgresValue) -> [PostgresValue]
    ) throws(StorageError) -> EventPage {
        var sizes = self.sizes.use(tenant) ?? PageSizes()
        defer { self.sizes.put(sizes, for: tenant) }
        var page = EventPage()
        page.endEventID = bounds.following
        var (range, rest) = (range, bounds)
        while true {
            rest.eventsMax = bounds.eventsMax - page.count
            rest.bytesMax = bounds.bytesMax - page.entries.readableBytes
            let limit = sizes.rows(rest)
            let rows = try run(
                statement,
                [PostgresValue(Int64(sizes.inlineMax(rest))), PostgresValue(Int64(limit))]
                    + parameters(
                        PostgresValue(Int64(clamping: range.after.rawValue)),
                        PostgresValue(Int64(clamping: range.to.rawValue)),
                        page.endEventID.map { PostgresValue($0) } ?? .null))
            let (count, bytes, missing) = Self.measure(rows, rest, takesOne: page.count == 0)
            try add(rows, count, bytes, missing, to: &page, tenant)
            sizes.note(bytes: bytes, of: Int(count))
            let isAll = rows.rowCount < limit
            guard count == rows.rowCount, !isAll, page.count < bounds.eventsMax,
                page.entries.readableBytes < bounds.bytesMax
            else {
                page.isLast = isAll && count == rows.rowCount
                if page.count == 0 { page.endEventID = nil }
                return page
            }
            let last = Position(try Self.unsigned(rows, count - 1, column))
            if bounds.direction == .forward { range.after = last } else { range.to = Position(last.rawValue - 1) }
        }
    }

    /// Adds the first so many rows to a page.
    private func add(
        _ rows: PostgresResult, _ count: Int32, _ bytes: Int, _ missing: [Int64], to page: inout EventPage,
        _ tenant: TenantID
    ) throws(StorageError) {
        guard count > 0 else { return }
        let records = missing.isEmpty ? [:] : try self.records(at: missing, tenant)
        page.entries.reserveCapacity(page.entries.readableBytes + bytes)
        for row in 0..<count {
            let position = rows.integer(row, 0)
            if rows.isNull(row, 3) {
                guard let record = records[position] else {
                    throw StorageError(.corrupted, "PostgreSQL: the event at position \(position) is gone")
                }
                RecordedEntries.write(record: record, to: &page.entries)
            } else {
                unsafe RecordedEntries.write(record: rows.bytes(row, 3), to: &page.entries)
            }
        }
        page.count += Int(count)
        page.lastPosition = Position(try Self.unsigned(rows, count - 1, 0))
        page.lastVersion = Version(try Self.unsigned(rows, count - 1, 1))
        page.endEventID = RecordedEntries.eventID(ofLast: Int(rows.int32(count - 1, 2)), in: page.entries)
    }

    /// How many rows fit the page, how many bytes their entries take, and where the records are that did not come.
    ///
    /// - Parameter takesOne: the first one fits, however large it is.
    private static func measure(
        _ rows: PostgresResult, _ bounds: PageBounds, takesOne: Bool
    ) -> (Int32, Int, missing: [Int64]) {
        var bytes = 0
        var missing: [Int64] = []
        for row in 0..<rows.rowCount {
            let entryBytes = RecordedEntries.entryBytes(recordBytes: Int(rows.int32(row, 2)))
            guard (row == 0 && takesOne) || bytes + entryBytes <= bounds.bytesMax else { return (row, bytes, missing) }
            bytes += entryBytes
            if rows.isNull(row, 3) { missing.append(rows.integer(row, 0)) }
        }
        return (rows.rowCount, bytes, missing)
    }

    private func records(at positions: [Int64], _ tenant: TenantID) throws(StorageError) -> [Int64: ByteBuffer] {
        let rows = try run("records", [PostgresValue(tenant.uuid), PostgresValue(positions)])
        var records: [Int64: ByteBuffer] = [:]
        for row in 0..<rows.rowCount {
            records[rows.integer(row, 0)] = unsafe ByteBuffer(bytes: rows.bytes(row, 1))
        }
        return records
    }
}
