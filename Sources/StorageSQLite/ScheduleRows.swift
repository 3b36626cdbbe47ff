import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Schedules: see Docs/decisions/0048.
enum ScheduleTables {
    static let migration = """
        DROP TABLE schedules;   -- nothing was ever written to it

        CREATE TABLE schedules (
            no             INTEGER PRIMARY KEY,
            tenant_no      INTEGER NOT NULL,
            key            TEXT    NOT NULL,
            due            INTEGER NOT NULL,    -- microseconds since 1970 UTC
            aggregate_type TEXT    NOT NULL,
            aggregate_id   BLOB    NOT NULL,
            event_id       BLOB    NOT NULL,
            event_type     TEXT    NOT NULL,
            content_type   TEXT    NOT NULL,
            schema_version INTEGER NOT NULL,
            payload_bytes  INTEGER NOT NULL,    -- the payload is the tail of the event
            lateness_max   INTEGER,             -- milliseconds; NULL: however late
            checksum       INTEGER NOT NULL,    -- CRC-32C of the event
            seal           INTEGER NOT NULL,    -- CRC-32C of all that stands before, and of whom
            parked         TEXT,                -- why it is set aside; NULL: it is not
            parked_seal    INTEGER,             -- CRC-32C of that, and of what
            event          BLOB    NOT NULL,    -- the encoded Event
            UNIQUE (tenant_no, key)
        ) STRICT;
        CREATE INDEX schedules_by_due ON schedules (tenant_no, due, key) WHERE parked IS NULL;
        CREATE INDEX parked_schedules ON schedules (tenant_no, key) WHERE parked IS NOT NULL;

        CREATE TABLE schedule_tenants (
            tenant_no INTEGER PRIMARY KEY,
            count     INTEGER NOT NULL,     -- of its schedules
            due       INTEGER,              -- the first of those that are not set aside; NULL: none
            seal      INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX schedule_tenants_by_due ON schedule_tenants (due) WHERE due IS NOT NULL;
        """

    static let columns = """
        key, due, aggregate_type, aggregate_id, event_id, event_type, content_type, schema_version, payload_bytes,
        lateness_max, checksum, seal, parked, parked_seal
        """

    static func sql(_ query: Query) -> String {
        switch query {
        case .selectScheduleHead: "SELECT due, event_id, parked FROM schedules WHERE tenant_no = ?1 AND key = ?2"
        case .selectSchedules:
            "SELECT \(columns) FROM schedules WHERE tenant_no = ?1 AND key > ?2 ORDER BY key LIMIT ?3"
        case .selectParkedSchedules:
            """
            SELECT \(columns) FROM schedules
            WHERE tenant_no = ?1 AND key > ?2 AND parked IS NOT NULL ORDER BY key LIMIT ?3
            """
        case .selectEarliestSchedules:
            "SELECT key, due FROM schedules WHERE tenant_no = ?1 AND parked IS NULL ORDER BY due, key LIMIT ?2"
        case .selectDueSchedules:
            """
            SELECT \(columns), event FROM schedules
            WHERE tenant_no = ?1 AND parked IS NULL AND due <= ?2 ORDER BY due, key LIMIT ?3
            """
        case .selectScheduleTenant: "SELECT count, due, seal FROM schedule_tenants WHERE tenant_no = ?1"
        case .countSchedules: "SELECT count(*) FROM schedules WHERE tenant_no = ?1"
        case .selectDueTenants:
            """
            SELECT s.tenant_no, t.id FROM schedule_tenants s JOIN tenants t ON t.no = s.tenant_no
            WHERE s.due <= ?1 ORDER BY s.due LIMIT ?2
            """
        case .selectNextDue: "SELECT min(due) FROM schedule_tenants WHERE due > ?1"
        case .putSchedule:
            """
            INSERT OR REPLACE INTO schedules (
                tenant_no, key, due, aggregate_type, aggregate_id, event_id, event_type, content_type, schema_version,
                payload_bytes, lateness_max, checksum, seal, event)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
            """
        case .parkSchedule: "UPDATE schedules SET parked = ?3, parked_seal = ?4 WHERE tenant_no = ?1 AND key = ?2"
        case .deleteSchedule: "DELETE FROM schedules WHERE tenant_no = ?1 AND key = ?2"
        case .putScheduleTenant:
            "INSERT OR REPLACE INTO schedule_tenants (tenant_no, count, due, seal) VALUES (?1, ?2, ?3, ?4)"
        default: preconditionFailure("no statement of schedules")
        }
    }
}

/// Schedules of one tenant, in the transaction or the read that is open.
struct TenantScheduleRows {
    let tenant: TenantID
    let tenantNo: Int64
    let connection: SQLiteConnection

    // MARK: Reading

    func list(after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int) throws(SQLiteFault) -> [ListedSchedule] {
        let select = try connection.statement(isParkedOnly ? .selectParkedSchedules : .selectSchedules)
        select.bind(1, tenantNo)
        select.bind(2, key?.text ?? "")
        select.bind(3, Int64(countMax))
        var found: [ListedSchedule] = []
        try select.visit { row throws(SQLiteFault) in
            guard let schedule = Self.schedule(row, of: tenant) else { throw Self.damage(row.text(0)) }
            found.append(schedule.listed)
        }
        return found
    }

    /// Those that are due by then, oldest first.
    /// - Parameter bytesMax: what their events have left; once it is used up, nothing more is taken.
    func due(
        by now: Timestamp, countMax: Int, _ bytesMax: inout Int, _ found: inout DueSchedules
    ) throws(SQLiteFault) {
        let select = try connection.statement(.selectDueSchedules)
        select.bind(1, tenantNo)
        select.bind(2, now.microseconds)
        select.bind(3, Int64(countMax))
        try select.forEachRow { row throws(SQLiteFault) in
            let bytes = unsafe row.blob(14)
            bytesMax -= bytes.count
            guard bytesMax >= 0 || found.schedules.isEmpty else { return false }
            if let schedule = unsafe Self.schedule(row, of: tenant)?.schedule(ByteBuffer(bytes: bytes)) {
                found.schedules.append(DueSchedules.Schedule(tenant: tenant, schedule: schedule))
            } else if let key = ScheduleKey(row.text(0)) {
                found.damaged[ScheduleID(tenant: tenant, key: key)] =
                    unsafe UUID(bytes: row.blob(4)) ?? UUID(high: 0, low: 0)
            }
            return true
        }
    }

    func facts(_ keys: [ScheduleKey], _ facts: inout ScheduleFacts) throws(SQLiteFault) {
        let tenant = try connection.statement(.selectScheduleTenant)
        tenant.bind(1, tenantNo)
        var known = ScheduleFacts.Tenant()
        let isIntact = try tenant.firstRow { row throws(SQLiteFault) in
            known.count = Int(row.integer(0))
            let due = row.isNull(1) ? nil : Timestamp(microseconds: row.integer(1))
            return row.integer(2) == Int64(Seal.schedules(count: known.count, due: due, of: self.tenant))
        }
        if isIntact == false {
            // It can be told again from the schedules.
            let count = try connection.statement(.countSchedules)
            count.bind(1, tenantNo)
            known.count = Int(try count.firstRow { $0.integer(0) } ?? 0)
        }
        let earliest = try connection.statement(.selectEarliestSchedules)
        earliest.bind(1, tenantNo)
        earliest.bind(2, Int64(keys.count + 1))
        try earliest.visit { row throws(SQLiteFault) in
            guard let key = ScheduleKey(row.text(0)) else { return }
            known.earliest.append((key, Timestamp(microseconds: row.integer(1))))
        }
        facts.tenants[self.tenant] = known
        let select = try connection.statement(.selectScheduleHead)
        for key in keys {
            select.bind(1, tenantNo)
            select.bind(2, key.text)
            let id = ScheduleID(tenant: self.tenant, key: key)
            facts.schedules[id] = try select.firstRow { row throws(SQLiteFault) in
                ScheduleFacts.Row(
                    due: Timestamp(microseconds: row.integer(0)),
                    eventID: unsafe UUID(bytes: row.blob(1)) ?? UUID(high: 0, low: 0), isParked: !row.isNull(2))
            }
        }
    }

    /// Nil where the row is damaged.
    static func schedule(_ row: borrowing SQLiteStatement.Row, of tenant: TenantID) -> ScheduleRow? {
        guard let key = ScheduleKey(row.text(0)), let type = AggregateType(row.text(2)),
            let id = unsafe UUID(bytes: row.blob(3)), let eventID = unsafe UUID(bytes: row.blob(4)),
            let eventType = EventType(row.text(5)), let schemaVersion = UInt32(exactly: row.integer(7)),
            let checksum = UInt32(exactly: row.integer(10)), row.integer(8) >= 0,
            row.isNull(9) || row.integer(9) >= 0
        else { return nil }
        let found = ScheduleRow(
            key: key, due: Timestamp(microseconds: row.integer(1)), aggregate: AggregateName(type: type, id: id),
            eventID: eventID, eventType: eventType, contentType: row.text(6), schemaVersion: schemaVersion,
            payloadBytes: Int(row.integer(8)), latenessMillisMax: row.isNull(9) ? nil : UInt64(row.integer(9)),
            checksum: checksum, parked: row.isNull(12) ? nil : row.text(12))
        guard row.integer(11) == Int64(Seal.schedule(found, of: tenant)) else { return nil }
        guard let reason = found.parked else { return row.isNull(13) ? found : nil }
        let seal = Seal.parked(reason, key, event: eventID, of: tenant)
        return !row.isNull(13) && row.integer(13) == Int64(seal) ? found : nil
    }

    private static func damage(_ key: String) -> SQLiteFault {
        .corrupted("what is stored of the schedule \(key) does not match its checksum")
    }

    // MARK: Writing

    func store(_ plan: SchedulesPlan) throws(SQLiteFault) {
        for (key, change) in plan.changes {
            switch change {
            case .set(let schedule): try put(schedule)
            case .park(let reason, let event):
                let park = try connection.statement(.parkSchedule)
                park.bind(1, tenantNo)
                park.bind(2, key.text)
                park.bind(3, reason)
                park.bind(4, Int64(Seal.parked(reason, key, event: event, of: tenant)))
                try park.run()
            case .delete:
                let delete = try connection.statement(.deleteSchedule)
                delete.bind(1, tenantNo)
                delete.bind(2, key.text)
                try delete.run()
            }
        }
        let put = try connection.statement(.putScheduleTenant)
        put.bind(1, tenantNo)
        put.bind(2, Int64(plan.count))
        if let due = plan.due { put.bind(3, due.microseconds) } else { put.bindNull(3) }
        put.bind(4, Int64(Seal.schedules(count: plan.count, due: plan.due, of: tenant)))
        try put.run()
    }

    private func put(_ schedule: NewSchedule) throws(SQLiteFault) {
        let row = ScheduleRow(schedule)
        let put = try connection.statement(.putSchedule)
        put.bind(1, tenantNo)
        put.bind(2, row.key.text)
        put.bind(3, row.due.microseconds)
        put.bind(4, row.aggregate.type.text)
        put.bind(5, row.aggregate.id)
        put.bind(6, row.eventID)
        put.bind(7, row.eventType.text)
        put.bind(8, row.contentType)
        put.bind(9, Int64(row.schemaVersion))
        put.bind(10, Int64(row.payloadBytes))
        if let lateness = row.latenessMillisMax { put.bind(11, Int64(lateness)) } else { put.bindNull(11) }
        put.bind(12, Int64(row.checksum))
        put.bind(13, Int64(Seal.schedule(row, of: tenant)))
        try put.run(blob: 14, schedule.event.body)
    }
}

extension DueSchedules {
    /// Looks for them, in the read that is open.
    mutating func find(_ question: DueQuestion, _ connection: SQLiteConnection) throws(SQLiteFault) {
        let next = try connection.statement(.selectNextDue)
        next.bind(1, question.now.microseconds)
        self.next = try next.firstRow { $0.isNull(0) ? nil : Timestamp(microseconds: $0.integer(0)) } ?? nil
        let select = try connection.statement(.selectDueTenants)
        select.bind(1, question.now.microseconds)
        select.bind(2, Int64(question.tenantsMax + question.except.count))
        var tenants: [(TenantID, Int64)] = []
        try select.visit { row throws(SQLiteFault) in
            guard let id = unsafe UUID(bytes: row.blob(1)), !question.except.contains(TenantID(id)) else { return }
            tenants.append((TenantID(id), row.integer(0)))
        }
        var bytes = question.bytesMax
        for (tenant, no) in tenants.prefix(question.tenantsMax) where bytes >= 0 {
            let rows = TenantScheduleRows(tenant: tenant, tenantNo: no, connection: connection)
            try rows.due(by: question.now, countMax: question.countPerTenantMax, &bytes, &self)
        }
    }
}

extension ScheduleQuestions {
    /// What is stored; nothing of tenants that are not.
    func facts(_ rows: (TenantID) -> TenantScheduleRows?) throws(SQLiteFault) -> ScheduleFacts {
        var facts = ScheduleFacts()
        for (id, keys) in tenants { try rows(id)?.facts(keys, &facts) }
        return facts
    }
}

extension BatchFacts {
    /// Adds those events of schedules that are stored already.
    mutating func find(
        _ changes: [ScheduleChange], of tenant: TenantID, _ tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) {
        for case .set(let schedule) in changes {
            try find(EventKey(tenant: tenant, id: schedule.event.id), tenantNo, connection)
        }
    }

    /// Adds an event, if it is stored.
    mutating func find(
        _ key: EventKey, _ tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) {
        let select = try connection.statement(.selectPositionOfID)
        select.bind(1, tenantNo)
        select.bind(2, key.id)
        let position = try select.firstRow { row throws(SQLiteFault) in Position(try row.unsigned(0)) }
        guard let position else { return }
        stored[key] = try BlockRows.storedEvent(at: position, key, tenantNo: tenantNo, connection)
    }
}
