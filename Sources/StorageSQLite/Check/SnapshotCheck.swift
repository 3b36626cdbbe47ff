import MartletModel
import MartletRecordCodec
import MartletStorage

/// Whether an aggregate's snapshots are of versions that it has, undamaged, and what its row says of them.
struct SnapshotCheck {
    struct Aggregate {
        var no: Int64
        var name: String
        var tenant: String
        var tenantID: TenantID?
        var aggregate: AggregateName?
        var version: Int64
        var bytes: Int64
        var snapshotVersion: Int64
        var snapshotBytes: Int64
    }

    private let context: CheckContext
    private let select: SQLiteStatement
    private(set) var count: UInt64 = 0

    init(_ context: CheckContext) throws(SQLiteFault) {
        self.context = context
        select = try context.connection.prepare(CheckStatements.snapshots)
    }

    mutating func check(_ aggregate: Aggregate) throws(SQLiteFault) {
        var newest: Int64 = 0
        select.bind(1, aggregate.no)
        try select.visit { row throws(SQLiteFault) in
            count += 1
            let (version, schemaVersion, checksum) = (row.integer(0), row.integer(1), row.integer(2))
            let payload = unsafe row.blob(3)
            newest = version
            func report(_ found: String, _ expected: String) {
                context.find(
                    .snapshots, aggregate.tenant, "\(aggregate.name), snapshot of version \(version)", found, expected)
            }
            if version < 1 || version > aggregate.version {
                report("version \(version)", "from 1 to \(aggregate.version), the aggregate's")
            }
            if !(1...Int64(UInt32.max)).contains(schemaVersion) {
                report("schema version \(schemaVersion)", "from 1 to \(UInt32.max)")
            }
            let sum = unsafe CRC32C.checksum(of: payload)
            if Int64(sum) != checksum {
                report("a payload with CRC-32C \(sum)", "\(checksum), that of the saved snapshot")
            }
            if row.integer(4) != Int64(payload.count) {
                report("\(payload.count) bytes of payload", "\(row.integer(4)), its payload_bytes")
            }
            guard !row.isNull(5), let name = aggregate.aggregate, let tenant = aggregate.tenantID else { return }
            let info = SnapshotInfo(
                version: Version(UInt64(clamping: version)), createdAt: Timestamp(microseconds: row.integer(6)),
                schemaVersion: UInt32(truncatingIfNeeded: schemaVersion), contentType: row.text(7),
                payloadBytes: payload.count, isIntact: true)
            let seal = Seal.snapshot(
                info, checksum: UInt32(truncatingIfNeeded: checksum), of: name, in: tenant)
            if Int64(seal) != row.integer(5) {
                report("a row with seal \(seal)", "\(row.integer(5)), that of the saved snapshot")
            }
        }
        if aggregate.snapshotVersion != newest {
            context.find(
                .snapshots, aggregate.tenant, "\(aggregate.name), row of aggregates",
                "newest snapshot of version \(aggregate.snapshotVersion)",
                newest == 0 ? "0, because it has none" : "\(newest)")
        }
        let sizes = newest == 0 ? 0...0 : 1...max(1, aggregate.bytes)
        if !sizes.contains(aggregate.snapshotBytes) {
            context.find(
                .snapshots, aggregate.tenant, "\(aggregate.name), row of aggregates",
                "\(aggregate.snapshotBytes) bytes of records when its snapshot was saved",
                newest == 0 ? "0, because it has none" : "from 1 to \(sizes.upperBound), what it has now")
        }
    }

    func findSnapshotsOfNobody() throws(SQLiteFault) {
        let all = UInt64(try context.connection.text(CheckStatements.snapshotsInAll) ?? "") ?? 0
        guard all != count else { return }
        try context.connection.prepare(CheckStatements.snapshotsOfNobody).visit { row throws(SQLiteFault) in
            context.find(
                .snapshots, "", "snapshot of version \(row.integer(1))", "aggregate number \(row.integer(0))",
                "the number of a row of aggregates")
        }
    }
}
