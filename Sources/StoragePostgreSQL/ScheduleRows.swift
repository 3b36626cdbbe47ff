import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Rows of schedules, as statements of ``Schema`` return them: behind a column of the statement's own.
struct ScheduleRows {
    let rows: PostgresResult

    /// Nil where the row is damaged.
    func schedule(_ row: Int32, of tenant: TenantID) -> ScheduleRow? {
        guard let key = ScheduleKey(rows.text(row, 1)), let type = AggregateType(rows.text(row, 3)),
            let id = unsafe UUID(bytes: rows.bytes(row, 4)), let eventID = unsafe UUID(bytes: rows.bytes(row, 5)),
            let eventType = EventType(rows.text(row, 6)), let schemaVersion = UInt32(exactly: rows.integer(row, 8)),
            let checksum = UInt32(exactly: rows.integer(row, 11)), rows.integer(row, 9) >= 0,
            rows.isNull(row, 10) || rows.integer(row, 10) >= 0
        else { return nil }
        let found = ScheduleRow(
            key: key, due: Timestamp(microseconds: rows.integer(row, 2)),
            aggregate: AggregateName(type: type, id: id), eventID: eventID, eventType: eventType,
            contentType: rows.text(row, 7), schemaVersion: schemaVersion, payloadBytes: Int(rows.integer(row, 9)),
            latenessMillisMax: rows.isNull(row, 10) ? nil : UInt64(rows.integer(row, 10)),
            checksum: checksum,
            parked: rows.isNull(row, 13) ? nil : rows.text(row, 13))
        guard rows.integer(row, 12) == Int64(Seal.schedule(found, of: tenant)) else { return nil }
        guard let reason = found.parked else { return rows.isNull(row, 14) ? found : nil }
        let seal = Seal.parked(reason, key, event: eventID, of: tenant)
        return !rows.isNull(row, 14) && rows.integer(row, 14) == Int64(seal) ? found : nil
    }
}

/// Looks up what deciding on schedules takes, in the round trip that looks up all else.
struct ScheduleLookUp {
    private let tenants: [(id: TenantID, keys: [ScheduleKey])]
    private let schedules: [ScheduleID]

    init(_ questions: ScheduleQuestions) {
        // One order for all who lock them.
        tenants = questions.tenants.sorted { $0.key < $1.key }.map { (id: $0.key, keys: $0.value) }
        schedules = Array(questions.schedules)
    }

    /// The calls; ``facts(_:_:)`` takes their results.
    var calls: [PostgresCall] {
        guard !tenants.isEmpty else { return [] }
        let named = [PostgresValue(tenants.map(\.id.uuid))]
        return [
            PostgresCall("make_schedule_tenants", named), PostgresCall("lock_schedules", named),
            PostgresCall("earliest_schedules", named + [PostgresValue(tenants.map { Int64($0.keys.count + 1) })]),
            PostgresCall(
                "schedule_heads",
                [PostgresValue(schedules.map(\.tenant.uuid)), PostgresValue(schedules.map(\.key.text))]),
        ]
    }

    func facts(
        _ results: ArraySlice<PostgresResult>, _ connection: PostgresConnection
    ) throws(PostgresFault) -> ScheduleFacts {
        var facts = ScheduleFacts()
        guard results.count == 4 else { return facts }
        let first = results.startIndex
        var damaged: [TenantID] = []
        each(results[first + 1]) { index, row, rows in
            let tenant = tenants[index].id
            let count = Int(rows.integer(row, 1))
            let due = rows.isNull(row, 2) ? nil : Timestamp(microseconds: rows.integer(row, 2))
            let isIntact =
                rows.isNull(row, 3)
                ? count == 0 && due == nil
                : rows.integer(row, 3) == Int64(Seal.schedules(count: count, due: due, of: tenant))
            facts.tenants[tenant] = ScheduleFacts.Tenant(count: count)
            if !isIntact { damaged.append(tenant) }
        }
        each(results[first + 2]) { index, row, rows in
            guard let key = ScheduleKey(rows.text(row, 1)) else { return }
            facts.tenants[tenants[index].id]?.earliest.append((key, Timestamp(microseconds: rows.integer(row, 2))))
        }
        each(results[first + 3]) { index, row, rows in
            facts.schedules[schedules[index]] = ScheduleFacts.Row(
                due: Timestamp(microseconds: rows.integer(row, 1)),
                eventID: unsafe UUID(bytes: rows.bytes(row, 2)) ?? UUID(high: 0, low: 0),
                isParked: unsafe rows.bytes(row, 3).first == 1)
        }
        guard !damaged.isEmpty else { return facts }
        // It can be told again from the schedules.
        let counts = try connection.run(
            PostgresCall("count_schedules", [PostgresValue(damaged.map(\.uuid))]))
        each(counts) { index, row, rows in facts.tenants[damaged[index]]?.count = Int(rows.integer(row, 1)) }
        return facts
    }

    private func each(_ rows: PostgresResult, _ body: (Int, Int32, PostgresResult) -> Void) {
        for row in 0..<rows.rowCount { body(Int(rows.integer(row, 0)) - 1, row, rows) }
    }
}

/// The statements that store what changes of schedules, over all tenants of a batch.
struct ScheduleCalls {
    /// The server that sets them.
    let server: UUID
    private var gone: (numbers: [Int64], keys: [String]) = ([], [])
    private var put: [PostgresCall] = []
    private var parked: (numbers: [Int64], keys: [String], reasons: [String], seals: [Int64]) = ([], [], [], [])
    private var moved: (numbers: [Int64], counts: [Int64], dues: [Int64], seals: [Int64]) = ([], [], [], [])

    init(server: UUID) { self.server = server }

    mutating func add(_ plan: TenantPlan, tenantNo: Int64) {
        guard let schedules = plan.schedules else { return }
        for (key, change) in schedules.changes {
            switch change {
            case .set(let schedule): put.append(call(schedule, plan.tenant, tenantNo))
            case .park(let reason, let event):
                parked.numbers.append(tenantNo)
                parked.keys.append(key.text)
                parked.reasons.append(reason)
                parked.seals.append(Int64(Seal.parked(reason, key, event: event, of: plan.tenant)))
            case .delete:
                gone.numbers.append(tenantNo)
                gone.keys.append(key.text)
            }
        }
        moved.numbers.append(tenantNo)
        moved.counts.append(Int64(schedules.count))
        moved.dues.append(schedules.due?.microseconds ?? -1)
        moved.seals.append(Int64(Seal.schedules(count: schedules.count, due: schedules.due, of: plan.tenant)))
    }

    /// All of it, in an order in which it can be stored.
    var calls: [PostgresCall] {
        guard !moved.numbers.isEmpty else { return [] }
        var calls: [PostgresCall] = []
        if !gone.numbers.isEmpty {
            calls.append(PostgresCall("delete_schedules", [PostgresValue(gone.numbers), PostgresValue(gone.keys)]))
        }
        calls += put
        if !parked.numbers.isEmpty {
            calls.append(
                PostgresCall(
                    "park_schedules",
                    [
                        PostgresValue(parked.numbers), PostgresValue(parked.keys), PostgresValue(parked.reasons),
                        PostgresValue(parked.seals),
                    ]))
        }
        calls.append(
            PostgresCall(
                "move_schedule_tenants",
                [
                    PostgresValue(moved.numbers), PostgresValue(moved.counts), PostgresValue(moved.dues),
                    PostgresValue(moved.seals),
                ]))
        return calls
    }

    private func call(_ schedule: NewSchedule, _ tenant: TenantID, _ tenantNo: Int64) -> PostgresCall {
        let row = ScheduleRow(schedule)
        return PostgresCall(
            "put_schedule",
            [
                PostgresValue(tenantNo), PostgresValue(row.key.text), PostgresValue(row.due.microseconds),
                PostgresValue(server), PostgresValue(row.aggregate.type.text), PostgresValue(row.aggregate.id),
                PostgresValue(row.eventID), PostgresValue(row.eventType.text), PostgresValue(row.contentType),
                PostgresValue(Int64(row.schemaVersion)), PostgresValue(Int64(row.payloadBytes)),
                row.latenessMillisMax.map { PostgresValue(Int64($0)) } ?? .null, PostgresValue(Int64(row.checksum)),
                PostgresValue(Int64(Seal.schedule(row, of: tenant))), PostgresValue(schedule.event.body),
            ])
    }
}

extension PostgreSQLReader {
    func schedules(
        of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
    ) throws(StorageError) -> [ListedSchedule] {
        let rows = try run(
            isParkedOnly ? "parked_schedules" : "schedules",
            [PostgresValue(tenant.uuid), PostgresValue(key?.text ?? ""), PostgresValue(Int64(countMax))])
        var found: [ListedSchedule] = []
        for row in 0..<rows.rowCount {
            guard let schedule = ScheduleRows(rows: rows).schedule(row, of: tenant) else {
                throw StorageError(
                    .corrupted,
                    "what is stored of the schedule \(rows.text(row, 1)) does not match its checksum: run martlet "
                        + "doctor --deep", place: "schedule \(rows.text(row, 1))")
            }
            found.append(schedule.listed)
        }
        return found
    }

    func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
        var found = DueSchedules()
        let next = try run("next_due", [PostgresValue(question.now.microseconds)])
        if next.rowCount > 0 { found.next = Timestamp(microseconds: next.integer(0, 0)) }
        let tenants = try dueTenants(question)
        guard !tenants.isEmpty else { return found }
        let rows = try run(
            "due_schedules",
            [
                PostgresValue(tenants.map(\.no)), PostgresValue(question.now.microseconds),
                PostgresValue(Int64(question.countPerTenantMax)),
            ])
        var taken: [(tenant: Int, schedule: ScheduleRow)] = []
        var bytes = 0
        for row in 0..<rows.rowCount {
            let index = Int(rows.integer(row, 0)) - 1
            let tenant = tenants[index].id
            let due = Timestamp(microseconds: rows.integer(row, 2))
            let time = owners.takes(
                due, of: unsafe UUID(bytes: rows.bytes(row, 15)), patienceMicros: question.patienceMicros,
                now: question.now)
            guard time <= question.now else {
                found.next = min(found.next ?? time, time)
                continue
            }
            guard let schedule = ScheduleRows(rows: rows).schedule(row, of: tenant) else {
                if let key = ScheduleKey(rows.text(row, 1)) {
                    found.damaged[ScheduleID(tenant: tenant, key: key)] =
                        unsafe UUID(bytes: rows.bytes(row, 5)) ?? UUID(high: 0, low: 0)
                }
                continue
            }
            bytes += Int(rows.int32(row, 16))
            guard bytes <= question.bytesMax || taken.isEmpty else { break }
            taken.append((index, schedule))
        }
        try readEvents(of: taken, tenants, &found)
        return found
    }

    private func dueTenants(_ question: DueQuestion) throws(StorageError) -> [(id: TenantID, no: Int64)] {
        let rows = try run(
            "due_tenants",
            [
                PostgresValue(question.now.microseconds),
                PostgresValue(Int64(question.tenantsMax + question.except.count)),
            ])
        var tenants: [(id: TenantID, no: Int64)] = []
        for row in 0..<rows.rowCount {
            guard let id = unsafe UUID(bytes: rows.bytes(row, 1)), !question.except.contains(TenantID(id)) else {
                continue
            }
            tenants.append((TenantID(id), rows.integer(row, 0)))
        }
        return Array(tenants.prefix(question.tenantsMax))
    }

    private func readEvents(
        of taken: [(tenant: Int, schedule: ScheduleRow)], _ tenants: [(id: TenantID, no: Int64)],
        _ found: inout DueSchedules
    ) throws(StorageError) {
        guard !taken.isEmpty else { return }
        let rows = try run(
            "schedule_events",
            [
                PostgresValue(taken.map { tenants[$0.tenant].no }), PostgresValue(taken.map(\.schedule.key.text)),
                PostgresValue(taken.map(\.schedule.eventID)),
            ])
        // One that was moved meanwhile is found the next time.
        for row in 0..<rows.rowCount {
            let (tenant, schedule) = taken[Int(rows.integer(row, 0)) - 1]
            let id = tenants[tenant].id
            if let schedule = unsafe schedule.schedule(ByteBuffer(bytes: rows.bytes(row, 1))) {
                found.schedules.append(DueSchedules.Schedule(tenant: id, schedule: schedule))
            } else {
                found.damaged[ScheduleID(tenant: id, key: schedule.key)] = schedule.eventID
            }
        }
    }
}
