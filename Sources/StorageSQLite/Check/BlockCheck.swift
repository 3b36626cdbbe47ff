import FoundationEssentials
import MartletModel
import MartletRecordCodec

/// Whether the blocks of each tenant hold its events at every position, and are what its head says.
///
/// It also gathers what the tables beside the blocks must hold: fingerprints of the event ids and of the ranges, and in
/// a temporary table the ranges that need not be in theirs yet.
struct BlockCheck {
    private let context: CheckContext
    private let selectBlocks: SQLiteStatement
    private let selectFirstKey: SQLiteStatement
    private let selectAggregate: SQLiteStatement
    private let insertTail: SQLiteStatement
    private(set) var tenants = 0
    private(set) var blocks = 0
    private(set) var events: UInt64 = 0
    /// Events of before there were checksums.
    private(set) var withoutChecksum: UInt64 = 0
    /// The first key that no tenant so far can have.
    private var nextKey = Int64.min

    init(_ context: CheckContext) throws(SQLiteFault) {
        self.context = context
        let connection = context.connection
        try connection.run(CheckStatements.makeTail)
        selectBlocks = try connection.prepare(CheckStatements.blocks)
        selectFirstKey = try connection.prepare(CheckStatements.firstKey)
        selectAggregate = try connection.prepare(CheckStatements.aggregateNo)
        insertTail = try connection.prepare(CheckStatements.insertTail)
    }

    mutating func run() throws(SQLiteFault) {
        let select = try context.connection.prepare(CheckStatements.tenants)
        try select.visit { row throws(SQLiteFault) in try check(CheckContext.Tenant(row)) }
        try findStray(to: Int64.max)
        context.blocksAreRead = true
    }

    /// Where a tenant's blocks have come to.
    private struct Progress {
        var nextPosition: Int64 = 1
        var recordedAt = Int64.min
        /// Id of the last event.
        var eventID: UUID?
        /// Whether a block ends where the tenant's ranges do.
        var rangedIsAnEnd: Bool
    }

    private mutating func check(_ tenant: CheckContext.Tenant) throws(SQLiteFault) {
        tenants += 1
        let last: Int64 = 1 << Int64(Schema.positionBits) - 1
        if !tenant.hasID { report(tenant, "row of tenants", "an id that is not a UUID", "16 bytes") }
        guard let keys = tenant.keys else {
            return report(tenant, "row of tenants", "number \(tenant.no)", "from 1 to \(EventKeys.tenantsMax - 1)")
        }
        if keys.lowerBound > nextKey { try findStray(to: keys.lowerBound - 1) }
        nextKey = keys.upperBound == .max ? .max : keys.upperBound + 1
        if !(0...last).contains(tenant.position) {
            report(tenant, "row of tenants", "head \(tenant.position)", "from 0 to \(last)")
        }
        var progress = Progress(rangedIsAnEnd: tenant.ranged == 0)
        try context.forEachBlock(of: tenant, selectBlocks) { block throws(SQLiteFault) in
            blocks += 1
            check(block, of: tenant, &progress)
            try gather(block, of: tenant)
            context.progress(.blocks, events)
        }
        let end = progress.nextPosition &- 1
        if end != tenant.position {
            report(tenant, "head", "position \(tenant.position)", "\(end), where its blocks end")
        }
        let recordedAt = end == 0 ? 0 : progress.recordedAt
        if recordedAt != tenant.recordedAt {
            report(
                tenant, "head", "recorded at \(Timestamp(microseconds: tenant.recordedAt))",
                "\(Timestamp(microseconds: recordedAt)), as in its last block")
        }
        if tenant.headID != progress.eventID {
            report(
                tenant, "head", "event \(tenant.headID?.uuidString.lowercased() ?? "of no id")",
                "\(progress.eventID?.uuidString.lowercased() ?? "none"), as in its last block")
        }
        if tenant.ranged > tenant.position || !progress.rangedIsAnEnd {
            context.find(
                .ranges, tenant.name, "row of tenants", "ranged up to \(tenant.ranged)",
                "the end of a block, at most \(tenant.position)")
        }
    }

    private mutating func check(_ block: StoredBlock, of tenant: CheckContext.Tenant, _ progress: inout Progress) {
        let place = "block at position \(block.firstPosition)"
        if block.firstPosition != progress.nextPosition {
            report(tenant, place, "a block", "the next block at position \(progress.nextPosition)")
        }
        if block.count < 1 { report(tenant, place, "a count of \(block.count)", "1 or more") }
        if let fault = block.fault { report(tenant, place, fault, "\(block.count) events") }
        if block.fault == nil, block.count != Int64(block.events.count) {
            report(tenant, place, "\(block.events.count) events in its entries", "\(block.count), its count")
        }
        if block.recordedAt < progress.recordedAt {
            report(
                tenant, place, "recorded at \(Timestamp(microseconds: block.recordedAt))",
                "not before \(Timestamp(microseconds: progress.recordedAt)), the time of the block before")
        }
        for (index, event) in block.events.enumerated() {
            let position = block.position(index)
            if event.position != UInt64(bitPattern: position) {
                report(tenant, "position \(position)", "an event with position \(event.position)", "\(position)")
            }
            if event.checksum == .missing { withoutChecksum += 1 }
            if event.checksum == .damaged {
                report(
                    tenant, "position \(position)", "an event that does not match its checksum",
                    "what was stored under event id \(event.id.uuidString.lowercased())")
            }
            if event.recordedAt != block.recordedAt {
                report(
                    tenant, "position \(position)",
                    "an event recorded at \(Timestamp(microseconds: event.recordedAt))",
                    "\(Timestamp(microseconds: block.recordedAt)), as in its block")
            }
        }
        progress.nextPosition = block.firstPosition &+ max(1, block.count)
        progress.recordedAt = max(progress.recordedAt, block.recordedAt)
        progress.eventID = block.events.last?.id ?? progress.eventID
        if tenant.ranged == progress.nextPosition &- 1 { progress.rangedIsAnEnd = true }
        events += UInt64(block.events.count)
    }

    private func report(_ tenant: CheckContext.Tenant, _ place: String, _ found: String, _ expected: String) {
        context.find(.blocks, tenant.name, place, found, expected)
    }

    /// Adds what the block tells to what the other tables must hold.
    private func gather(_ block: StoredBlock, of tenant: CheckContext.Tenant) throws(SQLiteFault) {
        for (index, event) in block.events.enumerated() {
            var hash = RowHash(key: context.hashKey)
            hash.add(tenant.no)
            hash.add(event.id)
            hash.add(block.position(index))
            context.idsInBlocks.add(hash)
        }
        for piece in block.pieces {
            if !piece.isConsecutive {
                context.find(
                    .aggregates, tenant.name, "\(piece.aggregate) at position \(block.firstPosition(of: piece))",
                    "\(piece.count) events from version \(piece.firstVersion) to \(piece.lastVersion)",
                    "each version one more than the one before")
            }
            let range = StoredRange(piece, in: block)
            if range.lastPosition <= tenant.ranged {
                context.rangesInBlocks.add(range.hash(context.hash(piece, tenantNo: tenant.no)))
            } else {
                try keep(range, of: piece.aggregate, tenant)
            }
        }
    }

    private func keep(
        _ range: StoredRange, of aggregate: AggregateName, _ tenant: CheckContext.Tenant
    ) throws(SQLiteFault) {
        selectAggregate.bind(1, tenant.no)
        selectAggregate.bind(2, aggregate.id)
        selectAggregate.bind(3, aggregate.type.text)
        guard let no = try selectAggregate.firstRow({ $0.integer(0) }) else {
            return context.find(
                .aggregates, tenant.name, "\(aggregate) at position \(range.position)", "no row in aggregates",
                "one, because it has events")
        }
        let columns = [
            no, range.position, range.lastVersion, range.count, range.before, range.start, range.length, range.bytes,
        ]
        for (index, column) in columns.enumerated() { insertTail.bind(Int32(index + 1), column) }
        try insertTail.run()
    }

    /// Blocks between the keys that tenants have.
    private func findStray(to end: Int64) throws(SQLiteFault) {
        guard nextKey <= end else { return }
        selectFirstKey.bind(1, nextKey)
        selectFirstKey.bind(2, end)
        guard let key = try selectFirstKey.firstRow({ $0.integer(0) }) else { return }
        context.find(
            .blocks, "", "block with key \(key)", "tenant number \(key >> Int64(Schema.positionBits))",
            "the number of a row of tenants")
    }
}
