import FoundationEssentials
import MartletModel
import MartletStorage

/// Commits that are decided by what is remembered, in one round trip.
///
/// The contract is that what a decision is based on cannot change before the commit. Here the decision comes first, and
/// the transaction proves what it was based on, or fails:
///
/// - *Heads, versions, sizes, numbers.* The tenants' rows are locked, and must have the tenant's id, the position and the id of
///   the event there that are remembered: then all of it is true (``RememberedTenant``), and the locks keep it so.
/// - *Snapshots.* They change without the lock, and nothing that is stored depends on them here. Only whether the next one is
///   due does: where it seems to be, the transaction reads along which one is the newest (``DueSnapshots``).
/// - *An aggregate that is not there.* An append that expects it not to be there is decided as if that were so; the
///   index of names refuses the second aggregate of a name.
/// - *Event ids that are not stored.* The index of ids refuses the second event of an id in its tenant.
///
/// The two indexes only speak for calls that are stored. A call that would be refused, or is a replay, may be so by what
/// is not known: only tenants of which every append is stored anew are committed here. All others, and a batch whose proof
/// failed, are decided by looking everything up under the locks. So that one of them does not make all the others of its
/// batch wait for that, they are handed over before. So are changes of consumers (``WriteCommand/isOfConsumers``): they lock
/// rows of their own, which appends that are committed here leave alone.
extension PostgreSQLWriter {
    /// For so long a connection that answered counts as one that works. COMMIT is not sent along on one that may be
    /// broken: if it were, what became of it would be unknown.
    private static let provenSeconds = 1.0

    /// Nil where that is not possible, and nothing was written.
    ///
    /// - Parameter batch: loses the commands that are handed over.
    func commitOptimistically(
        _ batch: inout [WriteCommand], now: Timestamp, _ lockWait: Duration, _ borrowed: TenantCacheLease,
        mayPart: Bool, handOver: ([Int]) -> Void
    ) throws(StorageError) -> BatchPlan? {
        guard let connection, shared.open.now() - connection.answeredAt < .seconds(Self.provenSeconds),
            connection.connection.isQuiet
        else { return nil }
        let parts = batch.contains(where: \.isOfConsumers)
        guard !parts || mayPart else { return nil }
        var (facts, slow) = Self.facts(for: batch, borrowed)
        guard slow.isEmpty || mayPart else { return nil }
        var known = slow.isEmpty && !parts ? batch : batch.filter { !$0.isOfConsumers && !slow.contains($0.tenant) }
        var plan = WriteDecision.decide(known, facts: facts, now: now)
        if !plan.outcomes.allSatisfy(\.isStoredNow) {
            let refused = Set(zip(known, plan.outcomes).filter { !$0.1.isStoredNow }.map(\.0.tenant))
            plan.leaveOut(refused, of: &known)
            slow.formUnion(refused)
        }
        guard !plan.tenants.isEmpty, slow.isEmpty || mayPart else { return nil }
        if known.count < batch.count {
            // At once, so that another writer finds what is remembered of them.
            borrowed.giveBack(slow)
            handOver(batch.indices.filter { batch[$0].isOfConsumers || slow.contains(batch[$0].tenant) })
            batch = known
        }
        let due = DueSnapshots(batch, plan, facts)
        let tenants = plan.tenants.compactMap { borrowed.known[$0.tenant] }
        let stored = PlanCalls(
            plan, server: server,
            before: zip(plan.tenants, tenants).map { plan, tenant in
                PlanCalls.Before(no: tenant.no, aggregateCount: tenant.aggregateCount) { tenant.aggregate($0) }
            })
        let calls = Self.begin(lockWait) + Self.proof(plan, tenants, stored) + stored.rows + due.calls
        let results: [PostgresResult]
        do throws(PostgresFault) {
            results = try commit(Rest(calls: calls, notice: stored.notice(from: server)), on: connection.connection)
        } catch {
            rollBack(after: error)
            guard error.isSurelyBefore(call: calls.count) else { throw outcomeUnknown(error) }
            // Who is not where it was remembered to be, and who is only locked, shows when it is looked up; so does of whom
            // something was taken for granted that is not so.
            if error.sqlState == Schema.staleState || error.isLockTimeout { return nil }
            if error.isDuplicate {
                borrowed.refute()
                return nil
            }
            guard error.isTransient || error.isConnectionLost else {
                disconnect()
                throw error.storageError
            }
            borrowed.forget()
            return nil
        }
        if !due.keys.isEmpty, results.count >= calls.count { due.correct(&plan, by: results[calls.count - 1]) }
        borrowed.move(by: plan, stored)
        return plan
    }

    /// What is known, and of which tenants it is not enough.
    private static func facts(
        for batch: [WriteCommand], _ borrowed: TenantCacheLease
    ) -> (facts: BatchFacts, slow: Set<TenantID>) {
        var facts = BatchFacts()
        var slow: Set<TenantID> = []
        for command in batch where !command.isOfConsumers && (slow.isEmpty || !slow.contains(command.tenant)) {
            if !note(command, borrowed, in: &facts) { slow.insert(command.tenant) }
        }
        return (facts, slow)
    }

    /// Adds what is known for a command.
    /// - Returns: whether that is enough.
    private static func note(_ command: WriteCommand, _ borrowed: TenantCacheLease, in facts: inout BatchFacts) -> Bool
    {
        guard case .append(let request) = command, !request.hasExtras else { return false }
        guard let tenant = borrowed.known[request.tenant], tenant.isTrusted else { return false }
        facts.heads[request.tenant] = tenant.head
        for part in request.aggregates {
            guard part.snapshot == nil else { return false }
            if let aggregate = tenant.aggregate(part.aggregate) {
                let key = AggregateKey(tenant: request.tenant, name: part.aggregate)
                facts.versions[key] = aggregate.version
                facts.sizes[key] = aggregate.size
            } else if !part.expected.isOfNew {
                return false
            }
        }
        return true
    }

    /// Statements that lock the tenants' rows, move their heads, and fail unless they are where they are remembered.
    private static func proof(_ plan: BatchPlan, _ tenants: [RememberedTenant], _ stored: PlanCalls) -> [PostgresCall] {
        if tenants.count == 1, let tenant = tenants.first, let after = stored.after.first, let run = plan.tenants[0].run
        {
            let head = run.head
            return [
                PostgresCall(
                    "move_head",
                    [
                        PostgresValue(tenant.no), PostgresValue(Int64(tenant.head.position.rawValue)),
                        PostgresValue(plan.tenants[0].tenant.uuid), PostgresValue(Int64(head.position.rawValue)),
                        PostgresValue(head.recordedAt.microseconds), PostgresValue(after.aggregateCount),
                        PostgresValue(run.lastEventID), PostgresValue(tenant.head.provenEventID),
                    ])
            ]
        }
        return [
            PostgresCall(
                "prove_heads",
                [
                    PostgresValue(tenants.map(\.no)),
                    PostgresValue(tenants.map { Int64($0.head.position.rawValue) }),
                    PostgresValue(plan.tenants.map(\.tenant.uuid)),
                    PostgresValue(tenants.map(\.head.provenEventID)),
                ])
        ] + stored.movedRows
    }
}

extension BatchPlan {
    /// Nothing of those tenants' commands is stored, nor answered.
    fileprivate mutating func leaveOut(_ left: Set<TenantID>, of batch: inout [WriteCommand]) {
        outcomes = zip(batch, outcomes).filter { !left.contains($0.0.tenant) }.map(\.1)
        tenants.removeAll { left.contains($0.tenant) }
        batch.removeAll { left.contains($0.tenant) }
    }
}

extension TenantHead {
    /// What the row of a tenant with that head must hold.
    fileprivate var provenEventID: UUID { eventID ?? UUID(high: 0, low: 0) }
}

extension ExpectedVersion {
    /// Whether it holds for an aggregate without events, and for no other.
    fileprivate var isOfNew: Bool { self == .none || self == .exact(.none) }
}

extension WriteOutcome {
    /// Whether it is an append that is stored by the commit whose outcome it is.
    var isStoredNow: Bool { if case .appended(let receipt) = self { !receipt.replayed } else { false } }
}

extension PostgresFault {
    /// Whether an index refused what was taken for new.
    fileprivate var isDuplicate: Bool { sqlState == "23505" }
}
