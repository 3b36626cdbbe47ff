import FoundationEssentials
import MartletModel

/// Ranges on their way from memory into the table, a part with each commit, so that no commit waits for all of them.
struct MovingRanges {
    /// An aggregate's rows together, in the order of the table.
    private let groups: [[RangeRow]]
    /// How far the ranges of each tenant reach.
    private var tops: [Int64: UInt64] = [:]
    private var next = 0
    /// Rows of all of them.
    let count: Int

    init(_ groups: [[RangeRow]]) {
        self.groups = groups
        count = groups.reduce(0) { $0 + $1.count }
        for group in groups {
            for row in group { tops[row.tenantNo] = max(tops[row.tenantNo] ?? 0, row.lastPosition) }
        }
    }

    /// Whether all of them are in the table, once the transaction commits.
    var isDone: Bool { next == groups.count }

    /// Moves so many rows, or a few more: those of an aggregate go together.
    mutating func move(atLeast count: Int, _ connection: SQLiteConnection) throws(SQLiteFault) {
        let insert = try connection.statement(.insertRange)
        var moved = 0
        while moved < count, next < groups.count {
            for row in groups[next] {
                insert.bind(1, row.aggregateNo)
                insert.bind(2, Int64(row.lastVersion))
                insert.bind(3, Int64(row.count))
                insert.bind(4, Int64(row.position))
                insert.bind(5, Int64(row.before))
                insert.bind(6, Int64(row.start))
                insert.bind(7, Int64(row.length))
                insert.bind(8, Int64(row.bytes))
                try insert.run()
            }
            moved += groups[next].count
            next += 1
        }
        guard isDone else { return }
        let update = try connection.statement(.updateRanged)
        for (tenantNo, position) in tops {
            update.bind(1, tenantNo)
            update.bind(2, Int64(position))
            try update.run()
        }
    }
}

/// A row of `aggregates`.
struct AggregateRow {
    var no: Int64
    var snapshotVersion: Version
    var snapshotBytes: UInt64

    static func find(
        _ name: AggregateName, in tenantNo: Int64, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> AggregateRow? {
        let select = try connection.statement(.selectAggregate)
        select.bind(1, tenantNo)
        select.bind(2, name.id)
        select.bind(3, name.type.text)
        return try select.firstRow { row throws(SQLiteFault) in
            AggregateRow(
                no: row.integer(0), snapshotVersion: Version(try row.unsigned(1)),
                snapshotBytes: try row.unsigned(2, to: SQLiteStatement.Row.amountMax))
        }
    }
}

extension RangeRow {
    /// The version of an aggregate, and the bytes of its records: what its last range says.
    static func last(
        of aggregateNo: Int64, pending: [RangeRow], upTo version: UInt64 = UInt64(Int64.max),
        _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> (version: UInt64, bytes: UInt64) {
        if let last = pending.last { return (last.lastVersion, last.bytes) }
        let select = try connection.statement(.selectLastRange)
        select.bind(1, aggregateNo)
        select.bind(2, Int64(clamping: version))
        return try select.firstRow { row throws(SQLiteFault) in
            (try row.unsigned(0), try row.unsigned(1, to: SQLiteStatement.Row.amountMax))
        } ?? (0, 0)
    }
}
