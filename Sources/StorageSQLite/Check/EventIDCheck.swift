import FoundationEssentials
import MartletModel

/// Whether `event_ids` has the ids that the blocks hold, each with its position, and no others.
struct EventIDCheck {
    private let context: CheckContext
    private(set) var ids = Fingerprint()

    init(_ context: CheckContext) { self.context = context }

    mutating func run() throws(SQLiteFault) {
        try context.connection.prepare(CheckStatements.eventIDs).visit { row throws(SQLiteFault) in
            var hash = RowHash(key: context.hashKey)
            hash.add(row.integer(0))
            unsafe hash.add(row.blob(1))
            hash.add(row.integer(2))
            ids.add(hash)
            if ids.count % 1_024 == 0 { context.progress(.eventIDs, ids.count) }
        }
        guard context.blocksAreRead, ids != context.idsInBlocks else { return }
        let known = try searchWrong()
        if ids.count > known { try searchStray() }
    }

    /// Looks every event up.
    /// - Returns: how many have a row.
    private func searchWrong() throws(SQLiteFault) -> UInt64 {
        var known: UInt64 = 0
        let select = try context.connection.prepare(CheckStatements.positionOfID)
        try context.forEachBlock { (tenant, block) throws(SQLiteFault) in
            select.bind(1, tenant.no)
            for (index, event) in block.events.enumerated() {
                let position = block.position(index)
                select.bind(2, event.id)
                let found = try select.firstRow { $0.integer(0) }
                if found != nil { known += 1 }
                guard found != position else { continue }
                context.find(
                    .eventIDs, tenant.name, "event \(event.id.uuidString.lowercased()) at position \(position)",
                    found.map { "position \($0) in event_ids" } ?? "no row in event_ids", "position \(position)")
            }
        }
        return known
    }

    /// Looks for the event of every row.
    private func searchStray() throws(SQLiteFault) {
        let events = try EventLookUp(context.connection)
        let tenants = try TenantLookUp(context.connection)
        try context.connection.prepare(CheckStatements.eventIDs).visit { row throws(SQLiteFault) in
            let (tenantNo, position) = (row.integer(0), row.integer(2))
            let id = unsafe UUID(bytes: row.blob(1))
            let found = try events.find(position, of: tenantNo)
            guard id == nil || found?.event.id != id else { return }
            let name = try tenants.find(tenantNo)?.name ?? "number \(tenantNo), which has no row"
            context.find(
                .eventIDs, name, "row of event_ids for \(id?.uuidString.lowercased() ?? "an id that is not a UUID")",
                "position \(position)", "no row, because no event there has that id")
        }
    }
}
