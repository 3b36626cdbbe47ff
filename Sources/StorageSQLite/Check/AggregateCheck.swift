import FoundationEssentials
import MartletModel

/// Whether the versions of each aggregate are 1, 2, 3 … along positions, its ranges are those that the blocks tell, and
/// its row and its snapshots agree.
///
/// One scan of `aggregates`, and for each the rows of the other tables, which lie in the same order. What the ranges are
/// held against is a fingerprint; where that differs, ``RangeSearch`` looks for the rows.
struct AggregateCheck {
    /// What there is of one aggregate.
    private struct Aggregate {
        var no: Int64
        var name: String
        var aggregate: AggregateName?
        var hash: RowHash
        var tenant: CheckContext.Tenant
        var snapshotVersion: Int64
        var snapshotBytes: Int64
        /// Up to where its events have been seen.
        var version: Int64 = 0
        var position: Int64 = 0
        var bytes: Int64 = 0
    }

    private let context: CheckContext
    private let tenants: TenantLookUp
    private let selectRanges: SQLiteStatement
    private let selectRange: SQLiteStatement
    private let selectTail: SQLiteStatement
    private let selectTailAt: SQLiteStatement
    private var snapshotCheck: SnapshotCheck
    private var ranges = Fingerprint()
    private var rangesSeen: UInt64 = 0
    private var events: UInt64 = 0
    private(set) var aggregates: UInt64 = 0
    private(set) var unmovedRanges = 0
    /// Rows of `ranges`, all of them.
    private(set) var rangesInAll: UInt64 = 0
    var snapshots: UInt64 { snapshotCheck.count }

    init(_ context: CheckContext) throws(SQLiteFault) {
        self.context = context
        let connection = context.connection
        tenants = try TenantLookUp(connection)
        selectRanges = try connection.prepare(CheckStatements.ranges)
        selectRange = try connection.prepare(CheckStatements.range)
        selectTail = try connection.prepare(CheckStatements.tail)
        selectTailAt = try connection.prepare(CheckStatements.tailAt)
        snapshotCheck = try SnapshotCheck(context)
    }

    mutating func run() throws(SQLiteFault) {
        try context.connection.prepare(CheckStatements.aggregates).visit { row throws(SQLiteFault) in
            aggregates += 1
            let (no, tenantNo, type) = (row.integer(0), row.integer(1), row.text(3))
            let id = unsafe UUID(bytes: row.blob(2))
            let name = "\(type)/\(id?.uuidString.lowercased() ?? "an id that is not a UUID")"
            guard let tenant = try tenants.find(tenantNo) else {
                return context.find(
                    .aggregates, "number \(tenantNo), which has no row", "row \(no) of aggregates, \(name)",
                    "that tenant number", "the number of a row of tenants")
            }
            var hash = RowHash(key: context.hashKey)
            hash.add(tenantNo)
            unsafe hash.add(row.blob(2))
            hash.add(type)
            let aggregate = AggregateType(type).flatMap { type in id.map { AggregateName(type: type, id: $0) } }
            try check(
                Aggregate(
                    no: no, name: name, aggregate: aggregate, hash: hash, tenant: tenant,
                    snapshotVersion: row.integer(4),
                    snapshotBytes: row.integer(5)))
        }
        rangesInAll = UInt64(try context.connection.text(CheckStatements.rangesInAll) ?? "") ?? 0
        if rangesInAll != rangesSeen { try findRangesOfNobody() }
        try snapshotCheck.findSnapshotsOfNobody()
        guard context.blocksAreRead, ranges != context.rangesInBlocks else { return }
        try RangeSearch(context).run(rowsInTable: ranges.count)
    }

    private mutating func check(_ found: Aggregate) throws(SQLiteFault) {
        var aggregate = found
        selectRanges.bind(1, aggregate.no)
        try selectRanges.visit { row throws(SQLiteFault) in
            let range = StoredRange(row)
            rangesSeen += 1
            if range.lastPosition <= aggregate.tenant.ranged {
                var own = range
                own.bytes = range.bytes &- aggregate.bytes
                ranges.add(own.hash(aggregate.hash))
                follow(range, &aggregate)
                aggregate.bytes = range.bytes
            } else {
                try checkMovedEarly(range, aggregate)
            }
        }
        selectTail.bind(1, aggregate.no)
        try selectTail.visit { row throws(SQLiteFault) in
            let range = StoredRange(row)
            unmovedRanges += 1
            follow(range, &aggregate)
            aggregate.bytes &+= range.bytes
            try checkBytes(range, aggregate)
        }
        if aggregate.version == 0 {
            context.find(
                .aggregates, aggregate.tenant.name, aggregate.name, "no events", "at least one, because it has a row")
        }
        try snapshotCheck.check(
            SnapshotCheck.Aggregate(
                no: aggregate.no, name: aggregate.name, tenant: aggregate.tenant.name, tenantID: aggregate.tenant.id,
                aggregate: aggregate.aggregate, version: aggregate.version,
                bytes: aggregate.bytes, snapshotVersion: aggregate.snapshotVersion,
                snapshotBytes: aggregate.snapshotBytes))
        if aggregates % 256 == 0 { context.progress(.aggregates, events) }
    }

    /// The next events of an aggregate.
    private mutating func follow(_ range: StoredRange, _ aggregate: inout Aggregate) {
        if range.count < 1 || range.firstVersion != aggregate.version &+ 1 {
            context.find(
                .aggregates, aggregate.tenant.name, "\(aggregate.name) at position \(range.position)",
                "\(range.count) events up to version \(range.lastVersion)",
                "events from version \(aggregate.version &+ 1) on")
        }
        if range.position <= aggregate.position {
            context.find(
                .aggregates, aggregate.tenant.name, "\(aggregate.name) version \(range.firstVersion)",
                "position \(range.position)", "a position after \(aggregate.position), that of the version before")
        }
        aggregate.version = range.lastVersion
        aggregate.position = range.lastPosition
        events &+= UInt64(max(0, range.count))
    }

    /// A row beyond `tenants.ranged` was on its way when the process ended, and is one of those that the blocks tell.
    private func checkMovedEarly(_ range: StoredRange, _ aggregate: Aggregate) throws(SQLiteFault) {
        guard context.blocksAreRead else { return }
        selectTailAt.bind(1, aggregate.no)
        selectTailAt.bind(2, range.position)
        var told = try selectTailAt.firstRow { StoredRange($0) }
        // The sum of bytes is looked at from the other side, where it is known.
        told?.bytes = range.bytes
        guard told != range else { return }
        context.find(
            .ranges, aggregate.tenant.name, "\(aggregate.name) version \(range.lastVersion), beyond ranged",
            "a row with \(range)",
            told.map { "\($0), as in the block" } ?? "no row, because no block has these events")
    }

    private func checkBytes(_ range: StoredRange, _ aggregate: Aggregate) throws(SQLiteFault) {
        selectRange.bind(1, aggregate.no)
        selectRange.bind(2, range.lastVersion)
        guard let row = try selectRange.firstRow({ StoredRange($0) }), row.position == range.position,
            row.bytes != aggregate.bytes
        else { return }
        context.find(
            .ranges, aggregate.tenant.name, "\(aggregate.name) version \(range.lastVersion), beyond ranged",
            "\(row.bytes) bytes of records", "\(aggregate.bytes)")
    }

    private func findRangesOfNobody() throws(SQLiteFault) {
        try context.connection.prepare(CheckStatements.rangesOfNobody).visit { row throws(SQLiteFault) in
            context.find(
                .ranges, "", "row of ranges up to version \(row.integer(1))", "aggregate number \(row.integer(0))",
                "the number of a row of aggregates")
        }
    }
}
