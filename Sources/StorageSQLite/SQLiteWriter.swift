import CMartletSQLite
import FoundationEssentials
import Logging
import MartletModel
import MartletStorage
import NIOCore

/// Commits batches; used by one thread.
///
/// It is the only writer of its file, so that what it remembers of tenants and aggregates is true until something
/// fails, upon which all of it is forgotten. Within a batch nothing depends on what is remembered: ``BatchRows`` has it all.
final class SQLiteWriter: StorageWriter {
    struct Tenant {
        var no: Int64
        var head: TenantHead
        var settingsRevision: UInt64 = 0
    }

    struct Aggregate {
        var no: Int64
        var version: Version
        var size: AggregateSize
    }

    private let file: DatabaseFile
    private let logger: Logger
    private var connection: SQLiteConnection?
    private var tenants: RecentlyUsed<TenantID, Tenant>
    private var aggregates: RecentlyUsed<AggregateKey, Aggregate>
    private(set) var checkpointer: Checkpointer?
    /// Ranges on their way into the table.
    private var moving: MovingRanges?

    /// - Parameter rememberedMax: so many tenants, and so many aggregates, are remembered.
    init(file: DatabaseFile, logger: Logger, rememberedMax: Int = 100_000) {
        self.file = file
        self.logger = logger
        tenants = RecentlyUsed(countMax: rememberedMax)
        aggregates = RecentlyUsed(countMax: rememberedMax)
    }

    /// The file's lock goes last.
    deinit {
        connection = nil
        checkpointer = nil
    }

    func commit(
        _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
    ) throws(StorageError) -> CommitResult {
        try write { connection throws(StorageError) in
            guard !batch.isEmpty else {
                try probe(connection)
                return CommitResult(outcomes: [], runs: [])
            }
            return try commit(batch, now: now, on: connection)
        }
    }

    /// Writes the file's first page as it is: a mark of the file is set to what it is already.
    private func probe(_ connection: SQLiteConnection) throws(StorageError) {
        do throws(SQLiteFault) {
            try connection.statement(.begin).run()
            try connection.run("PRAGMA application_id = \(Schema.applicationID)")
        } catch { throw error.storageError }
        try commit(connection)
    }

    /// Does what writes; after a failure nothing is remembered, and the next call opens the file anew.
    private func write<Value>(
        _ body: (SQLiteConnection) throws(StorageError) -> Value
    ) throws(StorageError) -> Value {
        guard !file.poison.isSet else {
            throw StorageError(
                .unavailable, "an earlier write could not be synced: check the disk, then restart the server")
        }
        do throws(StorageError) {
            try file.check()
            let connection = try open()
            let value = try body(connection)
            tidy(connection)
            return value
        } catch {
            tenants.removeAll()
            aggregates.removeAll()
            connection = nil
            if file.poison.isSet {
                moving = nil
                file.ranges.invalidate()
            }
            throw error
        }
    }

    private func open() throws(StorageError) -> SQLiteConnection {
        if let connection { return connection }
        let opened = try file.open()
        opened.countLogPages()
        if checkpointer == nil { checkpointer = Checkpointer(file, logger: logger) }
        connection = opened
        return opened
    }

    private func commit(
        _ batch: [WriteCommand], now: Timestamp, on connection: SQLiteConnection
    ) throws(StorageError) -> CommitResult {
        let plan: BatchPlan
        var stored = BatchRows()
        do throws(SQLiteFault) {
            try RangeRecovery.refresh(file.ranges, connection)
            plan = try decideAndStore(batch, now: now, connection, &stored)
            if !plan.tenants.isEmpty { stored.moving = try moveRanges(after: stored.ranges, connection) }
        } catch {
            // Nothing was committed: at the latest, closing the connection rolls back.
            throw error.storageError
        }
        guard !plan.tenants.isEmpty else {
            try rollBack(connection)
            return CommitResult(plan)
        }
        // Before the commit can be seen: who sees it finds them.
        file.ranges.add(stored.ranges)
        do { try commit(connection) } catch {
            file.ranges.doubt(stored.ranges)
            throw error
        }
        moving = stored.moving
        if moving?.isDone == true {
            moving = nil
            file.ranges.endFlush()
        }
        remember(plan, stored)
        return CommitResult(plan)
    }

    /// Decides a batch and stores what is planned, in a transaction that is left open.
    ///
    /// Nearly every event id is new, so that none is looked up at first: the key of `event_ids` finds one that is
    /// stored. Then all of it is undone, and done again with every id looked up. A call that would be refused may
    /// also be one that was stored before: its ids are looked up before it is.
    private func decideAndStore(
        _ batch: [WriteCommand], now: Timestamp, _ connection: SQLiteConnection, _ stored: inout BatchRows
    ) throws(SQLiteFault) -> BatchPlan {
        try connection.statement(.begin).run()
        try settleDoubted(connection)
        var facts = try self.facts(of: batch, &stored, connection)
        var plan = WriteDecision.decide(batch, facts: facts, now: now)
        let refused = zip(batch, plan.outcomes).filter { $0.1.receipt == nil }.map(\.0)
        if !refused.isEmpty {
            if try find(refused, stored, &facts, connection) {
                // Others may name the same ids: of each call all are known, or none.
                _ = try find(batch, stored, &facts, connection)
                plan = WriteDecision.decide(batch, facts: facts, now: now)
            }
        }
        do throws(SQLiteFault) {
            for tenant in plan.tenants { try store(tenant, connection, &stored) }
            return plan
        } catch {
            guard error.code == SQLiteFault.duplicateKey else { throw error }
        }
        try connection.statement(.rollback).run()
        try connection.statement(.begin).run()
        stored = BatchRows()
        facts = try self.facts(of: batch, &stored, connection)
        _ = try find(batch, stored, &facts, connection)
        plan = WriteDecision.decide(batch, facts: facts, now: now)
        for tenant in plan.tenants { try store(tenant, connection, &stored) }
        return plan
    }

    /// In a transaction: what became of the ranges of a commit that failed.
    private func settleDoubted(_ connection: SQLiteConnection) throws(SQLiteFault) {
        let doubted = file.ranges.doubted
        guard !doubted.isEmpty else { return }
        let select = try connection.statement(.selectHead)
        var lost: [RangeRow] = []
        for row in doubted {
            select.bind(1, row.tenantNo)
            let head = try select.firstRow { row throws(SQLiteFault) in try row.unsigned(0) } ?? 0
            if row.lastPosition > head { lost.append(row) }
        }
        file.ranges.settle(lost: lost)
    }

    private func rollBack(_ connection: SQLiteConnection) throws(StorageError) {
        do throws(SQLiteFault) { try connection.statement(.rollback).run() } catch { throw error.storageError }
    }

    private func commit(_ connection: SQLiteConnection) throws(StorageError) {
        do throws(SQLiteFault) { try connection.statement(.commit).run() } catch { throw failedCommit(error) }
    }

    /// Looks after the log, after a commit was answered for.
    private func tidy(_ connection: SQLiteConnection) {
        guard checkpointer?.committed(logPages: connection.logPages) == true else { return }
        defer { checkpointer?.restMoved() }
        // The commit stands: its log was synced, and is kept where a checkpoint poisons the file.
        do throws(SQLiteFault) { try connection.checkpoint() } catch { logger.checkpointFailed(error) }
    }

    /// What a commit that failed means. A full disk or a lock is found before the commit record is written.
    private func failedCommit(_ fault: SQLiteFault) -> StorageError {
        switch fault.primary {
        case SQLITE_FULL, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY: return fault.storageError
        default:
            if fault.isFailedSync {
                file.poison.set()
                logger.critical("a sync of the database failed", metadata: ["error": "\(fault.message)"])
            }
            return StorageError(.outcomeUnknown, "SQLite: \(fault.message) (code \(fault.code)) while committing")
        }
    }

    // MARK: Facts

    private func facts(
        of batch: [WriteCommand], _ rows: inout BatchRows, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> BatchFacts {
        var facts = BatchFacts()
        facts.positionMax = EventKeys.positionMax
        facts.versions.reserveCapacity(batch.count)
        facts.sizes.reserveCapacity(batch.count)
        var last: (id: TenantID, tenant: Tenant?)?
        var consumers = ConsumerQuestions()
        var schedules = ScheduleQuestions()
        for command in batch {
            let id = command.tenant
            if last?.id != id {
                let found: Tenant?
                if let known = rows.tenants[id] { found = known } else { found = try tenant(id, connection) }
                last = (id, found)
                rows.tenants[id] = found
                facts.heads[id] = found?.head
                if let revision = found?.settingsRevision, revision > 0 { facts.settingsRevisions[id] = revision }
            }
            guard let tenant = last?.tenant else {
                if facts.newTenants.left == .max { facts.newTenants = try newTenants(connection) }
                continue
            }
            switch command {
            case .append(let request):
                if request.hasExtras {
                    if let checkpoint = request.checkpoint { consumers.add(checkpoint, of: id) }
                    schedules.add(request)
                    try facts.find(request.schedules, of: id, tenant.no, connection)
                }
                for part in request.aggregates {
                    let key = AggregateKey(tenant: id, name: part.aggregate)
                    try look(at: key, snapshots: part.snapshot != nil, in: tenant, &facts, &rows, connection)
                }
            case .change(.consumer(let change)): consumers.add(change)
            case .change(.schedules(let change)):
                schedules.add(change)
                if case .asked(let changes) = change.kind { try facts.find(changes, of: id, tenant.no, connection) }
            case .change(let change):
                guard let name = change.aggregate else { continue }
                let key = AggregateKey(tenant: id, name: name)
                try look(at: key, snapshots: true, in: tenant, &facts, &rows, connection)
            }
        }
        if !consumers.isEmpty {
            facts.consumers = try consumers.facts { tenant in
                rows.tenants[tenant].map {
                    TenantConsumerRows(tenant: tenant, tenantNo: $0.no, connection: connection)
                }
            }
        }
        if !schedules.isEmpty {
            facts.schedules = try schedules.facts { tenant in
                rows.tenants[tenant].map {
                    TenantScheduleRows(tenant: tenant, tenantNo: $0.no, connection: connection)
                }
            }
        }
        return facts
    }

    private func look(
        at key: AggregateKey, snapshots: Bool, in tenant: Tenant, _ facts: inout BatchFacts, _ rows: inout BatchRows,
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) {
        let aggregate: Aggregate
        if let known = rows.aggregates[key] {
            aggregate = known
        } else {
            guard let found = try self.aggregate(key, in: tenant.no, connection) else { return }
            aggregate = found
            rows.aggregates[key] = found
        }
        facts.versions[key] = aggregate.version
        facts.sizes[key] = aggregate.size
        if snapshots, facts.snapshots[key] == nil {
            facts.snapshots[key] = try self.snapshots(of: aggregate.no, connection)
        }
    }

    /// Adds those event ids of appends that are stored to the facts; false where none is.
    private func find(
        _ batch: [WriteCommand], _ rows: BatchRows, _ facts: inout BatchFacts, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Bool {
        for case .append(let request) in batch {
            guard let tenant = rows.tenants[request.tenant] else { continue }
            for part in request.aggregates {
                for event in part.events {
                    try facts.find(EventKey(tenant: request.tenant, id: event.id), tenant.no, connection)
                }
            }
        }
        return !facts.stored.isEmpty
    }

    /// How many tenants a file can hold, and how many more.
    private func newTenants(_ connection: SQLiteConnection) throws(SQLiteFault) -> (max: UInt64, left: UInt64) {
        let last = try connection.statement(.selectLastTenant).firstRow { $0.integer(0) } ?? 0
        let max = EventKeys.tenantsMax - 1
        return (UInt64(max), UInt64(max - min(Swift.max(last, 0), max)))
    }

    /// - Throws: also where the tenant's newest blocks are damaged.
    private func tenant(_ id: TenantID, _ connection: SQLiteConnection) throws(SQLiteFault) -> Tenant? {
        if let known = tenants.use(id) {
            try file.ranges.check(tenantNo: known.no)
            return known
        }
        let select = try connection.statement(.selectTenant)
        select.bind(1, id.uuid)
        let found = try select.firstRow { row throws(SQLiteFault) in
            Tenant(
                no: row.integer(0),
                head: TenantHead(
                    position: Position(try row.unsigned(1)), recordedAt: Timestamp(microseconds: row.integer(2)),
                    eventID: unsafe UUID(bytes: row.blob(4))),
                settingsRevision: try row.unsigned(3))
        }
        guard let found else { return nil }
        try file.ranges.check(tenantNo: found.no)
        tenants.put(found, for: id)
        return found
    }

    private func aggregate(
        _ key: AggregateKey, in tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Aggregate? {
        if let known = aggregates.use(key) { return known }
        guard let row = try AggregateRow.find(key.name, in: tenantNo, connection) else { return nil }
        let (version, bytes) = try RangeRow.last(
            of: row.no, pending: file.ranges.rows(of: row.no).rows, connection)
        let found = Aggregate(
            no: row.no, version: Version(version),
            size: AggregateSize(
                bytes: bytes, snapshotVersion: row.snapshotVersion, snapshotBytes: row.snapshotBytes))
        aggregates.put(found, for: key)
        return found
    }

    // MARK: Storing

    /// Rows of the tenants and aggregates of a batch: those that were found, then as the transaction leaves them.
    private struct BatchRows {
        var tenants: [TenantID: Tenant] = [:]
        var aggregates: [AggregateKey: Aggregate] = [:]
        var ranges: [RangeRow] = []
        /// As the transaction leaves them.
        var moving: MovingRanges?
    }

    /// Moves some ranges into the table, faster than they come in by number and by bytes.
    /// - Returns: what is on its way once this transaction commits; where it does not, ``moving`` is.
    private func moveRanges(
        after added: [RangeRow], _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> MovingRanges? {
        if moving == nil { moving = file.ranges.beginFlush().map { MovingRanges($0) } }
        guard var next = moving else { return nil }
        let bytes = added.reduce(0) { $0 + $1.length }
        let share = min(1, 2 * Double(bytes) / Double(file.ranges.bytesMax))
        try next.move(atLeast: max(2 * added.count, Int((share * Double(next.count)).rounded(.up))), connection)
        return next
    }

    private func store(
        _ plan: TenantPlan, _ connection: SQLiteConnection, _ stored: inout BatchRows
    ) throws(SQLiteFault) {
        let tenantNo = try storeTenant(plan, connection, stored)
        let revision = plan.settings?.revision ?? stored.tenants[plan.tenant]?.settingsRevision ?? 0
        stored.tenants[plan.tenant] = Tenant(no: tenantNo, head: plan.head, settingsRevision: revision)
        if let run = plan.run { try store(run, tenantNo, connection, &stored) }
        for change in plan.snapshots {
            let key = AggregateKey(tenant: plan.tenant, name: change.aggregate)
            let no = try row(of: key, tenantNo, connection, stored).no
            try store(change.put, dropped: change.dropped, of: no, key, connection)
        }
        for (name, move) in plan.aggregates where move.hasSnapshots {
            let key = AggregateKey(tenant: plan.tenant, name: name)
            var aggregate = try row(of: key, tenantNo, connection, stored)
            aggregate.size = move.size
            stored.aggregates[key] = aggregate
            try note(newest: move.size.snapshotVersion, bytes: move.size.snapshotBytes, of: aggregate.no, connection)
        }
        if let settings = plan.settings { try store(settings, of: plan.tenant, tenantNo, connection) }
        let consumers = TenantConsumerRows(tenant: plan.tenant, tenantNo: tenantNo, connection: connection)
        for consumer in plan.consumers { try consumers.store(consumer) }
        if let epoch = plan.consumerEpochFloor { try consumers.put(epochFloor: epoch) }
        if let schedules = plan.schedules {
            try TenantScheduleRows(tenant: plan.tenant, tenantNo: tenantNo, connection: connection).store(schedules)
        }
    }

    private func store(
        _ run: RecordedRun, _ tenantNo: Int64, _ connection: SQLiteConnection, _ stored: inout BatchRows
    ) throws(SQLiteFault) {
        let insertBlock = try connection.statement(.insertBlock)
        try BlockCutter(run: run).forEachBlock { (block, pieces) throws(SQLiteFault) in
            insertBlock.bind(1, try EventKeys.key(tenantNo, run.position(at: block.events.lowerBound)))
            insertBlock.bind(2, run.recordedAt.microseconds)
            insertBlock.bind(3, Int64(block.events.count))
            try insertBlock.run(blob: 4, run.entries, block.bytes)
            for piece in pieces {
                let key = AggregateKey(tenant: run.tenant, name: piece.aggregate)
                var aggregate = try row(of: key, tenantNo, connection, stored)
                aggregate.size.bytes += UInt64(piece.recordBytes)
                aggregate.version = run.events[piece.events.upperBound - 1].version
                stored.aggregates[key] = aggregate
                let first = run.position(at: piece.events.lowerBound)
                stored.ranges.append(
                    RangeRow(
                        tenantNo: tenantNo, aggregateNo: aggregate.no, lastVersion: aggregate.version.rawValue,
                        count: piece.events.count, position: first.rawValue, before: UInt64(piece.before),
                        start: piece.bytes.lowerBound, length: piece.bytes.count, bytes: aggregate.size.bytes))
            }
        }
        let insertID = try connection.statement(.insertEventID)
        insertID.bind(1, tenantNo)
        for index in run.events.indices {
            insertID.bind(2, run.events[index].id)
            insertID.bind(3, Int64(run.position(at: index).rawValue))
            try insertID.run()
        }
    }

    /// Makes the tenant's row, or moves its head; the number of the row.
    private func storeTenant(
        _ plan: TenantPlan, _ connection: SQLiteConnection, _ stored: BatchRows
    ) throws(SQLiteFault) -> Int64 {
        let head = plan.head
        let headEventID = plan.run?.lastEventID
        if let known = stored.tenants[plan.tenant] {
            guard let headEventID else { return known.no }
            let update = try connection.statement(.updateTenant)
            update.bind(1, known.no)
            update.bind(2, Int64(head.position.rawValue))
            update.bind(3, head.recordedAt.microseconds)
            try unsafe withUnsafeBytes(of: headEventID.uuid) { id throws(SQLiteFault) in
                try unsafe update.run(blob: 4, id)
            }
            return known.no
        }
        let insert = try connection.statement(.insertTenant)
        insert.bind(1, plan.tenant.uuid)
        insert.bind(2, Int64(head.position.rawValue))
        insert.bind(3, head.recordedAt.microseconds)
        if let headEventID { insert.bind(4, headEventID) } else { insert.bindNull(4) }
        try insert.run()
        // The decision has seen that there is a number left.
        guard 0..<EventKeys.tenantsMax ~= connection.lastInsertedRow else {
            throw .corrupted("a tenant got number \(connection.lastInsertedRow), which does not fit in a key")
        }
        return connection.lastInsertedRow
    }

    /// The row of an aggregate that is appended to; made where it is new.
    private func row(
        of key: AggregateKey, _ tenantNo: Int64, _ connection: SQLiteConnection, _ stored: BatchRows
    ) throws(SQLiteFault) -> Aggregate {
        if let known = stored.aggregates[key] { return known }
        let insert = try connection.statement(.insertAggregate)
        insert.bind(1, tenantNo)
        insert.bind(2, key.name.id)
        insert.bind(3, key.name.type.text)
        try insert.run()
        return Aggregate(no: connection.lastInsertedRow, version: .none, size: AggregateSize())
    }

    private func remember(_ plan: BatchPlan, _ stored: BatchRows) {
        for plan in plan.tenants {
            if let tenant = stored.tenants[plan.tenant] { tenants.put(tenant, for: plan.tenant) }
            for name in plan.aggregates.keys {
                let key = AggregateKey(tenant: plan.tenant, name: name)
                if let aggregate = stored.aggregates[key] { aggregates.put(aggregate, for: key) }
            }
        }
    }
}

extension RecordedRun {
    /// The position of the event at that index of ``events``.
    fileprivate func position(at index: Int) -> Position { Position(firstPosition.rawValue + UInt64(index)) }
}
