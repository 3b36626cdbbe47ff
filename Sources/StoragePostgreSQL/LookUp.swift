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
        var changes: Int64
    }

    /// What the first round trip found.
    struct Found {
        var facts = BatchFacts()
        /// Those whose rows another program has locked.
        var locked: Set<TenantID> = []
        var tenants: [TenantID: FoundTenant] = [:]
        var aggregates: [AggregateKey: Int64] = [:]
    }

    /// - Parameter lockWait: so long each lock is waited for; where it is zero, tenants that are locked are passed over.
    func lookUp(
        _ questions: BatchQuestions, _ lockWait: Duration, borrowed: BorrowedTenants, on connection: PostgresConnection
    ) throws(PostgresFault) -> Found {
        let tenants = questions.tenants.sorted()
        let aggregates = Array(questions.aggregates)
        let events = Array(questions.events)
        var calls = Self.begin(lockWait)
        let new = tenants.filter { borrowed.known[$0] == nil }
        if !new.isEmpty { calls.append(PostgresCall("make_tenants", [PostgresValue(new.map(\.uuid))])) }
        let isWaiting = lockWait > .zero
        calls.append(
            PostgresCall(isWaiting ? "lock_tenants" : "lock_free_tenants", [PostgresValue(tenants.map(\.uuid))]))
        calls.append(PostgresCall("versions", Self.names(aggregates)))
        calls.append(
            PostgresCall("stored", [PostgresValue(events.map(\.tenant.uuid)), PostgresValue(events.map(\.id))]))
        let withSnapshots = Array(questions.snapshots)
        if !withSnapshots.isEmpty { calls.append(PostgresCall("snapshots", Self.names(withSnapshots))) }
        let results = Array(try connection.pipeline(calls).suffix(withSnapshots.isEmpty ? 3 : 4))
        var found = Found()
        try readTenants(results[0], &found)
        if found.tenants.count < tenants.count {
            guard !isWaiting else {
                // Made again by the next attempt.
                borrowed.forget()
                throw PostgresFault(sqlState: "40001", message: "a tenant's row is gone", isConnectionLost: false)
            }
            // A row that is gone counts as locked too, and is made when its tenant comes again.
            found.locked = Set(tenants.filter { found.tenants[$0] == nil })
            borrowed.forget(found.locked)
        }
        try readVersions(results[1], aggregates, &found)
        try readStored(results[2], events, &found)
        if !withSnapshots.isEmpty { try readSnapshots(results[3], withSnapshots, &found) }
        return found
    }

    private static func names(_ aggregates: [AggregateKey]) -> [PostgresValue] {
        [
            PostgresValue(aggregates.map(\.tenant.uuid)), PostgresValue(aggregates.map(\.name.type.text)),
            PostgresValue(aggregates.map(\.name.id)),
        ]
    }

    private func readTenants(_ rows: PostgresResult, _ found: inout Found) throws(PostgresFault) {
        for row in 0..<rows.rowCount {
            guard let uuid = unsafe UUID(bytes: rows.bytes(row, 0)) else { continue }
            let id = TenantID(uuid)
            found.tenants[id] = FoundTenant(
                no: rows.integer(row, 1),
                aggregateCount: Int64(try rows.unsigned(row, 4, to: PostgresResult.amountMax)),
                changes: rows.integer(row, 6))
            found.facts.settingsRevisions[id] = try rows.unsigned(row, 5)
            found.facts.heads[id] = TenantHead(
                position: Position(try rows.unsigned(row, 2)),
                recordedAt: Timestamp(microseconds: rows.integer(row, 3)),
                eventID: unsafe rows.isNull(row, 7) ? nil : UUID(bytes: rows.bytes(row, 7)))
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
