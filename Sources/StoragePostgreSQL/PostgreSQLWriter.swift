import EventModel
import EventStorage

/// Commits batches: in one round trip what can be decided by what is remembered (``commitFromMemory(_:now:_:)``), in
/// two everything else. Used by one thread.
final class PostgreSQLWriter: StorageWriter {
    private static let attemptsMax = 3

    private let connectionString: String
    private let schema: Schema
    private let ownBackends: OwnBackends
    let memory: RememberedTenants
    private(set) var connection: PostgresConnection?
    /// ``RememberedTenants/generation`` when the connection was made.
    private(set) var generation = 0
    /// When the connection last answered.
    private(set) var answeredAt = ContinuousClock.now
    /// How many batches took one round trip.
    private(set) var commitsFromMemory = 0

    init(connectionString: String, schema: Schema, ownBackends: OwnBackends, memory: RememberedTenants) {
        self.connectionString = connectionString
        self.schema = schema
        self.ownBackends = ownBackends
        self.memory = memory
    }

    deinit { disconnect() }

    func commit(_ batch: [AppendRequest], now: Timestamp) throws(StorageError) -> CommitResult {
        let borrowed = BorrowedTenants(Set(batch.map(\.tenant)), of: memory)
        let plan: BatchPlan
        do throws(StorageError) {
            if let done = try commitFromMemory(batch, now: now, borrowed) {
                plan = done
                commitsFromMemory += 1
            } else {
                plan = try commitByLookingUp(batch, now: now, borrowed)
            }
        } catch {
            borrowed.forget()
            borrowed.giveBack()
            throw error
        }
        borrowed.giveBack()
        return CommitResult(outcomes: plan.outcomes, runs: plan.tenants.map(\.run))
    }

    private func commitByLookingUp(
        _ batch: [AppendRequest], now: Timestamp, _ borrowed: BorrowedTenants
    ) throws(StorageError) -> BatchPlan {
        let questions = AppendDecision.questions(of: batch)
        let (plan, found, stored) = try transact { connection throws(PostgresFault) in
            let found = try lookUp(questions, borrowed: borrowed, on: connection)
            let plan = AppendDecision.decide(batch, facts: found.facts, now: now)
            let stored = PlanCalls(plan, before: plan.tenants.map { Self.before($0, found) })
            return (
                (plan, found, stored),
                plan.tenants.isEmpty ? [] : stored.rows + [stored.moveHeads, stored.tell]
            )
        }
        borrowed.renew(by: found, isCommitted: !plan.tenants.isEmpty)
        borrowed.move(by: plan, stored)
        return plan
    }

    private static func before(_ plan: TenantPlan, _ found: Found) -> PlanCalls.Before {
        let id = plan.run.tenant
        guard let tenant = found.tenants[id] else { preconditionFailure("a planned tenant was locked") }
        return PlanCalls.Before(no: tenant.no, aggregateCount: tenant.aggregateCount) { name in
            let key = AggregateKey(tenant: id, name: name)
            return found.aggregates[key].map { no in
                RememberedTenant.Aggregate(
                    no: no, version: found.facts.versions[key] ?? .none,
                    size: found.facts.sizes[key] ?? AggregateSize())
            }
        }
    }

    // MARK: Transactions

    private enum CommitFault: Error {
        /// The transaction surely did not commit.
        case nothingWritten(PostgresFault)
        /// COMMIT was sent, and no answer came.
        case unknown(PostgresFault)
    }

    /// Runs a transaction that `decide` begins, and that what it returns completes; with no statements to do that, the
    /// transaction is rolled back. Runs again what surely was not committed and may go through then.
    func transact<Value>(
        _ decide: (PostgresConnection) throws(PostgresFault) -> (Value, [PostgresCall])
    ) throws(StorageError) -> Value {
        var attempt = 1
        while true {
            do throws(CommitFault) {
                return try transactOnce(decide)
            } catch {
                switch error {
                case .unknown(let fault): throw outcomeUnknown(fault)
                case .nothingWritten(let fault):
                    // A connection that broke while it was idle says so only now; the call may well go
                    // through on a new one.
                    guard attempt < Self.attemptsMax, fault.isTransient || (fault.isConnectionLost && attempt == 1)
                    else {
                        disconnect()
                        throw fault.storageError
                    }
                    attempt += 1
                }
            }
        }
    }

    private func transactOnce<Value>(
        _ decide: (PostgresConnection) throws(PostgresFault) -> (Value, [PostgresCall])
    ) throws(CommitFault) -> Value {
        let connection: PostgresConnection
        let value: Value
        let storing: [PostgresCall]
        do throws(PostgresFault) {
            connection = try open()
            (value, storing) = try decide(connection)
            guard !storing.isEmpty else {
                _ = try connection.pipeline([PostgresCall("rollback")])
                return value
            }
        } catch {
            rollBack(after: error)
            throw .nothingWritten(error)
        }
        do throws(PostgresFault) {
            try commit(storing, on: connection)
        } catch {
            rollBack(after: error)
            throw error.isSurelyBefore(call: storing.count) ? .nothingWritten(error) : .unknown(error)
        }
        return value
    }

    /// Sends the rest of a transaction, and COMMIT, which is the call after those.
    func commit(_ calls: [PostgresCall], on connection: PostgresConnection) throws(PostgresFault) {
        let results = try connection.pipeline(calls + [PostgresCall("commit")])
        answeredAt = .now
        guard results.last?.command == "COMMIT" else {
            throw PostgresFault(
                sqlState: "25P02", message: "the transaction was rolled back", isConnectionLost: false)
        }
    }

    /// What is to be said of a commit to which no answer came.
    func outcomeUnknown(_ fault: PostgresFault) -> StorageError {
        disconnect()
        // What it made known was taken for known here already.
        ownBackends.loseAnswer()
        return StorageError(.outcomeUnknown, "PostgreSQL: \(fault.message) while committing")
    }

    // MARK: The connection

    private func open() throws(PostgresFault) -> PostgresConnection {
        let current = memory.generation
        if let connection, generation == current { return connection }
        disconnect()
        let opened = try PostgresConnection(connectionString, statements: schema.writerStatements)
        // A server that died must not hold its locks for long. Weaker durability than a local flush is not accepted,
        // a stronger one is kept. The plans are those of look-ups by key, whatever the parameters and however young
        // the statistics.
        try opened.run(
            """
            SET idle_in_transaction_session_timeout = '30s';
            SET lock_timeout = '20s';
            SET statement_timeout = '60s';
            SET plan_cache_mode = force_generic_plan;
            SET enable_seqscan = off;
            SET enable_bitmapscan = off;
            SET enable_hashjoin = off;
            SET enable_mergejoin = off;
            SET jit = off;
            SELECT set_config('synchronous_commit', 'on', false)
            WHERE current_setting('synchronous_commit') IN ('off', 'local');
            """)
        ownBackends.insert(opened.backendID)
        connection = opened
        generation = current
        answeredAt = .now
        return opened
    }

    func disconnect() {
        if let connection { ownBackends.remove(connection.backendID) }
        connection = nil
    }

    /// Brings the connection in order after a transaction that failed, or gives it up.
    func rollBack(after fault: PostgresFault) {
        if fault.isConnectionLost { memory.forgetAll() }
        guard !fault.isConnectionLost, let connection else { return disconnect() }
        do throws(PostgresFault) { _ = try connection.pipeline([PostgresCall("rollback")]) } catch { disconnect() }
    }
}

extension PostgresFault {
    /// Whether a transaction in which this came up surely did not commit, where COMMIT was that call of the pipeline.
    func isSurelyBefore(call commit: Int) -> Bool {
        // An error that the server reported came instead of the commit.
        guard isConnectionLost else { return true }
        return isFarewell && failedCall.map { $0 < commit } == true
    }
}
