import MartletModel

/// The keys of the table `blocks`.
enum EventKeys {
    /// A key is a positive 64-bit integer: what its position leaves is for the tenant's number, which is below this.
    static let tenantsMax: Int64 = 1 << Int64(63 - Schema.positionBits)
    /// The highest position that has a place in a key.
    static let positionMax = Position(1 << UInt64(Schema.positionBits) - 1)

    /// - Throws: for numbers that have no place in a key, which no server has written.
    static func key(_ tenantNo: Int64, _ position: Position) throws(SQLiteFault) -> Int64 {
        guard 0..<tenantsMax ~= tenantNo, position <= positionMax else {
            throw .corrupted("position \(position) of tenant \(tenantNo) does not fit in a key")
        }
        return tenantNo << Int64(Schema.positionBits) | Int64(position.rawValue)
    }

    /// The key of a bound, which may lie above every position.
    static func bound(_ tenantNo: Int64, _ position: Position) throws(SQLiteFault) -> Int64 {
        try key(tenantNo, min(position, positionMax))
    }

    static func position(of key: Int64) -> Position { Position(UInt64(bitPattern: key) & positionMax.rawValue) }

    /// - Throws: for a key of another tenant: then the tenant's own block is not there.
    static func position(of key: Int64, in tenantNo: Int64) throws(SQLiteFault) -> Position {
        guard key >> Int64(Schema.positionBits) == tenantNo else {
            throw .corrupted("a block of tenant \(tenantNo) is missing")
        }
        return position(of: key)
    }
}
