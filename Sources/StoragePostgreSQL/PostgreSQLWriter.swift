import EventModel
import EventStorage
import FoundationEssentials
import NIOCore

/// Commits batches in two round trips; used by one thread.
final class PostgreSQLWriter: StorageWriter {
    struct Tenant {
        var no: Int64
        var aggregates: Int64
        var settingsRevision: UInt64
    }

    /// What the first round trip found.
    struct Found {
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

    /// A prepared statement with its parameters.
    typealias Call = (statement: String, parameters: [PostgresValue])

    func commit(_ batch: [AppendRequest], now: Timestamp) throws(StorageError) -> CommitResult {
        let plan = try transact { connection throws(PostgresFault) -> (BatchPlan, [Call]) in
            let found = try lookUp(AppendDecision.questions(of: batch), on: connection)
            let plan = AppendDecision.decide(batch, facts: found.facts, now: now)
            return (plan, plan.tenants.isEmpty ? [] : storing(plan, found))
        }
        if madeTenants.count > Self.rememberedMax { madeTenants = [] }
        for tenant in plan.tenants { madeTenants.insert(tenant.run.tenant) }
        return CommitResult(outcomes: plan.outcomes, runs: plan.tenants.map(\.run))
    }

    private enum CommitFault: Error {
        /// The transaction surely did not commit.
        case nothingWritten(PostgresFault)
        /// COMMIT was sent, and no answer came.
        case unknown(PostgresFault)
    }

    /// Runs a transaction that `decide` begins, and that what it returns completes; with no statements to do that, the
    /// transaction is rolled back. Runs again what surely was not committed and may go through then.
    func transact<Value>(
        _ decide: (PostgresConnection) throws(PostgresFault) -> (Value, [Call])
    ) throws(StorageError) -> Value {
        var attempt = 1
        while true {
            do throws(CommitFault) {
                return try transactOnce(decide)
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

    private func transactOnce<Value>(
        _ decide: (PostgresConnection) throws(PostgresFault) -> (Value, [Call])
    ) throws(CommitFault) -> Value {
        let connection: PostgresConnection
        let value: Value
        let storing: [Call]
        do throws(PostgresFault) {
            connection = try open()
            (value, storing) = try decide(connection)
            guard !storing.isEmpty else {
                _ = try connection.pipeline([("rollback", [])])
                return value
            }
        } catch {
            rollBack(after: error)
            throw .nothingWritten(error)
        }
        do throws(PostgresFault) {
            let results = try connection.pipeline(storing + [("commit", [])])
            guard results.last?.command == "COMMIT" else {
                throw PostgresFault(
                    sqlState: "25P02", message: "the transaction was rolled back", isConnectionLost: false)
            }
        } catch {
            rollBack(after: error)
            // An error that the server reported came instead of the commit.
            throw error.isConnectionLost ? .unknown(error) : .nothingWritten(error)
        }
        return value
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

    func lookUp(
        _ questions: BatchQuestions, on connection: PostgresConnection
    ) throws(PostgresFault) -> Found {
        let tenants = questions.tenants.sorted()
        let aggregates = Array(questions.aggregates)
        let events = Array(questions.events)
        let ids = PostgresValue(tenants.map(\.uuid))
        var calls: [Call] = [("begin", [])]
        let new = tenants.filter { !madeTenants.contains($0) }
        if !new.isEmpty { calls.append(("make_tenants", [PostgresValue(new.map(\.uuid))])) }
        calls.append(("lock_tenants", [ids]))
        calls.append(("versions", Self.names(aggregates)))
        calls.append(("stored", [PostgresValue(events.map(\.tenant.uuid)), PostgresValue(events.map(\.id))]))
        let withSnapshots = Array(questions.snapshots)
        if !withSnapshots.isEmpty { calls.append(("snapshots", Self.names(withSnapshots))) }
        let results = Array(try connection.pipeline(calls).suffix(withSnapshots.isEmpty ? 3 : 4))
        var found = Found()
        readTenants(results[0], &found)
        guard found.tenants.count == tenants.count else {
            madeTenants = []
            throw PostgresFault(sqlState: "40001", message: "a tenant's row is gone", isConnectionLost: false)
        }
        readVersions(results[1], aggregates, &found)
        readStored(results[2], events, &found)
        if !withSnapshots.isEmpty { readSnapshots(results[3], withSnapshots, &found) }
        return found
    }

    private static func names(_ aggregates: [AggregateKey]) -> [PostgresValue] {
        [
            PostgresValue(aggregates.map(\.tenant.uuid)), PostgresValue(aggregates.map(\.name.type.text)),
            PostgresValue(aggregates.map(\.name.id)),
        ]
    }

    private func readTenants(_ rows: PostgresResult, _ found: inout Found) {
        for row in 0..<rows.rowCount {
            guard let uuid = unsafe UUID(bytes: rows.bytes(row, 0)) else { continue }
            let id = TenantID(uuid)
            found.tenants[id] = Tenant(
                no: rows.integer(row, 1), aggregates: rows.integer(row, 4),
                settingsRevision: UInt64(rows.integer(row, 5)))
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
            found.facts.sizes[key] = AggregateSize(
                bytes: UInt64(rows.integer(row, 3)), snapshotVersion: Version(UInt64(rows.integer(row, 4))),
                snapshotBytes: UInt64(rows.integer(row, 5)))
        }
    }

    private func readSnapshots(_ rows: PostgresResult, _ aggregates: [AggregateKey], _ found: inout Found) {
        for row in 0..<rows.rowCount {
            found.facts.snapshots[aggregates[Int(rows.integer(row, 0)) - 1], default: []].append(
                SnapshotKey(
                    version: Version(UInt64(rows.integer(row, 1))),
                    schemaVersion: UInt32(truncatingIfNeeded: rows.integer(row, 2))))
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

    private func storing(_ plan: BatchPlan, _ found: Found) -> [Call] {
        var tenants = found.tenants
        var numbers = found.aggregates
        var aggregates = AggregateRows()
        var events = EventRows()
        var snapshots: [Call] = []
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
                aggregates.add(tenant.no, no, name, move)
            }
            for (index, event) in run.events.enumerated() {
                guard let no = numbers[AggregateKey(tenant: run.tenant, name: event.aggregate)] else {
                    preconditionFailure("an event's aggregate is planned")
                }
                events.add(run, index, event, tenantNo: tenant.no, aggregateNo: no)
            }
            for change in tenantPlan.snapshots {
                let no = numbers[AggregateKey(tenant: run.tenant, name: change.aggregate)] ?? 0
                snapshots += SnapshotCalls.calls(change.put, dropped: change.dropped, tenantNo: tenant.no, no)
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
        ] + snapshots
    }
}

/// Rows of `aggregates`, column by column.
private struct AggregateRows {
    private var tenants: [Int64] = []
    private var numbers: [Int64] = []
    private var types: [String] = []
    private var ids: [UUID] = []
    private var versions: [Int64] = []
    private var bytes: [Int64] = []
    private var snapshotVersions: [Int64] = []
    private var snapshotBytes: [Int64] = []

    mutating func add(_ tenantNo: Int64, _ no: Int64, _ name: AggregateName, _ move: TenantPlan.Move) {
        tenants.append(tenantNo)
        numbers.append(no)
        types.append(name.type.text)
        ids.append(name.id)
        versions.append(Int64(move.to.rawValue))
        bytes.append(Int64(move.size.bytes))
        snapshotVersions.append(Int64(move.size.snapshotVersion.rawValue))
        snapshotBytes.append(Int64(move.size.snapshotBytes))
    }

    var parameters: [PostgresValue] {
        [
            PostgresValue(tenants), PostgresValue(numbers), PostgresValue(types), PostgresValue(ids),
            PostgresValue(versions), PostgresValue(bytes), PostgresValue(snapshotVersions),
            PostgresValue(snapshotBytes),
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
