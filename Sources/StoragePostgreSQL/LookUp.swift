import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// The first round trip of a commit that is not decided by what is remembered: it locks the tenants' rows and looks up
/// what must be known.
extension PostgreSQLWriter {
    /// What a tenant's row holds.
    struct FoundTenant {
        var no: Int64
        var aggregateCount: Int64
        /// Whether the row is locked, so that this stays so.
        var isLocked: Bool
    }

    /// What the first round trip found.
    struct Found {
        var facts = BatchFacts()
        /// Tenants of which something is locked by another program.
        var locked: Set<TenantID> = []
        var tenants: [TenantID: FoundTenant] = [:]
        var aggregates: [AggregateKey: Int64] = [:]
    }

    /// - Parameter lockWait: so long each lock is waited for; where it is zero, tenants that are locked are passed over.
    func lookUp(
        _ questions: BatchQuestions, _ lockWait: Duration, borrowed: TenantCacheLease, on connection: PostgresConnection
    ) throws(PostgresFault) -> Found {
        let isWaiting = lockWait > .zero
        let moving = questions.movingTenants.sorted()
        let beside = questions.tenants.subtracting(questions.movingTenants)
        let aggregates = Array(questions.aggregates)
        let events = Array(questions.events)
        // Locked in that order, after the tenants.
        let changed = questions.snapshots.sorted { Self.isBefore($0, $1) }
        var calls = Self.begin(lockWait)
        /// Adds a call; its result will have that index.
        func add(_ statement: String, _ values: [PostgresValue]) -> Int {
            calls.append(PostgresCall(statement, values))
            return calls.count - 1
        }
        let made = questions.madeTenants.union(moving).sorted()
        let new = made.filter { borrowed.known[$0] == nil }
        if !new.isEmpty { _ = add("make_tenants", [PostgresValue(new.map(\.uuid))]) }
        let lockTenants = isWaiting ? "lock_tenants" : "lock_free_tenants"
        let lockedRows = moving.isEmpty ? nil : add(lockTenants, [PostgresValue(moving.map(\.uuid))])
        let lockAggregates = isWaiting ? "lock_aggregates" : "lock_free_aggregates"
        let changedRows = changed.isEmpty ? nil : add(lockAggregates, Self.names(changed))
        let versionRows = add("versions", Self.names(aggregates))
        let ids = [PostgresValue(events.map(\.tenant.uuid)), PostgresValue(events.map(\.id))]
        let storedRows = events.isEmpty ? nil : add("stored", ids)
        let snapshotRows = changed.isEmpty ? nil : add("snapshots", Self.names(changed))
        let consumers = ConsumerLookUp(questions.consumers)
        let consumerRows = calls.count..<calls.count + consumers.calls.count
        calls += consumers.calls
        let schedules = ScheduleLookUp(questions.schedules)
        let scheduleRows = calls.count..<calls.count + schedules.calls.count
        calls += schedules.calls
        // Last: each statement sees more than the one before, and a tenant's row is there before all else of it.
        let besideRows = beside.isEmpty ? nil : add("tenants", [PostgresValue(beside.map(\.uuid))])
        let results = try connection.pipeline(calls)
        var found = Found()
        if let lockedRows { try readTenants(results[lockedRows], isLocked: true, &found) }
        if let besideRows { try readTenants(results[besideRows], isLocked: false, &found) }
        found.locked = questions.movingTenants.filter { found.tenants[$0] == nil }
        try readVersions(results[versionRows], aggregates, &found)
        if let snapshotRows { try readSnapshots(results[snapshotRows], changed, &found) }
        if let changedRows {
            // Those that came into being after the locks were taken, too.
            var left = Set(changed.filter { found.aggregates[$0] != nil || found.facts.snapshots[$0] != nil })
            for key in left where found.tenants[key.tenant] == nil { found.locked.insert(key.tenant) }
            for row in 0..<results[changedRows].rowCount {
                left.remove(changed[Int(results[changedRows].integer(row, 0)) - 1])
            }
            for key in left { found.locked.insert(key.tenant) }
        }
        if !found.locked.isEmpty {
            guard !isWaiting else {
                // A row that is gone, or that was made after the locks were taken: found by the next attempt.
                borrowed.forget()
                throw PostgresFault(sqlState: "40001", message: "a tenant's row is gone", isConnectionLost: false)
            }
            // A row that is gone counts as locked too, and is made when its tenant comes again.
            borrowed.forget(found.locked)
        }
        if let storedRows { try readStored(results[storedRows], events, &found) }
        found.facts.consumers = try consumers.facts(results[consumerRows])
        if !questions.schedules.isEmpty {
            found.facts.schedules = try schedules.facts(results[scheduleRows], connection)
        }
        return found
    }

    private static func isBefore(_ a: AggregateKey, _ b: AggregateKey) -> Bool {
        if a.tenant != b.tenant { return a.tenant < b.tenant }
        let (first, second) = (a.name.type.text, b.name.type.text)
        return first == second ? TenantID(a.name.id) < TenantID(b.name.id) : first < second
    }

    private static func names(_ aggregates: [AggregateKey]) -> [PostgresValue] {
        [
            PostgresValue(aggregates.map(\.tenant.uuid)), PostgresValue(aggregates.map(\.name.type.text)),
            PostgresValue(aggregates.map(\.name.id)),
        ]
    }

    private func readTenants(
        _ rows: PostgresResult, isLocked: Bool, _ found: inout Found
    ) throws(PostgresFault) {
        for row in 0..<rows.rowCount {
            guard let uuid = unsafe UUID(bytes: rows.bytes(row, 0)) else { continue }
            let id = TenantID(uuid)
            found.tenants[id] = FoundTenant(
                no: rows.integer(row, 1),
                aggregateCount: Int64(try rows.unsigned(row, 4, to: PostgresResult.amountMax)),
                isLocked: isLocked)
            found.facts.settingsRevisions[id] = try rows.unsigned(row, 5)
            found.facts.heads[id] = TenantHead(
                position: Position(try rows.unsigned(row, 2)),
                recordedAt: Timestamp(microseconds: rows.integer(row, 3)),
                eventID: unsafe rows.isNull(row, 6) ? nil : UUID(bytes: rows.bytes(row, 6)))
        }
    }

    private func readVersions(
        _ rows: PostgresResult, _ aggregates: [AggregateKey], _ found: inout Found
    ) throws(PostgresFault) {
        for row in 0..<rows.rowCount {
            let key = aggregates[Int(rows.integer(row, 0)) - 1]
            found.aggregates[key] = rows.integer(row, 1)
            found.facts.versions[key] = Version(try rows.unsigned(row, 2))
            found.facts.sizes[key] = AggregateSize(
                bytes: try rows.unsigned(row, 3, to: PostgresResult.amountMax),
                snapshotVersion: Version(try rows.unsigned(row, 4)),
                snapshotBytes: try rows.unsigned(row, 5, to: PostgresResult.amountMax))
        }
    }

    private func readSnapshots(
        _ rows: PostgresResult, _ aggregates: [AggregateKey], _ found: inout Found
    ) throws(PostgresFault) {
        for row in 0..<rows.rowCount {
            found.facts.snapshots[aggregates[Int(rows.integer(row, 0)) - 1], default: []].append(
                SnapshotKey(
                    version: Version(try rows.unsigned(row, 1)),
                    schemaVersion: UInt32(try rows.unsigned(row, 2, to: Int64(UInt32.max)))))
        }
    }

    private func readStored(
        _ rows: PostgresResult, _ events: [EventKey], _ found: inout Found
    ) throws(PostgresFault) {
        for row in 0..<rows.rowCount {
            guard let type = AggregateType(rows.text(row, 1)), let id = unsafe UUID(bytes: rows.bytes(row, 2)) else {
                continue
            }
            let key = events[Int(rows.integer(row, 0)) - 1]
            let stored = StoredEvent(
                aggregate: AggregateName(type: type, id: id), version: Version(try rows.unsigned(row, 3)),
                position: Position(try rows.unsigned(row, 4)),
                recordedAt: Timestamp(microseconds: rows.integer(row, 5)),
                record: unsafe ByteBuffer(bytes: rows.bytes(row, 6)))
            do throws(StorageError) { try RecordCheck(tenant: key.tenant).check(stored) } catch {
                throw .damage(error)
            }
            found.facts.stored[key] = stored
        }
    }
}
