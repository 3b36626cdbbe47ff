import FoundationEssentials
import MartletModel
import MartletRecordCodec
public import MartletStorage
import NIOCore

/// Checks everything that must be true of the tables of a server, whether one uses them or not.
///
/// All of it is one read-only transaction, so that it sees one state. Memory does not grow with the history. It blocks.
public struct DatabaseCheck {
    /// The result of a check.
    public struct Outcome: Sendable {
        /// What was checked: `schema`, `events`, `heads`, `aggregates`, `snapshots`, `documents`, `consumers`, `schedules`,
        /// `indexes`.
        public var subject: String
        /// What it looked at.
        public var summary: String
        /// Events that it looked at; 0 where it is not about events.
        public var events: UInt64 = 0
        /// How many things are not as they must be.
        public var findingsCount = 0
        /// The first of them, a line each: at most 20.
        public var findings: [String] = []

        mutating func find(_ text: String) {
            findingsCount += 1
            if findings.count < DatabaseCheck.findingsMax { findings.append(text) }
        }
    }

    static let findingsMax = 20

    private let connectionString: String
    private let schema: Schema

    /// A check of a database's schema.
    public init(connectionString: String, schema: String = "martlet") {
        self.connectionString = connectionString
        self.schema = Schema(name: schema)
    }

    /// Runs the checks.
    /// - Parameter onOutcome: called for each check once it is done.
    /// - Returns: the number of findings.
    /// - Throws: ``StorageError``; `unavailable` where the database cannot be reached.
    public func run(onOutcome: (Outcome) -> Void) throws(StorageError) -> Int {
        do throws(PostgresFault) {
            let connection = try PostgresConnection(connectionString, statements: [])
            try connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return try run(on: connection, onOutcome: onOutcome)
        } catch { throw error.storageError }
    }

    /// Runs the checks in the transaction that the connection is in.
    func run(on connection: PostgresConnection, onOutcome: (Outcome) -> Void) throws(PostgresFault) -> Int {
        try connection.run(
            """
            SET LOCAL search_path = \(schema.name), pg_catalog; SET LOCAL statement_timeout = 0; DEALLOCATE ALL;
            """)
        var total = 0
        func tell(_ outcome: Outcome) {
            total += outcome.findingsCount
            onOutcome(outcome)
        }
        let version = try connection.run("SELECT version FROM schema_version")
        var first = Outcome(subject: "schema", summary: "schema version \(Schema.version)")
        let found = version.rowCount == 0 ? "none" : version.text(0, 0)
        if found != "\(Schema.version)" {
            first.find(
                "found schema version \(found), expected \(Schema.version): start a server of this version on it")
        }
        tell(first)
        guard first.findingsCount == 0 else { return total }
        let checks: [(PostgresConnection) throws(PostgresFault) -> Outcome] = [
            events, heads, aggregates, snapshots, documents, consumers, schedules, IndexCheck(schema: schema).check,
        ]
        for check in checks { tell(try attempt(check, connection)) }
        return total
    }

    /// Runs a check. That PostgreSQL cannot read its own pages is a finding.
    private func attempt(
        _ check: (PostgresConnection) throws(PostgresFault) -> Outcome, _ connection: PostgresConnection
    ) throws(PostgresFault) -> Outcome {
        try connection.run("SAVEPOINT checked")
        do throws(PostgresFault) { return try check(connection) } catch {
            guard !error.isConnectionLost else { throw error }
            try connection.run("ROLLBACK TO checked")
            var outcome = Outcome(subject: "pages", summary: "PostgreSQL cannot read any further")
            outcome.find("found \(error.message) (\(error.sqlState)), expected readable tables: restore a backup")
            return outcome
        }
    }

    // MARK: Events

    private static let rowsMax = 500

    /// Each record fits its checksum, and says what its row's columns say; positions are without a gap.
    private func events(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        var outcome = Outcome(subject: "events", summary: "")
        var withoutChecksum: UInt64 = 0
        var (tenantNo, position, recordedAt) = (Int64.min, Int64(0), Int64.min)
        try connection.prepare(
            "check_events",
            """
            SELECT t.id, e.tenant_no, e.position, e.version, e.recorded_at, e.event_id, e.type, e.content_type,
                   e.schema_version::bigint, e.payload_bytes::bigint, e.record, a.type, a.id
            FROM events e LEFT JOIN tenants t ON t.no = e.tenant_no
            LEFT JOIN aggregates a ON a.tenant_no = e.tenant_no AND a.no = e.aggregate_no
            WHERE (e.tenant_no, e.position) > ($1::bigint, $2::bigint)
            ORDER BY e.tenant_no, e.position LIMIT \(Self.rowsMax)
            """)
        while true {
            let rows = try connection.run(
                PostgresCall("check_events", [PostgresValue(tenantNo), PostgresValue(position)]))
            for row in 0..<rows.rowCount {
                let no = rows.integer(row, 1)
                if no != tenantNo { (position, recordedAt) = (0, Int64.min) }
                let place = "\(Self.tenant(rows, row, no)), position \(rows.integer(row, 2))"
                if rows.integer(row, 2) != position + 1 {
                    outcome.find(
                        "\(place): found an event, expected the next one at \(position + 1): restore a backup")
                }
                if rows.integer(row, 4) < recordedAt {
                    outcome.find("\(place): its time is before that of the previous event: restore a backup")
                }
                (tenantNo, position, recordedAt) = (no, rows.integer(row, 2), rows.integer(row, 4))
                outcome.events += 1
                switch Self.check(rows, row) {
                case .fits: break
                case .hasNoChecksum: withoutChecksum += 1
                case .wrong(let what): outcome.find("\(place): \(what): restore a backup")
                }
            }
            if rows.rowCount < Self.rowsMax { break }
        }
        outcome.summary = "\(outcome.events) events, \(withoutChecksum) without a checksum"
        return outcome
    }

    private enum RowVerdict {
        case fits
        case hasNoChecksum
        case wrong(String)
    }

    private static func tenant(_ rows: PostgresResult, _ row: Int32, _ no: Int64) -> String {
        let id = unsafe rows.isNull(row, 0) ? nil : UUID(bytes: rows.bytes(row, 0))
        return "tenant \(id.map { $0.uuidString.lowercased() } ?? "number \(no), which has no row")"
    }

    private static func check(_ rows: PostgresResult, _ row: Int32) -> RowVerdict {
        let record = unsafe rows.bytes(row, 10)
        guard let layout = unsafe RecordLayout(record, record: 0..<record.count) else {
            return .wrong("the record cannot be read")
        }
        guard let id = unsafe UUID(bytes: rows.bytes(row, 0)) else { return .wrong("the event belongs to no tenant") }
        let typed = unsafe record.assumingMemoryBound(to: UInt8.self)
        let verdict = unsafe layout.outline.storedVerdict(in: typed.span, tenant: TenantID(id))
        if verdict == .damaged { return .wrong("the event does not match its checksum") }
        func isPart(_ range: Range<Int>, _ column: Int32) -> Bool {
            unsafe UnsafeRawBufferPointer(rebasing: record[range]).elementsEqual(rows.bytes(row, column))
        }
        let columns: [(String, Bool)] = [
            ("position", layout.position.rawValue == UInt64(bitPattern: rows.integer(row, 2))),
            ("version", layout.version.rawValue == UInt64(bitPattern: rows.integer(row, 3))),
            ("recorded_at", layout.recordedAt.microseconds == rows.integer(row, 4)),
            ("event_id", isPart(layout.eventID, 5)), ("type", isPart(layout.eventType, 6)),
            ("content_type", isPart(layout.contentType, 7)),
            ("schema_version", Int64(Int32(bitPattern: layout.schemaVersion)) == rows.integer(row, 8)),
            ("payload_bytes", Int64(layout.payload.count) == rows.integer(row, 9)),
            ("aggregate_no", isPart(layout.aggregateType, 11) && isPart(layout.aggregateID, 12)),
        ]
        let wrong = columns.filter { !$0.1 }.map(\.0)
        guard wrong.isEmpty else {
            return .wrong("columns \(wrong.joined(separator: ", ")) differ from the record")
        }
        return verdict == .missing ? .hasNoChecksum : .fits
    }

    // MARK: What SQL can tell

    /// Runs a statement whose rows are findings: a place, and what is wrong there.
    private func search(
        _ outcome: inout Outcome, _ connection: PostgresConnection, _ sql: String, next: String = "restore a backup"
    ) throws(PostgresFault) {
        let rows = try connection.run(sql)
        for row in 0..<rows.rowCount { outcome.find("\(rows.text(row, 0)): \(rows.text(row, 1)): \(next)") }
    }

    private func heads(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        let count = try connection.run("SELECT count(*) FROM tenants").text(0, 0)
        var outcome = Outcome(subject: "heads", summary: "\(count) tenants")
        try search(
            &outcome, connection,
            """
            SELECT 'tenant ' || t.id,
                   format('head %s at %s, event %s, %s aggregates; its events have %s at %s, event %s, %s aggregates',
                          t.position, t.recorded_at, t.head_id, t.aggregate_count, coalesce(e.position, 0),
                          coalesce(e.recorded_at, 0), e.event_id, a.count)
            FROM tenants t
            LEFT JOIN LATERAL (
                SELECT position, recorded_at, event_id FROM events WHERE tenant_no = t.no
                ORDER BY position DESC LIMIT 1) e ON true
            CROSS JOIN LATERAL (SELECT count(*) AS count FROM aggregates WHERE tenant_no = t.no) a
            WHERE (t.position, t.recorded_at, t.aggregate_count)
                      IS DISTINCT FROM (coalesce(e.position, 0), coalesce(e.recorded_at, 0), a.count)
               OR t.head_id IS DISTINCT FROM e.event_id
            """)
        return outcome
    }

    private func aggregates(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        let count = try connection.run("SELECT count(*) FROM aggregates").text(0, 0)
        var outcome = Outcome(subject: "aggregates", summary: "versions of \(count) aggregates")
        try search(
            &outcome, connection,
            """
            SELECT format('tenant number %s, aggregate %s/%s', a.tenant_no, a.type, a.id),
                   'versions have a gap, are not in position order, or have other sizes than their records'
            FROM aggregates a LEFT JOIN (
                SELECT tenant_no, aggregate_no, count(*) AS count, max(version) AS last, min(version) AS first,
                       bool_and(position > before) AS rises, bool_and(coalesce(aggregate_bytes = bytes, true)) AS fits,
                       coalesce(sum(octet_length(record)) FILTER (WHERE aggregate_bytes IS NULL), 0) AS bytes_v3
                FROM (SELECT *, lag(position, 1, 0::bigint) OVER w AS before,
                             sum(octet_length(record)) OVER w AS bytes
                      FROM events WINDOW w AS (PARTITION BY tenant_no, aggregate_no ORDER BY version)) e
                GROUP BY tenant_no, aggregate_no) e ON e.tenant_no = a.tenant_no AND e.aggregate_no = a.no
            WHERE (e.count = e.last AND e.first = 1 AND e.rises AND e.fits) IS NOT TRUE OR a.bytes_v3 <> e.bytes_v3
            """)
        try search(
            &outcome, connection,
            """
            SELECT format('tenant number %s, aggregate %s/%s', a.tenant_no, a.type, a.id),
                   format('found newest snapshot of version %s, expected %s',
                          a.snapshot_version, coalesce(s.version, 0))
            FROM aggregates a LEFT JOIN (
                SELECT tenant_no, aggregate_no, max(version) AS version FROM snapshots GROUP BY 1, 2) s
                ON s.tenant_no = a.tenant_no AND s.aggregate_no = a.no
            WHERE a.snapshot_version <> coalesce(s.version, 0)
            """)
        // When the newest snapshot was saved, the aggregate had at least the events up to its version.
        try search(
            &outcome, connection,
            """
            SELECT format('tenant number %s, aggregate %s/%s', a.tenant_no, a.type, a.id),
                   format('found %s bytes of records when its newest snapshot was saved, expected %s to %s',
                          a.snapshot_bytes, b.least, b.most)
            FROM aggregates a CROSS JOIN LATERAL (
                SELECT CASE WHEN a.snapshot_version = 0 THEN 0 ELSE coalesce(sum(octet_length(record)), 0) END AS most,
                       coalesce(sum(octet_length(record)) FILTER (WHERE version <= a.snapshot_version), 0) AS least
                FROM events WHERE tenant_no = a.tenant_no AND aggregate_no = a.no) b
            WHERE (a.snapshot_version, a.snapshot_bytes) <> (0, 0) AND a.snapshot_bytes NOT BETWEEN b.least AND b.most
            """, next: "save a snapshot of it")
        return outcome
    }

    private func snapshots(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        var outcome = Outcome(subject: "snapshots", summary: "")
        var count = 0
        try connection.prepare(
            "check_snapshots",
            """
            SELECT t.id, s.tenant_no, s.aggregate_no, s.version, s.created_at, s.schema_version, s.content_type,
                   s.checksum, s.payload, s.seal, s.payload_bytes, a.type, a.id
            FROM snapshots s LEFT JOIN tenants t ON t.no = s.tenant_no
            LEFT JOIN aggregates a ON a.tenant_no = s.tenant_no AND a.no = s.aggregate_no
            WHERE (s.tenant_no, s.aggregate_no, s.version) > ($1::bigint, $2::bigint, $3::bigint)
            ORDER BY s.tenant_no, s.aggregate_no, s.version LIMIT 16
            """)
        var key = [Int64.min, Int64.min, Int64.min]
        while true {
            let rows = try connection.run(PostgresCall("check_snapshots", key.map { PostgresValue($0) }))
            for row in 0..<rows.rowCount {
                count += 1
                key = (1...3).map { rows.integer(row, $0) }
                let place =
                    "\(Self.tenant(rows, row, key[0])), aggregate number \(key[1]), snapshot of version \(key[2])"
                guard let tenant = unsafe UUID(bytes: rows.bytes(row, 0)), let type = AggregateType(rows.text(row, 11)),
                    let id = unsafe UUID(bytes: rows.bytes(row, 12))
                else {
                    outcome.find("\(place): it belongs to no aggregate: delete it")
                    continue
                }
                let stored = StoredSnapshot(
                    snapshot: Snapshot(
                        version: Version(UInt64(clamping: key[2])),
                        createdAt: Timestamp(microseconds: rows.integer(row, 4)),
                        schemaVersion: UInt32(truncatingIfNeeded: rows.integer(row, 5)),
                        contentType: rows.text(row, 6), payload: unsafe ByteBuffer(bytes: rows.bytes(row, 8))),
                    checksum: UInt32(truncatingIfNeeded: rows.integer(row, 7)))
                let name = AggregateName(type: type, id: id)
                let seal = Int64(stored.seal(of: name, in: TenantID(tenant)))
                let isSealed = rows.isNull(row, 9) || rows.integer(row, 9) == seal
                guard stored.isIntact, isSealed, 1...Int64(UInt32.max) ~= rows.integer(row, 5),
                    rows.integer(row, 10) == Int64(stored.snapshot.payload.readableBytes),
                    Int64(stored.checksum) == rows.integer(row, 7)
                else {
                    outcome.find(
                        "\(place): it does not match its checksum: delete the aggregate's snapshots with martlet "
                            + "snapshots delete")
                    continue
                }
            }
            if rows.rowCount < 16 { break }
        }
        outcome.summary = "\(count) snapshots"
        return outcome
    }

    private func documents(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        var outcome = Outcome(subject: "documents", summary: "")
        var count = 0
        try connection.prepare(
            "check_documents",
            """
            SELECT t.id, d.tenant_no, d.kind, d.key, d.revision, d.value, d.checksum, t.settings_revision
            FROM documents d LEFT JOIN tenants t ON t.no = d.tenant_no
            WHERE (d.tenant_no, d.kind, d.key) > ($1::bigint, $2::text, $3::text)
            ORDER BY d.tenant_no, d.kind, d.key LIMIT 16
            """)
        var key = (tenantNo: Int64.min, kind: "", key: "")
        while true {
            let rows = try connection.run(
                PostgresCall(
                    "check_documents",
                    [PostgresValue(key.tenantNo), PostgresValue(key.kind), PostgresValue(key.key)]))
            for row in 0..<rows.rowCount {
                key = (rows.integer(row, 1), rows.text(row, 2), rows.text(row, 3))
                if key.kind != "revision" { count += 1 }
                if let complaint = Self.document(rows, row) {
                    let tenant = Self.tenant(rows, row, key.tenantNo)
                    outcome.find("\(tenant), document \(key.kind) \(key.key): \(complaint)")
                }
            }
            if rows.rowCount < 16 { break }
        }
        outcome.summary = "\(count) documents"
        try search(
            &outcome, connection,
            """
            SELECT 'tenant ' || t.id,
                   format('settings revision %s, its copy says %s', t.settings_revision, coalesce(d.revision, 0))
            FROM tenants t LEFT JOIN documents d ON d.tenant_no = t.no AND d.kind = 'revision' AND d.key = ''
            WHERE t.settings_revision <> coalesce(d.revision, 0)
            """, next: "put its settings again")
        return outcome
    }

    private func schedules(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        var check = ScheduleCheck(connection)
        return try check.run()
    }

    private func consumers(_ connection: PostgresConnection) throws(PostgresFault) -> Outcome {
        var check = ConsumerCheck(connection)
        return try check.run()
    }

    /// What is wrong with a document, and the next step.
    private static func document(_ rows: PostgresResult, _ row: Int32) -> String? {
        guard let tenant = unsafe UUID(bytes: rows.bytes(row, 0)) else {
            return "it belongs to no tenant: restore a backup"
        }
        let sum = Seal.document(
            unsafe ByteBuffer(bytes: rows.bytes(row, 5)), kind: rows.text(row, 2), key: rows.text(row, 3),
            revision: UInt64(bitPattern: rows.integer(row, 4)), tenant: TenantID(tenant))
        if !rows.isNull(row, 6), rows.integer(row, 6) != Int64(sum) {
            return "it does not match its checksum: put it again"
        }
        guard rows.integer(row, 4) > rows.integer(row, 7) else { return nil }
        return "its revision \(rows.integer(row, 4)) is above the tenant's: put it again"
    }
}

extension PostgresConnection {
    /// Prepares a statement.
    func prepare(_ name: String, _ sql: String) throws(PostgresFault) {
        try run("PREPARE \(name) AS \(sql)")
    }
}
