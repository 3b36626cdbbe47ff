import EventModel
import EventStorage
import FoundationEssentials
import NIOCore

/// Commits batches in two round trips; used by one thread.
final class PostgreSQLWriter: StorageWriter {
    private struct Tenant {
        var no: Int64
        var aggregates: Int64
    }

    /// What the first round trip found.
    private struct Found {
        var facts = BatchFacts()
        var tenants: [TenantID: Tenant] = [:]
        var aggregates: [AggregateKey: Int64] = [:]
    }

    private static let attemptsMax = 3
    private static let rememberedMax = 100_000

    private let connectionString: String
    private let schema: Schema
    private let ownBackends: OwnBackends
    private var connection: PostgresConnection?
    /// Tenants whose row is known to be there.
    private var madeTenants: Set<TenantID> = []

    init(connectionString: String, schema: Schema, ownBackends: OwnBackends) {
        self.connectionString = connectionString
        self.schema = schema
        self.ownBackends = ownBackends
    }

    func commit(_ batch: [AppendRequest], now: Timestamp) throws(StorageError) -> CommitResult {
        var attempt = 1
        while true {
            do throws(CommitFault) {
                return try commitOnce(batch, now: now)
            } catch {
                switch error {
                case .unknown(let fault):
                    disconnect()
                    // What it made known was taken for known here already.
                    ownBackends.loseAnswer()
                    throw StorageError(.outcomeUnknown, "PostgreSQL: \(fault.message) while committing")
                case .nothingWritten(let fault):
                    // A connection that broke while it was idle says so only now; the call may well go
                    // through on a new one.
                    guard attempt < Self.attemptsMax, fault.isTransient || (fault.isConnectionLost && attempt == 1)
                    else {
                        disconnect()
                        throw fault.storageError
                    }
                    if fault.isConnectionLost { disconnect() }
                    attempt += 1
                }
            }
        }
    }

    private enum CommitFault: Error {
        /// The transaction surely did not commit.
        case nothingWritten(PostgresFault)
        /// COMMIT was sent, and no answer came.
        case unknown(PostgresFault)
    }

    private func commitOnce(_ batch: [AppendRequest], now: Timestamp) throws(CommitFault) -> CommitResult {
        let connection: PostgresConnection
        let found: Found
        let plan: BatchPlan
        do throws(PostgresFault) {
            connection = try open()
            found = try lookUp(AppendDecision.questions(of: batch), on: connection)
            plan = AppendDecision.decide(batch, facts: found.facts, now: now)
            guard !plan.tenants.isEmpty else {
                _ = try connection.pipeline([("rollback", [])])
                return CommitResult(outcomes: plan.outcomes, runs: [])
            }
        } catch {
            rollBack(after: error)
            throw .nothingWritten(error)
        }
        do throws(PostgresFault) {
            let results = try connection.pipeline(storing(plan, found))
            guard results.last?.command == "COMMIT" else {
                throw PostgresFault(
                    sqlState: "25P02", message: "the transaction was rolled back", isConnectionLost: false)
            }
        } catch {
            rollBack(after: error)
            // An error that the server reported came instead of the commit.
            throw error.isConnectionLost ? .unknown(error) : .nothingWritten(error)
        }
        if madeTenants.count > Self.rememberedMax { madeTenants = [] }
        for tenant in plan.tenants { madeTenants.insert(tenant.run.tenant) }
        return CommitResult(outcomes: plan.outcomes, runs: plan.tenants.map(\.run))
    }

    private func open() throws(PostgresFault) -> PostgresConnection {
        if let connection { return connection }
        let opened = try PostgresConnection(connectionString, statements: schema.writerStatements)
        // A server that died must not hold its locks for long. Weaker durability than a local flush is not accepted,
        // a stronger one is kept.
        try opened.run(
            """
            SET idle_in_transaction_session_timeout = '30s';
            SET lock_timeout = '20s';
            SET statement_timeout = '60s';
            SELECT set_config('synchronous_commit', 'on', false)
            WHERE current_setting('synchronous_commit') IN ('off', 'local');
            """)
        ownBackends.insert(opened.backendID)
        connection = opened
        return opened
    }

    private func disconnect() {
        if let connection { ownBackends.remove(connection.backendID) }
        connection = nil
        madeTenants = []
    }

    private func rollBack(after fault: PostgresFault) {
        madeTenants = []
        guard !fault.isConnectionLost, let connection else { return disconnect() }
        do throws(PostgresFault) { _ = try connection.pipeline([("rollback", [])]) } catch { disconnect() }
    }

    // MARK: The first round trip

    private func lookUp(
        _ questions: BatchQuestions, on connection: PostgresConnection
    ) throws(PostgresFault) -> Found {
        let tenants = questions.tenants.sorted()
        let aggregates = Array(questions.aggregates)
        let events = Array(questions.events)
        let ids = PostgresValue(tenants.map(\.uuid))
        var calls: [(statement: String, parameters: [PostgresValue])] = [("begin", [])]
        let new = tenants.filter { !madeTenants.contains($0) }
        if !new.isEmpty { calls.append(("make_tenants", [PostgresValue(new.map(\.uuid))])) }
        calls.append(("lock_tenants", [ids]))
        calls.append(
            (
                "versions",
                [
                    PostgresValue(aggregates.map(\.tenant.uuid)), PostgresValue(aggregates.map(\.name.type.text)),
                    PostgresValue(aggregates.map(\.name.id)),
                ]
            ))
        calls.append(("stored", [PostgresValue(events.map(\.tenant.uuid)), PostgresValue(events.map(\.id))]))
        let results = Array(try connection.pipeline(calls).suffix(3))
        var found = Found()
        readTenants(results[0], &found)
        guard found.tenants.count == tenants.count else {
            madeTenants = []
            throw PostgresFault(sqlState: "40001", message: "a tenant's row is gone", isConnectionLost: false)
        }
        readVersions(results[1], aggregates, &found)
        readStored(results[2], events, &found)
        return found
    }

    private func readTenants(_ rows: PostgresResult, _ found: inout Found) {
        for row in 0..<rows.rowCount {
            guard let uuid = unsafe UUID(bytes: rows.bytes(row, 0)) else { continue }
            let id = TenantID(uuid)
            found.tenants[id] = Tenant(no: rows.integer(row, 1), aggregates: rows.integer(row, 4))
            found.facts.heads[id] = TenantHead(
                position: Position(UInt64(rows.integer(row, 2))),
                recordedAt: Timestamp(microseconds: rows.integer(row, 3)))
        }
    }

    private func readVersions(_ rows: PostgresResult, _ aggregates: [AggregateKey], _ found: inout Found) {
        for row in 0..<rows.rowCount {
            let key = aggregates[Int(rows.integer(row, 0)) - 1]
            found.aggregates[key] = rows.integer(row, 1)
            found.facts.versions[key] = Version(UInt64(rows.integer(row, 2)))
        }
    }

    private func readStored(_ rows: PostgresResult, _ events: [EventKey], _ found: inout Found) {
        for row in 0..<rows.rowCount {
            guard let type = AggregateType(rows.text(row, 1)), let id = unsafe UUID(bytes: rows.bytes(row, 2)) else {
                continue
            }
            found.facts.stored[events[Int(rows.integer(row, 0)) - 1]] = StoredEvent(
                aggregate: AggregateName(type: type, id: id), version: Version(UInt64(rows.integer(row, 3))),
                position: Position(UInt64(rows.integer(row, 4))),
                recordedAt: Timestamp(microseconds: rows.integer(row, 5)),
                record: unsafe ByteBuffer(bytes: rows.bytes(row, 6)))
        }
    }

    // MARK: The second round trip

    private func storing(_ plan: BatchPlan, _ found: Found) -> [(statement: String, parameters: [PostgresValue])] {
        var tenants = found.tenants
        var numbers = found.aggregates
        var aggregates = AggregateRows()
        var events = EventRows()
        for tenantPlan in plan.tenants {
            let run = tenantPlan.run
            guard var tenant = tenants[run.tenant] else { preconditionFailure("a planned tenant was locked") }
            for (name, move) in tenantPlan.aggregates {
                let key = AggregateKey(tenant: run.tenant, name: name)
                let no =
                    numbers[key]
                    ?? {
                        tenant.aggregates += 1
                        return tenant.aggregates
                    }()
                numbers[key] = no
                aggregates.add(tenant.no, no, name, move.to)
            }
            for (index, event) in run.events.enumerated() {
                guard let no = numbers[AggregateKey(tenant: run.tenant, name: event.aggregate)] else {
                    preconditionFailure("an event's aggregate is planned")
                }
                events.add(run, index, event, tenantNo: tenant.no, aggregateNo: no)
            }
            tenants[run.tenant] = tenant
        }
        let moved = plan.tenants.compactMap { plan in tenants[plan.run.tenant].map { ($0, plan.run.head) } }
        return [
            ("put_aggregates", aggregates.parameters),
            ("put_events", events.parameters),
            (
                "move_heads",
                [
                    PostgresValue(moved.map(\.0.no)), PostgresValue(moved.map { Int64($0.1.position.rawValue) }),
                    PostgresValue(moved.map(\.1.recordedAt.microseconds)), PostgresValue(moved.map(\.0.aggregates)),
                ]
            ),
            ("tell", [PostgresValue(CommitNotice.encode(plan.tenants.map { ($0.run.tenant, $0.run.head) }))]),
            ("commit", []),
        ]
    }
}

/// Rows of `aggregates`, column by column.
private struct AggregateRows {
    private var tenants: [Int64] = []
    private var numbers: [Int64] = []
    private var types: [String] = []
    private var ids: [UUID] = []
    private var versions: [Int64] = []

    mutating func add(_ tenantNo: Int64, _ no: Int64, _ name: AggregateName, _ version: Version) {
        tenants.append(tenantNo)
        numbers.append(no)
        types.append(name.type.text)
        ids.append(name.id)
        versions.append(Int64(version.rawValue))
    }

    var parameters: [PostgresValue] {
        [
            PostgresValue(tenants), PostgresValue(numbers), PostgresValue(types), PostgresValue(ids),
            PostgresValue(versions),
        ]
    }
}

/// Rows of `events`, column by column.
private struct EventRows {
    private var tenants: [Int64] = []
    private var positions: [Int64] = []
    private var aggregates: [Int64] = []
    private var versions: [Int64] = []
    private var times: [Int64] = []
    private var ids: [UUID] = []
    private var types: [String] = []
    private var contentTypes: [String] = []
    private var schemaVersions: [Int32] = []
    private var payloadBytes: [Int32] = []
    private var slices: [(start: Int, end: Int)] = []
    private var sources: [ByteBuffer] = []

    mutating func add(
        _ run: RecordedRun, _ index: Int, _ event: RecordedRun.Event, tenantNo: Int64, aggregateNo: Int64
    ) {
        tenants.append(tenantNo)
        positions.append(Int64(run.firstPosition.rawValue) + Int64(index))
        aggregates.append(aggregateNo)
        versions.append(Int64(event.version.rawValue))
        times.append(run.recordedAt.microseconds)
        ids.append(event.id)
        types.append(event.type.text)
        contentTypes.append(event.contentType)
        schemaVersions.append(Int32(event.schemaVersion))
        payloadBytes.append(Int32(event.payloadBytes))
        slices.append((event.recordStart, event.end))
        sources.append(run.entries)
    }

    var parameters: [PostgresValue] {
        [
            PostgresValue(tenants), PostgresValue(positions), PostgresValue(aggregates), PostgresValue(versions),
            PostgresValue(times), PostgresValue(ids), PostgresValue(types), PostgresValue(contentTypes),
            PostgresValue(schemaVersions), PostgresValue(payloadBytes), PostgresValue(slices: slices, of: sources),
        ]
    }
}
