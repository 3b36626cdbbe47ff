import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Whether the rows of schedules are what was written, and each tenant's count and first time are those of its rows.
struct ScheduleCheck {
    private let context: CheckContext
    private let tenants: TenantLookUp
    private(set) var count = 0

    init(_ context: CheckContext) throws(SQLiteFault) {
        self.context = context
        tenants = try TenantLookUp(context.connection)
    }

    mutating func run() throws(SQLiteFault) {
        let connection = context.connection
        try connection.prepare("SELECT \(ScheduleTables.columns), event, tenant_no FROM schedules").visit {
            row throws(SQLiteFault) in
            count += 1
            let (key, tenantNo) = (row.text(0), row.integer(15))
            guard let tenant = try tenants.find(tenantNo), let id = tenant.id else {
                return context.find(
                    .schedules, "number \(tenantNo)", "schedule \(key)", "no row of its tenant", "one in tenants")
            }
            let event = unsafe ByteBuffer(bytes: row.blob(14))
            guard TenantScheduleRows.schedule(row, of: id)?.schedule(event) == nil else { return }
            context.find(
                .schedules, tenant.name, "schedule \(key)", "what does not match its checksums",
                "the schedule that was set")
        }
        try connection.prepare(
            """
            SELECT n.tenant_no, s.count, s.due, s.seal,
                   (SELECT count(*) FROM schedules c WHERE c.tenant_no = n.tenant_no),
                   (SELECT min(due) FROM schedules c WHERE c.tenant_no = n.tenant_no AND c.parked IS NULL)
            FROM (SELECT tenant_no FROM schedules UNION SELECT tenant_no FROM schedule_tenants) n
            LEFT JOIN schedule_tenants s ON s.tenant_no = n.tenant_no
            """
        ).visit { row throws(SQLiteFault) in
            try checkCount(
                of: row.integer(0), counted: Count(row, 1), seal: row.integer(3), found: Count(row, 4))
        }
    }

    private struct Count: Equatable {
        var count: Int64?
        var due: Int64?

        init(_ row: borrowing SQLiteStatement.Row, _ column: Int32) {
            count = row.isNull(column) ? nil : row.integer(column)
            due = row.isNull(column + 1) ? nil : row.integer(column + 1)
        }

        var text: String {
            "\(count.map { "\($0)" } ?? "no") schedules, the first at \(due.map { "\($0)" } ?? "no time")"
        }
    }

    /// What is counted of a tenant's schedules, and what there is.
    private func checkCount(
        of tenantNo: Int64, counted: Count, seal: Int64, found: Count
    ) throws(SQLiteFault) {
        let tenant = try tenants.find(tenantNo)
        let expected = tenant?.id.map { id in
            Seal.schedules(
                count: Int(found.count ?? 0), due: found.due.map { Timestamp(microseconds: $0) }, of: id)
        }
        guard counted != found || expected.map({ Int64($0) }) != seal else { return }
        context.find(
            .schedules, tenant?.name ?? "number \(tenantNo)", "what is counted of its schedules", counted.text,
            found.text)
    }
}
