import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Whether the rows of schedules are what was written, and each tenant's count and first time are those of its rows.
///
/// Runs in a transaction whose search path has the schema.
struct ScheduleCheck {
    private let connection: PostgresConnection
    private var outcome = DatabaseCheck.Outcome(subject: "schedules", summary: "")

    init(_ connection: PostgresConnection) { self.connection = connection }

    mutating func run() throws(PostgresFault) -> DatabaseCheck.Outcome {
        let rowsMax = 16
        try connection.run(
            """
            DECLARE schedule_rows BINARY NO SCROLL CURSOR FOR
            SELECT t.id, \(Schema.scheduleColumns), s.event FROM schedules s LEFT JOIN tenants t ON t.no = s.tenant_no
            """)
        var count = 0
        while true {
            let rows = try connection.run("FETCH \(rowsMax) FROM schedule_rows")
            for row in 0..<rows.rowCount { check(rows, row) }
            count += Int(rows.rowCount)
            if rows.rowCount < rowsMax { break }
        }
        try connection.run("CLOSE schedule_rows")
        outcome.summary = "\(count) schedules"
        try connection.run(
            """
            DECLARE schedule_counts BINARY NO SCROLL CURSOR FOR
            SELECT t.id, s.count, s.due, s.seal,
                   (SELECT count(*) FROM schedules c WHERE c.tenant_no = n.tenant_no),
                   (SELECT min(due) FROM schedules c WHERE c.tenant_no = n.tenant_no AND c.parked IS NULL)
            FROM (SELECT tenant_no FROM schedules UNION SELECT tenant_no FROM schedule_tenants) n
            LEFT JOIN schedule_tenants s ON s.tenant_no = n.tenant_no LEFT JOIN tenants t ON t.no = n.tenant_no
            """)
        while true {
            let rows = try connection.run("FETCH 500 FROM schedule_counts")
            for row in 0..<rows.rowCount { checkCount(rows, row) }
            if rows.rowCount < 500 { break }
        }
        try connection.run("CLOSE schedule_counts")
        return outcome
    }

    private mutating func check(_ rows: PostgresResult, _ row: Int32) {
        let key = rows.text(row, 1)
        guard let tenant = tenant(rows, row) else {
            return outcome.find("schedule \(key): it belongs to no tenant: restore a backup")
        }
        let event = unsafe ByteBuffer(bytes: rows.bytes(row, 15))
        guard ScheduleRows(rows: rows).schedule(row, of: tenant)?.schedule(event) == nil else { return }
        outcome.find(
            "tenant \(tenant), schedule \(key): it does not match its checksums: set it again or cancel it")
    }

    private mutating func checkCount(_ rows: PostgresResult, _ row: Int32) {
        guard let tenant = tenant(rows, row) else {
            return outcome.find("what is counted of schedules belongs to no tenant: restore a backup")
        }
        let (found, expected) = (
            "\(text(rows, row, 1)) schedules, first at \(text(rows, row, 2))",
            "\(text(rows, row, 4)), first at \(text(rows, row, 5))"
        )
        let due = rows.isNull(row, 5) ? nil : Timestamp(microseconds: rows.integer(row, 5))
        let count = Int(rows.integer(row, 4))
        // Where nothing was ever set, the row is as it was made.
        let isFresh = rows.isNull(row, 3) && count == 0
        let isSealed =
            isFresh
            || (!rows.isNull(row, 3)
                && rows.integer(row, 3) == Int64(Seal.schedules(count: count, due: due, of: tenant)))
        guard rows.integer(row, 1) != rows.integer(row, 4) || text(rows, row, 2) != text(rows, row, 5) || !isSealed
        else { return }
        outcome.find(
            "tenant \(tenant), what is counted of its schedules: found \(found), expected \(expected): set any "
                + "schedule of the tenant")
    }

    private func text(_ rows: PostgresResult, _ row: Int32, _ column: Int32) -> String {
        rows.isNull(row, column) ? "none" : "\(rows.integer(row, column))"
    }

    private func tenant(_ rows: PostgresResult, _ row: Int32) -> TenantID? {
        rows.isNull(row, 0) ? nil : unsafe UUID(bytes: rows.bytes(row, 0)).map { TenantID($0) }
    }
}
