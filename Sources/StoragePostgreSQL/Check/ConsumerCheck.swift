import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Whether the rows of consumers are what was written, and name tenants, consumers, slots and events that are there.
///
/// Runs in a transaction whose search path has the schema.
struct ConsumerCheck {
    private let connection: PostgresConnection
    private var outcome = DatabaseCheck.Outcome(subject: "consumers", summary: "")
    private var last: (tenantNo: Int64, name: String, owner: ConsumerRowCheck.Owner)?

    init(_ connection: PostgresConnection) { self.connection = connection }

    mutating func run() throws(PostgresFault) -> DatabaseCheck.Outcome {
        try connection.prepare(
            "check_consumer",
            """
            SELECT t.id, t.position, c.base_epoch, c.definition
            FROM (SELECT $1::bigint AS tenant_no, $2::text AS name) q LEFT JOIN tenants t ON t.no = q.tenant_no
            LEFT JOIN consumers c ON c.tenant_no = q.tenant_no AND c.name = q.name
            """)
        let consumers = try scan(
            "revision, position, \(Self.eventIDs), definition, seal, tenant FROM consumers r", "name", 16
        ) { owner, rows, row in
            ConsumerRowCheck.consumer(
                owner, tenant: rows.optionalBytes(row, 8), revision: rows.integer(row, 2), start: rows.place(row, 3),
                definition: unsafe ByteBuffer(bytes: rows.bytes(row, 6)), seal: rows.integer(row, 7))
        }
        _ = try scan("epoch, seal FROM consumer_epochs r", "''") { owner, rows, row in
            ConsumerRowCheck.epochFloor(rows.integer(row, 2), of: owner.tenant, seal: rows.integer(row, 3))
        }
        let slots = try scan("slot, epoch, position, \(Self.eventIDs), owner, seal FROM consumer_slots r", "consumer") {
            owner, rows, row in
            ConsumerRowCheck.slot(
                rows.integer(row, 2), of: owner, epoch: rows.integer(row, 3), floor: rows.place(row, 4),
                worker: rows.optionalBytes(row, 7), seal: rows.integer(row, 8))
        }
        let workers = try scan("r.name, session, server, until, \(Self.now) FROM consumer_workers r", "consumer") {
            owner, rows, row in
            ConsumerRowCheck.worker(
                rows.text(row, 2), of: owner, ids: (3...4).map { rows.optionalBytes(row, $0) ?? [] },
                until: rows.integer(row, 5), now: rows.integer(row, 6))
        }
        let blockedKeys = try scan(
            """
            slot, key, position, \(Self.eventIDs), is_first_handled, retry_at, tries, since, reason, seal,
            (SELECT count(*) FROM consumer_slots s
             WHERE s.tenant_no = r.tenant_no AND s.consumer = r.consumer AND s.slot = r.slot)
            FROM blocked_keys r
            """, "consumer"
        ) { owner, rows, row in
            let key = ConsumerRowCheck.BlockedKeyRow(
                slot: rows.integer(row, 2), key: rows.optionalBytes(row, 3) ?? [], first: rows.place(row, 4),
                isFirstHandled: rows.integer(row, 7), retryAt: rows.isNull(row, 8) ? nil : rows.integer(row, 8),
                tries: rows.integer(row, 9), since: rows.integer(row, 10), reason: rows.text(row, 11),
                seal: rows.integer(row, 12))
            return ConsumerRowCheck.blockedKey(key, of: owner, slotHasRow: rows.integer(row, 13) == 1)
        }
        outcome.summary =
            "\(consumers) consumers, \(slots) slots, \(workers) workers, \(blockedKeys) blocked keys"
        return outcome
    }

    /// The id that the row has, and the one of the event that is stored at its position.
    private static let eventIDs =
        "event_id, (SELECT event_id FROM events e WHERE e.tenant_no = r.tenant_no AND e.position = r.position LIMIT 1)"
    /// In microseconds since 1970 UTC.
    private static let now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

    /// Checks each row of a table. A cursor, so that a name that is damaged leads no page astray.
    /// - Parameters:
    ///   - columns: those behind the tenant's number and the consumer's name, and the table.
    ///   - name: the column that names the consumer.
    ///   - rowsMax: rows that are in memory at a time.
    /// - Returns: how many rows there are.
    private mutating func scan(
        _ columns: String, _ name: String, _ rowsMax: Int = 500,
        check: (ConsumerRowCheck.Owner, PostgresResult, Int32) -> [ConsumerRowCheck.Finding]
    ) throws(PostgresFault) -> Int {
        try connection.run(
            "DECLARE rows BINARY NO SCROLL CURSOR FOR SELECT r.tenant_no, \(name), \(columns) ORDER BY 1, 2")
        var count = 0
        while true {
            let rows = try connection.run("FETCH \(rowsMax) FROM rows")
            for row in 0..<rows.rowCount {
                let tenantNo = rows.integer(row, 0)
                let owner = try owner(tenantNo, rows.text(row, 1))
                for finding in check(owner, rows, row) {
                    let tenant = owner.tenant?.id.map { "\($0)" } ?? "number \(tenantNo), which has no row"
                    outcome.find(
                        "tenant \(tenant), \(finding.place): found \(finding.found), expected \(finding.expected): "
                            + "restore a backup")
                }
            }
            count += Int(rows.rowCount)
            if rows.rowCount < rowsMax { break }
        }
        try connection.run("CLOSE rows")
        return count
    }

    /// The consumer of that name. Remembers the last one: rows go by consumer.
    private mutating func owner(_ tenantNo: Int64, _ name: String) throws(PostgresFault) -> ConsumerRowCheck.Owner {
        if let last, last.tenantNo == tenantNo, last.name == name { return last.owner }
        let rows = try connection.run(
            PostgresCall("check_consumer", [PostgresValue(tenantNo), PostgresValue(name)]))
        let isThere = !rows.isNull(0, 2)
        let owner = ConsumerRowCheck.Owner(
            tenant: rows.isNull(0, 0)
                ? nil
                : ConsumerRowCheck.Tenant(
                    id: unsafe UUID(bytes: rows.bytes(0, 0)).map { TenantID($0) }, head: rows.integer(0, 1)),
            name: name, baseEpoch: isThere ? rows.integer(0, 2) : nil,
            definition: isThere ? unsafe ByteBuffer(bytes: rows.bytes(0, 3)) : nil)
        last = (tenantNo, name, owner)
        return owner
    }
}

extension PostgresResult {
    /// The bytes of a value; nil for NULL.
    fileprivate func optionalBytes(_ row: Int32, _ column: Int32) -> [UInt8]? {
        isNull(row, column) ? nil : unsafe Array(bytes(row, column))
    }

    /// A position, and in the columns after it the ids of ``ConsumerCheck/eventIDs``.
    fileprivate func place(_ row: Int32, _ column: Int32) -> ConsumerRowCheck.Place {
        ConsumerRowCheck.Place(
            position: integer(row, column), eventID: optionalBytes(row, column + 1),
            storedID: isNull(row, column + 2) ? nil : unsafe UUID(bytes: bytes(row, column + 2)))
    }
}
