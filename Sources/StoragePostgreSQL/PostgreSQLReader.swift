import EventEncoding
import EventModel
import EventStorage
import FoundationEssentials
import NIOCore

/// Reads; used by one thread. Every call is one statement, and so one snapshot.
final class PostgreSQLReader: StorageReader {
    /// Rows of one page: few enough for memory, as the byte bound is kept by the database.
    private static let rowsMin = 16
    private static let rowsMax = 4_096
    /// An event is rarely smaller.
    private static let eventBytesGuess = 128

    private let connectionString: String
    private let schema: Schema
    private var connection: PostgresConnection?

    init(connectionString: String, schema: Schema) {
        self.connectionString = connectionString
        self.schema = schema
    }

    func standings(of tenants: [TenantID]) throws(StorageError) -> [TenantStanding] {
        let rows = try run("standings", [PostgresValue(tenants.map(\.uuid))])
        var standings = [TenantStanding](repeating: .empty, count: tenants.count)
        for row in 0..<rows.rowCount {
            standings[Int(rows.integer(row, 0)) - 1] = TenantStanding(
                head: TenantHead(
                    position: Position(UInt64(rows.integer(row, 1))),
                    recordedAt: Timestamp(microseconds: rows.integer(row, 2))),
                settingsRevision: UInt64(rows.integer(row, 3)))
        }
        return standings
    }

    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
        let rows = try run("settings", [PostgresValue(tenant.uuid)])
        var settings = StoredSettings()
        for row in 0..<rows.rowCount {
            settings.revision = UInt64(rows.integer(row, 0))
            if rows.isNull(row, 1) { continue }
            settings.documents[SettingsKind(rawValue: rows.text(row, 1))] = unsafe ByteBuffer(bytes: rows.bytes(row, 2))
        }
        return settings
    }

    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotKey] {
        let rows = try run("snapshots", Self.name(aggregate, tenant))
        return (0..<rows.rowCount).map { row in
            SnapshotKey(
                version: Version(UInt64(rows.integer(row, 0))),
                schemaVersion: UInt32(truncatingIfNeeded: rows.integer(row, 1)))
        }
    }

    func snapshot(
        of aggregate: AggregateName, in tenant: TenantID, at version: Version
    ) throws(StorageError) -> StoredSnapshot? {
        guard version <= .max else { return nil }
        let rows = try run("snapshot", Self.name(aggregate, tenant) + [PostgresValue(Int64(version.rawValue))])
        guard rows.rowCount > 0 else { return nil }
        return StoredSnapshot(
            snapshot: Snapshot(
                version: Version(UInt64(rows.integer(0, 0))), createdAt: Timestamp(microseconds: rows.integer(0, 1)),
                schemaVersion: UInt32(truncatingIfNeeded: rows.integer(0, 2)), contentType: rows.text(0, 3),
                payload: unsafe ByteBuffer(bytes: rows.bytes(0, 5))),
            checksum: UInt32(truncatingIfNeeded: rows.integer(0, 4)))
    }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        let rows = try run("position_as_of", [PostgresValue(tenant.uuid), PostgresValue(time.microseconds)])
        return rows.rowCount == 0 ? .start : Position(UInt64(rows.integer(0, 0)))
    }

    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version {
        let rows = try run(
            "version_as_of", Self.name(aggregate, tenant) + [PostgresValue(Int64(clamping: position.rawValue))])
        return rows.rowCount == 0 ? .none : Version(UInt64(rows.integer(0, 0)))
    }

    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position? {
        guard version <= .max else { return nil }
        let rows = try run(
            "position_of", Self.name(aggregate, tenant) + [PostgresValue(Int64(version.rawValue))])
        return rows.rowCount == 0 ? nil : Position(UInt64(rows.integer(0, 0)))
    }

    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        let limit = Self.rows(bounds)
        let rows = try run(
            bounds.direction == .forward ? "aggregate_page" : "aggregate_page_backward",
            Self.name(aggregate, tenant) + [
                PostgresValue(Int64(clamping: range.after.rawValue)), PostgresValue(Int64(clamping: range.to.rawValue)),
                PostgresValue(Int64(bounds.bytesMax)), PostgresValue(Int64(limit)),
            ])
        return Self.page(rows, limit, bounds)
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        guard range.after < range.to else {
            return EventPage(scannedTo: bounds.direction == .forward ? range.to : range.after.next)
        }
        let scanned = range.scanned(filter: filter, bounds: bounds)
        let limit = Self.rows(bounds)
        var parameters = [
            PostgresValue(tenant.uuid), PostgresValue(Int64(clamping: scanned.after.rawValue)),
            PostgresValue(Int64(clamping: scanned.to.rawValue)), PostgresValue(Int64(bounds.bytesMax)),
            PostgresValue(Int64(limit)),
        ]
        var statement = "page"
        if !filter.isEmpty {
            statement = "filtered_page"
            parameters += [
                filter.eventTypes.isEmpty ? .null : PostgresValue(filter.eventTypes.map(\.text)),
                filter.aggregateTypes.isEmpty ? .null : PostgresValue(filter.aggregateTypes.map(\.text)),
                filter.aggregateIDs.isEmpty ? .null : PostgresValue(Array(filter.aggregateIDs)),
            ]
        }
        if bounds.direction == .backward { statement += "_backward" }
        var page = Self.page(try run(statement, parameters), limit, bounds)
        page.complete(scanned: scanned, of: range, bounds.direction)
        return page
    }

    // MARK: How it is done

    private func run(_ statement: String, _ parameters: [PostgresValue]) throws(StorageError) -> PostgresResult {
        // A connection that broke while it was idle says so only now: a read can simply be done again.
        for isLastAttempt in [false, true] {
            do throws(PostgresFault) {
                return try open().run(statement, parameters)
            } catch {
                if error.isConnectionLost { connection = nil }
                guard error.isConnectionLost, !isLastAttempt else { throw error.storageError }
            }
        }
        preconditionFailure("the last attempt returns or throws")
    }

    private func open() throws(PostgresFault) -> PostgresConnection {
        if let connection { return connection }
        let opened = try PostgresConnection(connectionString, statements: schema.readerStatements)
        // A filter's arrays of any length get the same plan, by the primary key.
        try opened.run("SET statement_timeout = '60s'; SET default_transaction_read_only = on; SET jit = off;")
        connection = opened
        return opened
    }

    private static func name(_ aggregate: AggregateName, _ tenant: TenantID) -> [PostgresValue] {
        [PostgresValue(tenant.uuid), PostgresValue(aggregate.id), PostgresValue(aggregate.type.text)]
    }

    private static func rows(_ bounds: PageBounds) -> Int {
        min(bounds.eventsMax, max(rowsMin, min(rowsMax, bounds.bytesMax / eventBytesGuess)))
    }

    /// Rows of (position, version, record, how many were found within the limit).
    private static func page(_ rows: PostgresResult, _ limit: Int, _ bounds: PageBounds) -> EventPage {
        var page = EventPage()
        for row in 0..<rows.rowCount {
            let record = unsafe rows.bytes(row, 2)
            let entryBytes = RecordedEntries.entryBytes(recordBytes: record.count)
            guard page.count == 0 || page.entries.readableBytes + entryBytes <= bounds.bytesMax else { break }
            unsafe RecordedEntries.write(record: record, to: &page.entries)
            page.count += 1
            page.lastPosition = Position(UInt64(rows.integer(row, 0)))
            page.lastVersion = Version(UInt64(rows.integer(row, 1)))
        }
        let found = rows.rowCount == 0 ? 0 : Int(rows.integer(0, 3))
        page.isLast = found < limit && page.count == found
        return page
    }
}
