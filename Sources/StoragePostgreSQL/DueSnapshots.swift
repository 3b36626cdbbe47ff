import MartletModel
import MartletStorage

/// Aggregates of which appends would say that a snapshot is due, by what is remembered. Another server may have saved one
/// meanwhile, which the remembered tenant's proof does not say: the transaction reads along which is the newest.
struct DueSnapshots {
    /// In the order in which they are asked for.
    private(set) var keys: [AggregateKey] = []
    private let batch: [WriteCommand]

    /// - Parameter facts: what the plan was decided by: aggregates that are not in it are new, and have no snapshots.
    init(_ batch: [WriteCommand], _ plan: BatchPlan, _ facts: BatchFacts) {
        self.batch = batch
        var seen: Set<AggregateKey> = []
        for (command, outcome) in zip(batch, plan.outcomes) {
            guard let receipt = outcome.receipt else { continue }
            for part in receipt.aggregates where part.snapshotDue {
                let key = AggregateKey(tenant: command.tenant, name: part.aggregate)
                if facts.versions[key] != nil, seen.insert(key).inserted { keys.append(key) }
            }
        }
    }

    /// What reads them; none where none is due.
    var calls: [PostgresCall] {
        if keys.isEmpty { return [] }
        return [
            PostgresCall(
                "newest_snapshots",
                [
                    PostgresValue(keys.map(\.tenant.uuid)), PostgresValue(keys.map(\.name.type.text)),
                    PostgresValue(keys.map(\.name.id)),
                ])
        ]
    }

    /// Says again what is due, now that the newest snapshots are known. Rows that cannot be are left out: a check finds them.
    func correct(_ plan: inout BatchPlan, by rows: PostgresResult) {
        var sizes: [AggregateKey: AggregateSize] = [:]
        for row in 0..<rows.rowCount {
            let key = keys[Int(rows.integer(row, 0)) - 1]
            guard let version = UInt64(exactly: rows.integer(row, 1)),
                let bytes = UInt64(exactly: rows.integer(row, 2)),
                let tenant = plan.tenants.firstIndex(where: { $0.tenant == key.tenant }),
                var move = plan.tenants[tenant].aggregates[key.name]
            else { continue }
            move.size.snapshotVersion = Version(version)
            move.size.snapshotBytes = bytes
            plan.tenants[tenant].aggregates[key.name] = move
            sizes[key] = move.size
        }
        for index in batch.indices {
            guard case .append(let request) = batch[index], case .appended(var receipt) = plan.outcomes[index] else {
                continue
            }
            for (part, asked) in zip(receipt.aggregates.indices, request.aggregates) {
                let key = AggregateKey(tenant: request.tenant, name: asked.aggregate)
                guard receipt.aggregates[part].snapshotDue, let size = sizes[key] else { continue }
                let last = receipt.aggregates[part].lastVersion
                receipt.aggregates[part].snapshotDue = asked.snapshotPolicy.isDue(
                    events: last.rawValue - min(last, size.snapshotVersion).rawValue,
                    bytes: size.bytes - min(size.bytes, size.snapshotBytes))
            }
            plan.outcomes[index] = .appended(receipt)
        }
    }
}
