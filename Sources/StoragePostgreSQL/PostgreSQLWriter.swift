import FoundationEssentials
import MartletModel
import MartletStorage

/// What the writers of one server share.
struct SharedByWriters: Sendable {
    /// Tells this server from others on the same database.
    let server: UUID
    let ownBackends: OwnBackends
    var connections: WriterConnections { open.idleWriters }
    let memory: RememberedTenants
    let listeners: ListenerPresence
    let open: OpenConnections
}

/// Commits batches: in one round trip what can be decided by what is remembered (``commitOptimistically(_:now:_:)``), in
/// two everything else. Used by one thread.
final class PostgreSQLWriter: StorageWriter {
    private static let attemptsMax = 3

    private let connectionString: String
    private let schema: Schema
    let shared: SharedByWriters
    /// While a transaction runs.
    private(set) var connection: WriterConnection?
    /// How many batches took one round trip.
    private(set) var optimisticCommits = 0

    init(connectionString: String, schema: Schema, shared: SharedByWriters) {
        self.connectionString = connectionString
        self.schema = schema
        self.shared = shared
    }

    var memory: RememberedTenants { shared.memory }
    var server: UUID { shared.server }

    func commit(
        _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
    ) throws(StorageError) -> CommitResult {
        try commit(batch, now: now, lockWait, mayPart: false) { _ in }
    }

    func commit(
        _ batch: [WriteCommand], now: Timestamp, handOver: ([Int]) -> Void
    ) throws(StorageError) -> CommitResult {
        try commit(batch, now: now, .zero, mayPart: true, handOver: handOver)
    }

    private func commit(
        _ batch: [WriteCommand], now: Timestamp, _ lockWait: Duration, mayPart: Bool,
        handOver: ([Int]) -> Void
    ) throws(StorageError) -> CommitResult {
        takeConnection()
        defer { giveBackConnection() }
        guard !batch.isEmpty else {
            try transact { connection throws(PostgresFault) in
                _ = try connection.pipeline(Self.begin(.zero))
                return ((), Rest(calls: [PostgresCall("probe")]))
            }
            return CommitResult(outcomes: [], runs: [])
        }
        let isWaiting = lockWait > .zero && shared.open.beginLockWait()
        defer { if isWaiting { shared.open.endLockWait() } }
        let lockWait = isWaiting ? lockWait : .zero
        // What consumers change needs nothing that is remembered. Another writer may have it meanwhile, for the tenant's appends.
        let tenants = Set(batch.lazy.filter { !$0.isOfConsumers }.map(\.tenant))
        let borrowed = TenantCacheLease(tenants, of: memory)
        let result: CommitResult
        do throws(StorageError) {
            var batch = batch
            if let plan = try commitOptimistically(
                &batch, now: now, lockWait, borrowed, mayPart: mayPart, handOver: handOver)
            {
                result = CommitResult(plan)
                optimisticCommits += 1
            } else {
                result = try commitByLookingUp(batch, now: now, lockWait, borrowed)
            }
        } catch {
            if error.kind != .locked { borrowed.forget() }
            borrowed.giveBack()
            throw error
        }
        borrowed.giveBack()
        return result
    }

    private func commitByLookingUp(
        _ batch: [WriteCommand], now: Timestamp, _ lockWait: Duration, _ borrowed: TenantCacheLease
    ) throws(StorageError) -> CommitResult {
        let questions = WriteDecision.questions(of: batch)
        let (plan, found, stored) = try transact { connection throws(PostgresFault) in
            let found = try lookUp(questions, lockWait, borrowed: borrowed, on: connection)
            let free = found.locked.isEmpty ? batch : batch.filter { !found.locked.contains($0.tenant) }
            let plan = WriteDecision.decide(free, facts: found.facts, now: now)
            let stored = PlanCalls(plan, server: server, before: plan.tenants.map { Self.before($0, found) })
            let rest =
                plan.tenants.isEmpty
                ? Rest(isProof: plan.outcomes.contains(where: \.isReplay))
                : Rest(calls: stored.rows + stored.movedRows, notice: stored.notice(from: server))
            return ((plan, found, stored), rest)
        }
        let result = CommitResult(plan, of: batch, without: found.locked)
        if borrowed.isRefuted {
            let refused = zip(batch, result.outcomes).filter { !$0.1.isStoredNow }.map(\.0.tenant)
            borrowed.settle(by: found, refused: Set(refused))
        }
        borrowed.renew(by: found, isCommitted: !plan.tenants.isEmpty)
        borrowed.move(by: plan, stored)
        return result
    }

    /// Begins a transaction whose statements wait for a lock so long at most; nothing said, it is ``shortLockWait``.
    static func begin(_ lockWait: Duration) -> [PostgresCall] {
        let begin = PostgresCall("begin")
        guard lockWait > .zero else { return [begin] }
        let milliseconds = Int64(lockWait / .milliseconds(1))
        return [begin, PostgresCall("wait_at_most", [PostgresValue("\(milliseconds)ms")])]
    }

    /// For so long a statement waits for a lock where nobody is to wait for it: long enough for what is short beside a
    /// commit.
    private static let shortLockWait = Duration.milliseconds(20)

    private static func before(_ plan: TenantPlan, _ found: Found) -> PlanCalls.Before {
        let id = plan.tenant
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

    /// The rest of a transaction that has been begun.
    struct Rest {
        /// What it stores; where it is nothing, the transaction is rolled back, unless it is a proof.
        var calls: [PostgresCall] = []
        /// It stores nothing, and commits all the same. What another transaction has stored may be on no standby yet,
        /// where its wait for one was ended: once a later commit is there, all before it is.
        var isProof = false
        /// What others are told when it has committed. That is a transaction of its own: one that notifies holds up
        /// those that do so after it until it is on disk, over all tenants and servers.
        var notice: PostgresCall?
    }

    private enum CommitFault: Error {
        /// The transaction surely did not commit.
        case nothingWritten(PostgresFault)
        /// COMMIT was sent, and no answer came.
        case unknown(PostgresFault)
    }

    /// Runs a transaction that `decide` begins, and that what it returns completes. Runs again what surely was not
    /// committed and may go through then.
    func transact<Value>(
        _ decide: (PostgresConnection) throws(PostgresFault) -> (Value, Rest)
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
                        if !fault.isLockTimeout { disconnect() }
                        throw fault.storageError
                    }
                    attempt += 1
                }
            }
        }
    }

    private func transactOnce<Value>(
        _ decide: (PostgresConnection) throws(PostgresFault) -> (Value, Rest)
    ) throws(CommitFault) -> Value {
        let connection: PostgresConnection
        let value: Value
        let rest: Rest
        do throws(PostgresFault) {
            connection = try open()
            (value, rest) = try decide(connection)
            guard !rest.calls.isEmpty || rest.isProof else {
                _ = try connection.pipeline([PostgresCall("rollback")])
                return value
            }
        } catch {
            rollBack(after: error)
            throw .nothingWritten(error)
        }
        do throws(PostgresFault) {
            _ = try commit(rest, on: connection)
        } catch {
            rollBack(after: error)
            throw error.isSurelyBefore(call: rest.calls.count) ? .nothingWritten(error) : .unknown(error)
        }
        return value
    }

    /// Sends the rest of a transaction, then COMMIT, then what others are told.
    /// - Returns: the results, in the order of the calls; none where others could not be told.
    func commit(_ rest: Rest, on connection: PostgresConnection) throws(PostgresFault) -> [PostgresResult] {
        let commit = rest.calls.count
        let notice = shared.listeners.mayBeThere(at: shared.open.now()) ? rest.notice : nil
        do throws(PostgresFault) {
            let results = try connection.pipeline(
                rest.calls + [PostgresCall("commit")] + (notice.map { [$0] } ?? []), watching: commit)
            if let warning = connection.warning { throw warning }
            let now = shared.open.now()
            self.connection?.answeredAt = now
            if notice != nil { shared.listeners.note(isThere: results[commit + 1].rowCount > 0, at: now) }
            guard results[commit].command == "COMMIT" else {
                throw PostgresFault(
                    sqlState: "25P02", message: "the transaction was rolled back", isConnectionLost: false)
            }
            return results
        } catch {
            // Only that others were not told: they find out when they next look by themselves.
            guard let failed = error.failedCall, failed > commit else { throw error }
            if let warning = connection.warning { throw warning }
            if error.isConnectionLost { memory.forgetAll() }
            disconnect()
            return []
        }
    }

    /// What is to be said of a commit to which no answer came.
    func outcomeUnknown(_ fault: PostgresFault) -> StorageError {
        disconnect()
        // What it made known was taken for known here already.
        shared.ownBackends.loseAnswer()
        let state = fault.sqlState.isEmpty ? "" : " (\(fault.sqlState))"
        return StorageError(.outcomeUnknown, "PostgreSQL: \(fault.message)\(state) while committing")
    }

    // MARK: The connection

    /// Takes the connection for a transaction, where there is one.
    func takeConnection() { connection = shared.connections.take(generation: memory.generation) }

    /// Ends what ``takeConnection()`` began.
    func giveBackConnection() {
        if let connection, shared.open.keeps(.writing) {
            shared.connections.giveBack(connection)
            shared.open.noteGivenBack()
        }
        connection = nil
    }

    private func open() throws(PostgresFault) -> PostgresConnection {
        if let connection { return connection.connection }
        let generation = memory.generation
        let taken = try shared.open.connection(
            for: .writing, idle: { shared.connections.take(generation: generation) },
            connect: { () throws(PostgresFault) in try connect(generation) })
        connection = taken
        return taken.connection
    }

    private func connect(_ generation: Int) throws(PostgresFault) -> WriterConnection {
        let opened = try PostgresConnection(
            connectionString, statements: schema.writerStatements, in: shared.open, for: .writing)
        // A server that died must not hold its locks for long. Weaker durability than a local flush is not accepted,
        // a stronger one is kept. What a commit's durability hangs on is set even where it has its value already: a
        // session takes over whatever it has not set itself when the database's configuration is reloaded. The plans are
        // those of look-ups by key, whatever the parameters and however young the statistics.
        try opened.run(
            """
            SET idle_in_transaction_session_timeout = '30s';
            SET lock_timeout = '\(Int(Self.shortLockWait / .milliseconds(1)))ms';
            SET statement_timeout = '60s';
            SET plan_cache_mode = force_generic_plan;
            SET enable_seqscan = off;
            SET enable_bitmapscan = off;
            SET enable_hashjoin = off;
            SET enable_mergejoin = off;
            SET jit = off;
            SET client_min_messages = warning;
            SELECT set_config(
                'synchronous_commit',
                CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
                     ELSE current_setting('synchronous_commit') END,
                false);
            """)
        return WriterConnection(
            opened, generation: generation, answeredAt: shared.open.now(), ownBackends: shared.ownBackends)
    }

    func disconnect() { connection = nil }

    /// Brings the connection in order after a transaction that failed, or gives it up.
    func rollBack(after fault: PostgresFault) {
        if fault.isConnectionLost { memory.forgetAll() }
        guard !fault.isConnectionLost, let connection else { return disconnect() }
        do throws(PostgresFault) {
            _ = try connection.connection.pipeline([PostgresCall("rollback")])
        } catch { disconnect() }
    }
}

extension WriteOutcome {
    fileprivate var isReplay: Bool { if case .appended(let receipt) = self { receipt.replayed } else { false } }
}

extension PostgresFault {
    /// Whether a transaction in which this came up surely did not commit, where COMMIT was that call of the pipeline.
    func isSurelyBefore(call commit: Int) -> Bool {
        if isWarning { return false }
        // An error that the server reported came instead of the commit.
        guard isConnectionLost else { return true }
        return isSessionTerminated && failedCall.map { $0 < commit } == true
    }
}
