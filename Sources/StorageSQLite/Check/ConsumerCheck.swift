import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Whether the rows of consumers are what was written, and name tenants, consumers, slots and events that are there.
struct ConsumerCheck {
    private let context: CheckContext
    private let events: EventLookUp
    private let tenants: TenantLookUp
    private let selectConsumer: SQLiteStatement
    private var last: (tenantNo: Int64, owner: ConsumerRowCheck.Owner, name: String)?
    private var (consumers, slots, workers, blockedKeys) = (0, 0, 0, 0)

    var summary: String {
        "\(consumers) consumers, \(slots) slots, \(workers) workers, \(blockedKeys) blocked keys"
    }

    init(_ context: CheckContext) throws(SQLiteFault) {
        self.context = context
        let connection = context.connection
        events = try EventLookUp(connection)
        tenants = try TenantLookUp(connection)
        selectConsumer = try connection.prepare(CheckStatements.consumer)
    }

    mutating func run() throws(SQLiteFault) {
        let connection = context.connection
        try connection.prepare(CheckStatements.consumers).visit { row throws(SQLiteFault) in
            consumers += 1
            let tenantNo = row.integer(0)
            let findings = ConsumerRowCheck.consumer(
                try owner(row), tenant: row.bytes(8), revision: row.integer(2), start: try place(row, 4, of: tenantNo),
                definition: unsafe ByteBuffer(bytes: row.blob(6)), seal: row.integer(7))
            try report(findings, tenantNo)
        }
        try connection.prepare(CheckStatements.consumerEpochs).visit { row throws(SQLiteFault) in
            let tenantNo = row.integer(0)
            try report(
                ConsumerRowCheck.epochFloor(row.integer(1), of: try tenant(tenantNo), seal: row.integer(2)), tenantNo)
        }
        try connection.prepare(CheckStatements.consumerSlots).visit { row throws(SQLiteFault) in
            slots += 1
            let tenantNo = row.integer(0)
            let findings = ConsumerRowCheck.slot(
                row.integer(2), of: try owner(row), epoch: row.integer(3), floor: try place(row, 4, of: tenantNo),
                worker: row.bytes(6), seal: row.integer(7))
            try report(findings, tenantNo)
        }
        try connection.prepare(CheckStatements.consumerWorkers).visit { row throws(SQLiteFault) in
            workers += 1
            let findings = ConsumerRowCheck.worker(
                row.text(2), of: try owner(row), ids: [row.bytes(3) ?? [], row.bytes(4) ?? []], until: row.integer(5),
                now: row.integer(6))
            try report(findings, row.integer(0))
        }
        try connection.prepare(CheckStatements.blockedKeys).visit { row throws(SQLiteFault) in
            blockedKeys += 1
            let tenantNo = row.integer(0)
            let key = ConsumerRowCheck.BlockedKeyRow(
                slot: row.integer(2), key: row.bytes(3) ?? [], first: try place(row, 4, of: tenantNo),
                isFirstHandled: row.integer(6), retryAt: row.isNull(7) ? nil : row.integer(7), tries: row.integer(8),
                since: row.integer(9), reason: row.text(10), seal: row.integer(11))
            try report(
                ConsumerRowCheck.blockedKey(key, of: try owner(row), slotHasRow: row.integer(12) == 1), tenantNo)
        }
    }

    private func report(_ findings: [ConsumerRowCheck.Finding], _ tenantNo: Int64) throws(SQLiteFault) {
        guard !findings.isEmpty else { return }
        let name = try tenants.find(tenantNo)?.name ?? "number \(tenantNo), which has no row"
        for finding in findings { context.find(.consumers, name, finding.place, finding.found, finding.expected) }
    }

    private func tenant(_ no: Int64) throws(SQLiteFault) -> ConsumerRowCheck.Tenant? {
        try tenants.find(no).map { ConsumerRowCheck.Tenant(id: $0.id, head: $0.position) }
    }

    /// The consumer that the row's first two columns name. Remembers the last one: rows go by consumer.
    private mutating func owner(_ row: borrowing SQLiteStatement.Row) throws(SQLiteFault) -> ConsumerRowCheck.Owner {
        let (tenantNo, name) = (row.integer(0), row.text(1))
        if let last, last.tenantNo == tenantNo, last.name == name { return last.owner }
        selectConsumer.bind(1, tenantNo)
        selectConsumer.bind(2, name)
        let found = try selectConsumer.firstRow { ($0.integer(0), unsafe ByteBuffer(bytes: $0.blob(1))) }
        let owner = ConsumerRowCheck.Owner(
            tenant: try tenant(tenantNo), name: name, baseEpoch: found?.0, definition: found?.1)
        last = (tenantNo, owner, name)
        return owner
    }

    /// A position, and the id of its event in the column after it.
    private func place(
        _ row: borrowing SQLiteStatement.Row, _ column: Int32, of tenantNo: Int64
    ) throws(SQLiteFault) -> ConsumerRowCheck.Place {
        let position = row.integer(column)
        return ConsumerRowCheck.Place(
            position: position, eventID: row.bytes(column + 1),
            storedID: try events.find(position, of: tenantNo)?.event.id)
    }
}

extension SQLiteStatement.Row {
    /// The bytes of a blob; nil for NULL.
    fileprivate func bytes(_ column: Int32) -> [UInt8]? { isNull(column) ? nil : unsafe Array(blob(column)) }
}
