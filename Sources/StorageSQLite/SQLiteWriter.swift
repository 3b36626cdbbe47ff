import CSQLite
import EventModel
import EventStorage
import FoundationEssentials
import Logging
import NIOCore

/// Commits batches; used by one thread.
///
/// It is the only writer of its file, so that what it remembers of tenants and aggregates is true until something
/// fails, upon which all of it is forgotten.
final class SQLiteWriter: StorageWriter {
    private struct Tenant {
        var no: Int64
        var head: TenantHead
    }

    private struct Aggregate {
        var no: Int64
        var version: Version
    }

    private let file: DatabaseFile
    private let logger: Logger
    /// So many tenants, and so many aggregates, are remembered; beyond that all are forgotten.
    private let rememberedMax: Int
    private var connection: SQLiteConnection?
    private var tenants: [TenantID: Tenant] = [:]
    private var aggregates: [AggregateKey: Aggregate] = [:]
    /// A sync failed: the system may have dropped what it could not write, so that no later sync can be believed.
    private var isPoisoned = false

    init(file: DatabaseFile, logger: Logger, rememberedMax: Int = 100_000) {
        self.file = file
        self.logger = logger
        self.rememberedMax = rememberedMax
    }

    func commit(_ batch: [AppendRequest], now: Timestamp) throws(StorageError) -> CommitResult {
        guard !isPoisoned else {
            throw StorageError(.unavailable, "an earlier write could not be synced: check the disk, restart the server")
        }
        do throws(StorageError) {
            try file.check()
            return try commit(batch, now: now, on: try open())
        } catch {
            tenants = [:]
            aggregates = [:]
            connection = nil
            throw error
        }
    }

    private func open() throws(StorageError) -> SQLiteConnection {
        if let connection { return connection }
        let opened = try SQLiteConnection(path: file.path, creates: false)
        connection = opened
        return opened
    }

    private func commit(
        _ batch: [AppendRequest], now: Timestamp, on connection: SQLiteConnection
    ) throws(StorageError) -> CommitResult {
        let plan: BatchPlan
        var stored = StoredNumbers()
        do throws(SQLiteFault) {
            try connection.statement(.begin).run()
            plan = AppendDecision.decide(batch, facts: try facts(of: batch, connection), now: now)
            for tenant in plan.tenants { try store(tenant, connection, &stored) }
        } catch {
            // Nothing was committed: at the latest, closing the connection rolls back.
            throw error.storageError
        }
        guard !plan.tenants.isEmpty else {
            do throws(SQLiteFault) { try connection.statement(.rollback).run() } catch { throw error.storageError }
            return CommitResult(outcomes: plan.outcomes, runs: [])
        }
        do throws(SQLiteFault) {
            try connection.statement(.commit).run()
        } catch {
            throw failedCommit(error)
        }
        remember(plan, stored)
        return CommitResult(outcomes: plan.outcomes, runs: plan.tenants.map(\.run))
    }

    /// What a commit that failed means. A full disk or a lock is found before the commit record is written.
    private func failedCommit(_ fault: SQLiteFault) -> StorageError {
        switch fault.primary {
        case SQLITE_FULL, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY: return fault.storageError
        default:
            if fault.code == SQLITE_IOERR | 4 << 8 || fault.code == SQLITE_IOERR | 5 << 8 {
                isPoisoned = true
                logger.critical("a sync of the database failed", metadata: ["error": "\(fault.message)"])
            }
            return StorageError(.outcomeUnknown, "SQLite: \(fault.message) (code \(fault.code)) while committing")
        }
    }

    // MARK: Facts

    private func facts(of batch: [AppendRequest], _ connection: SQLiteConnection) throws(SQLiteFault) -> BatchFacts {
        let questions = AppendDecision.questions(of: batch)
        var facts = BatchFacts()
        for id in questions.tenants {
            if let tenant = try tenant(id, connection) { facts.heads[id] = tenant.head }
        }
        for key in questions.aggregates {
            guard let tenant = tenants[key.tenant] else { continue }
            if let aggregate = try aggregate(key, in: tenant.no, connection) { facts.versions[key] = aggregate.version }
        }
        let byID = try connection.statement(.selectEventByID)
        for key in questions.events {
            guard let tenant = tenants[key.tenant] else { continue }
            byID.bind(1, tenant.no)
            byID.bind(2, key.id)
            facts.stored[key] =
                try byID.firstRow { row in
                    guard let type = AggregateType(row.text(3)), let id = unsafe UUID(bytes: row.blob(4)) else {
                        return nil
                    }
                    return StoredEvent(
                        aggregate: AggregateName(type: type, id: id), version: Version(UInt64(row.integer(1))),
                        position: EventKeys.position(of: row.integer(0)),
                        recordedAt: Timestamp(microseconds: row.integer(2)),
                        record: unsafe ByteBuffer(bytes: row.blob(5)))
                } ?? nil
        }
        return facts
    }

    private func tenant(_ id: TenantID, _ connection: SQLiteConnection) throws(SQLiteFault) -> Tenant? {
        if let known = tenants[id] { return known }
        let select = try connection.statement(.selectTenant)
        select.bind(1, id.uuid)
        let found = try select.firstRow { row in
            Tenant(
                no: row.integer(0),
                head: TenantHead(
                    position: Position(UInt64(row.integer(1))), recordedAt: Timestamp(microseconds: row.integer(2))))
        }
        if let found { tenants[id] = found }
        return found
    }

    private func aggregate(
        _ key: AggregateKey, in tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Aggregate? {
        if let known = aggregates[key] { return known }
        let select = try connection.statement(.selectAggregate)
        select.bind(1, tenantNo)
        select.bind(2, key.name.id)
        select.bind(3, key.name.type.text)
        let found = try select.firstRow { Aggregate(no: $0.integer(0), version: Version(UInt64($0.integer(1)))) }
        if let found { aggregates[key] = found }
        return found
    }

    // MARK: Storing

    /// Numbers of rows that this transaction made.
    private struct StoredNumbers {
        var tenants: [TenantID: Int64] = [:]
        var aggregates: [AggregateKey: Int64] = [:]
    }

    private func store(
        _ plan: TenantPlan, _ connection: SQLiteConnection, _ stored: inout StoredNumbers
    ) throws(SQLiteFault) {
        let run = plan.run
        let tenantNo = try store(run.tenant, head: run.head, connection)
        stored.tenants[run.tenant] = tenantNo
        for (name, move) in plan.aggregates {
            let key = AggregateKey(tenant: run.tenant, name: name)
            stored.aggregates[key] = try store(key, version: move.to, tenantNo, connection)
        }
        let insert = try connection.statement(.insertEvent)
        insert.bind(4, run.recordedAt.microseconds)
        insert.bind(5, tenantNo)
        for (index, event) in run.events.enumerated() {
            let key = AggregateKey(tenant: run.tenant, name: event.aggregate)
            insert.bind(1, EventKeys.key(tenantNo, Position(run.firstPosition.rawValue + UInt64(index))))
            insert.bind(2, stored.aggregates[key] ?? 0)
            insert.bind(3, Int64(event.version.rawValue))
            insert.bind(6, event.id)
            insert.bind(7, event.type.text)
            let result: Result<Void, SQLiteFault> = unsafe run.entries.withUnsafeReadableBytes { bytes in
                do throws(SQLiteFault) {
                    try unsafe insert.run(
                        blob: 8, UnsafeRawBufferPointer(rebasing: bytes[event.recordStart..<event.end]))
                    return .success(())
                } catch { return .failure(error) }
            }
            try result.get()
        }
    }

    private func store(
        _ id: TenantID, head: TenantHead, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Int64 {
        if let known = tenants[id] {
            let update = try connection.statement(.updateTenant)
            update.bind(1, known.no)
            update.bind(2, Int64(head.position.rawValue))
            update.bind(3, head.recordedAt.microseconds)
            try update.run()
            return known.no
        }
        let insert = try connection.statement(.insertTenant)
        insert.bind(1, id.uuid)
        insert.bind(2, Int64(head.position.rawValue))
        insert.bind(3, head.recordedAt.microseconds)
        try insert.run()
        guard connection.lastInsertedRow < EventKeys.tenantsMax else {
            throw SQLiteFault(code: SQLITE_FULL, message: "a file holds at most \(EventKeys.tenantsMax) tenants")
        }
        return connection.lastInsertedRow
    }

    private func store(
        _ key: AggregateKey, version: Version, _ tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> Int64 {
        if let known = aggregates[key] {
            let update = try connection.statement(.updateAggregate)
            update.bind(1, known.no)
            update.bind(2, Int64(version.rawValue))
            try update.run()
            return known.no
        }
        let insert = try connection.statement(.insertAggregate)
        insert.bind(1, tenantNo)
        insert.bind(2, key.name.id)
        insert.bind(3, key.name.type.text)
        insert.bind(4, Int64(version.rawValue))
        try insert.run()
        return connection.lastInsertedRow
    }

    private func remember(_ plan: BatchPlan, _ stored: StoredNumbers) {
        if tenants.count > rememberedMax { tenants = [:] }
        if aggregates.count > rememberedMax { aggregates = [:] }
        for tenant in plan.tenants {
            let id = tenant.run.tenant
            tenants[id] = stored.tenants[id].map { Tenant(no: $0, head: tenant.run.head) }
            for (name, move) in tenant.aggregates {
                let key = AggregateKey(tenant: id, name: name)
                aggregates[key] = stored.aggregates[key].map { Aggregate(no: $0, version: move.to) }
            }
        }
    }
}

/// The keys of the table `events`.
enum EventKeys {
    /// A key is a positive 64-bit integer: what its position leaves is for the tenant's number.
    static let tenantsMax: Int64 = 1 << Int64(63 - Schema.positionBits)

    static func key(_ tenantNo: Int64, _ position: Position) -> Int64 {
        precondition(position.rawValue < 1 << UInt64(Schema.positionBits), "a position has 40 bits")
        return tenantNo << Int64(Schema.positionBits) | Int64(position.rawValue)
    }

    /// The key of a bound, which may lie above every position.
    static func bound(_ tenantNo: Int64, _ position: Position) -> Int64 {
        key(tenantNo, min(position, Position(1 << UInt64(Schema.positionBits) - 1)))
    }

    static func position(of key: Int64) -> Position {
        Position(UInt64(key) & (1 << UInt64(Schema.positionBits) - 1))
    }
}
