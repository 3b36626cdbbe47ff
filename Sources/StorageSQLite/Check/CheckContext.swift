import FoundationEssentials
import MartletModel
import MartletRecordCodec

/// What the checks of a file share; used by one thread.
final class CheckContext {
    /// A row of `tenants`. Nothing in it is believed.
    struct Tenant {
        var no: Int64
        /// Its UUID, or what there is where it has none.
        var name: String
        var id: TenantID?
        var headID: UUID?
        var position: Int64
        var recordedAt: Int64
        var ranged: Int64
        var settingsRevision: Int64

        init(_ row: borrowing SQLiteStatement.Row) {
            no = row.integer(0)
            let bytes = unsafe row.blob(1)
            let uuid = unsafe UUID(bytes: bytes)
            id = uuid.map { TenantID($0) }
            headID = unsafe UUID(bytes: row.blob(6))
            name = uuid.map { $0.uuidString.lowercased() } ?? "number \(no), whose id has \(bytes.count) bytes"
            position = row.integer(2)
            recordedAt = row.integer(3)
            ranged = row.integer(4)
            settingsRevision = row.integer(5)
        }

        var hasID: Bool { id != nil }

        /// The keys that its blocks may have; nil where its number has no place in a key.
        var keys: ClosedRange<Int64>? {
            guard no > 0, no < EventKeys.tenantsMax else { return nil }
            let first = no << Int64(Schema.positionBits)
            return first...(first | (1 << Int64(Schema.positionBits) - 1))
        }
    }

    /// This many findings are kept; the others are counted.
    static let findingsMax = 20

    let connection: SQLiteConnection
    /// New in each run: see ``Fingerprint``.
    let hashKey: UInt64
    /// Events of all tenants, by their heads.
    var eventsInAll: UInt64 = 0
    /// What the blocks tell.
    var idsInBlocks = Fingerprint()
    var rangesInBlocks = Fingerprint()
    /// Whether every block was seen, so that what the blocks tell is all there is.
    var blocksAreRead = false

    private(set) var findings: [FileFinding] = []
    private(set) var counts: [FileCheck.Subject: Int] = [:]
    private let onProgress: (FileCheck.Progress) -> Void

    init(_ connection: SQLiteConnection, hashKey: UInt64, onProgress: @escaping (FileCheck.Progress) -> Void) {
        self.connection = connection
        self.hashKey = hashKey
        self.onProgress = onProgress
    }

    func find(_ subject: FileCheck.Subject, _ tenant: String, _ place: String, _ found: String, _ expected: String) {
        counts[subject, default: 0] += 1
        guard findings.count < Self.findingsMax else { return }
        findings.append(
            FileFinding(subject: subject, tenant: tenant, place: place, found: found, expected: expected))
    }

    /// Reports how many of the file's events have been checked.
    func progress(_ subject: FileCheck.Subject, _ done: UInt64) {
        onProgress(FileCheck.Progress(subject: subject, done: done, total: eventsInAll))
    }

    func forEachTenant(_ body: (Tenant) throws(SQLiteFault) -> Void) throws(SQLiteFault) {
        try connection.prepare(CheckStatements.tenants).visit { row throws(SQLiteFault) in try body(Tenant(row)) }
    }

    /// Every block of every tenant that has a place in keys, in order.
    func forEachBlock(_ body: (Tenant, StoredBlock) throws(SQLiteFault) -> Void) throws(SQLiteFault) {
        let select = try connection.prepare(CheckStatements.blocks)
        try forEachTenant { tenant throws(SQLiteFault) in
            try forEachBlock(of: tenant, select) { block throws(SQLiteFault) in try body(tenant, block) }
        }
    }

    func forEachBlock(
        of tenant: Tenant, _ select: SQLiteStatement, _ body: (StoredBlock) throws(SQLiteFault) -> Void
    ) throws(SQLiteFault) {
        guard let keys = tenant.keys else { return }
        select.bind(1, keys.lowerBound)
        select.bind(2, keys.upperBound)
        var decoder = RecordDecoder()
        try select.visit { row throws(SQLiteFault) in try body(StoredBlock(row, &decoder, tenant: tenant.id)) }
    }

    /// The hash of an aggregate's name, to which those of its ranges are added.
    func hash(_ piece: StoredBlock.Piece, tenantNo: Int64) -> RowHash {
        var hash = RowHash(key: hashKey)
        hash.add(tenantNo)
        hash.add(piece.aggregate.id)
        hash.add(piece.aggregate.type.text)
        return hash
    }
}
