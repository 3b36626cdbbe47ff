import MartletModel
import MartletRecordCodec

/// Reads single events where they lie.
struct EventLookUp {
    private let select: SQLiteStatement

    init(_ connection: SQLiteConnection) throws(SQLiteFault) {
        select = try connection.prepare(CheckStatements.blockOfKey)
    }

    /// The event at a position, and the piece of its block that it belongs to; nil where there is none.
    func find(
        _ position: Int64, of tenantNo: Int64
    ) throws(SQLiteFault) -> (event: StoredBlock.Event, piece: StoredBlock.Piece)? {
        guard tenantNo > 0, tenantNo < EventKeys.tenantsMax, position > 0,
            position < 1 << Int64(Schema.positionBits)
        else { return nil }
        select.bind(1, try EventKeys.key(tenantNo, Position(UInt64(position))))
        var decoder = RecordDecoder()
        guard let block = try select.firstRow({ StoredBlock($0, &decoder, tenant: nil) }), block.tenantNo == tenantNo
        else {
            return nil
        }
        let index = Int(position - block.firstPosition)
        guard block.events.indices.contains(index), let piece = block.piece(at: position) else { return nil }
        return (block.events[index], piece)
    }
}

/// Finds tenants by number; remembers the last one, because those who ask go by tenant for the most part.
final class TenantLookUp {
    private let select: SQLiteStatement
    private var last: CheckContext.Tenant?

    init(_ connection: SQLiteConnection) throws(SQLiteFault) {
        select = try connection.prepare(CheckStatements.tenant)
    }

    func find(_ no: Int64) throws(SQLiteFault) -> CheckContext.Tenant? {
        if let last, last.no == no { return last }
        select.bind(1, no)
        last = try select.firstRow { CheckContext.Tenant($0) }
        return last
    }
}
