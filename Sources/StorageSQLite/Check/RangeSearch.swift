import FoundationEssentials
import MartletModel

/// Names the rows of `ranges` that are not what the blocks tell, after their fingerprints were found to differ.
struct RangeSearch {
    private let context: CheckContext
    private let selectAggregate: SQLiteStatement
    private let selectRange: SQLiteStatement
    private let selectBytesBefore: SQLiteStatement

    init(_ context: CheckContext) throws(SQLiteFault) {
        self.context = context
        selectAggregate = try context.connection.prepare(CheckStatements.aggregateNo)
        selectRange = try context.connection.prepare(CheckStatements.range)
        selectBytesBefore = try context.connection.prepare(CheckStatements.bytesBefore)
    }

    /// - Parameter rowsInTable: how many rows there are up to `tenants.ranged`.
    func run(rowsInTable: UInt64) throws(SQLiteFault) {
        var known: UInt64 = 0
        try context.forEachBlock { (tenant, block) throws(SQLiteFault) in
            for piece in block.pieces {
                let told = StoredRange(piece, in: block)
                guard told.lastPosition <= tenant.ranged else { continue }
                if try check(told, of: piece.aggregate, tenant) { known += 1 }
            }
        }
        if rowsInTable > known { try searchStray() }
    }

    /// - Returns: whether there is a row.
    private func check(
        _ told: StoredRange, of aggregate: AggregateName, _ tenant: CheckContext.Tenant
    ) throws(SQLiteFault) -> Bool {
        selectAggregate.bind(1, tenant.no)
        selectAggregate.bind(2, aggregate.id)
        selectAggregate.bind(3, aggregate.type.text)
        guard let no = try selectAggregate.firstRow({ $0.integer(0) }) else {
            context.find(
                .aggregates, tenant.name, "\(aggregate) at position \(told.position)", "no row in aggregates",
                "one, because it has events")
            return false
        }
        let place = "\(aggregate) version \(told.lastVersion)"
        selectRange.bind(1, no)
        selectRange.bind(2, told.lastVersion)
        guard var row = try selectRange.firstRow({ StoredRange($0) }) else {
            context.find(.ranges, tenant.name, place, "no row in ranges", "one with \(told)")
            return false
        }
        selectBytesBefore.bind(1, no)
        selectBytesBefore.bind(2, told.lastVersion)
        row.bytes = row.bytes &- (try selectBytesBefore.firstRow { $0.integer(0) } ?? 0)
        if row != told { context.find(.ranges, tenant.name, place, "a row with \(row)", "\(told), as in the block") }
        return true
    }

    /// Looks for the events of every row.
    private func searchStray() throws(SQLiteFault) {
        let events = try EventLookUp(context.connection)
        let tenants = try TenantLookUp(context.connection)
        let selectRanges = try context.connection.prepare(CheckStatements.ranges)
        try context.connection.prepare(CheckStatements.aggregates).visit { aggregate throws(SQLiteFault) in
            let (tenantNo, type) = (aggregate.integer(1), aggregate.text(3))
            guard let id = unsafe UUID(bytes: aggregate.blob(2)), let tenant = try tenants.find(tenantNo) else {
                return
            }
            selectRanges.bind(1, aggregate.integer(0))
            try selectRanges.visit { row throws(SQLiteFault) in
                let range = StoredRange(row)
                guard range.lastPosition <= tenant.ranged else { return }
                if let found = try events.find(range.lastPosition, of: tenantNo), found.piece.aggregate.id == id,
                    found.piece.aggregate.type.text == type, Int64(bitPattern: found.event.version) == range.lastVersion
                {
                    return
                }
                context.find(
                    .ranges, tenant.name, "\(type)/\(id.uuidString.lowercased()) version \(range.lastVersion)",
                    "a row with \(range)", "no row, because no block has these events")
            }
        }
    }
}
