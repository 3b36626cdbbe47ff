import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// Tells again, from the blocks, the ranges that were not in the table when the process ended, or the disk could not
/// be believed any more. They are bounded in number and bytes: they move into the table as more come.
///
/// A tenant whose blocks are damaged is left out, with the reason: nothing of its aggregates is known for certain, and nothing
/// can be appended to them. The others go on.
enum RangeRecovery {
    /// What tells aggregates apart: the bytes of their type and id.
    private struct Name: Hashable {
        var type: [UInt8]
        var id: [UInt8]
    }

    /// A tenant some of whose ranges are not in the table.
    private struct Unranged {
        var no: Int64
        var id: TenantID
        var ranged: UInt64
        var position: UInt64
    }

    /// Brings a buffer up to date where it is not.
    /// - Returns: its generation.
    @discardableResult
    static func refresh(_ ranges: PendingRanges, _ connection: SQLiteConnection) throws(SQLiteFault) -> UInt64 {
        try ranges.refresh { () throws(SQLiteFault) in
            try connection.statement(.beginRead).run()
            do throws(SQLiteFault) {
                let loaded = try load(connection)
                try connection.statement(.commit).run()
                return loaded
            } catch {
                try? connection.statement(.rollback).run()
                throw error
            }
        }
    }

    private static func load(_ connection: SQLiteConnection) throws(SQLiteFault) -> RecoveredRanges {
        var tenants: [Unranged] = []
        var found = RecoveredRanges()
        try connection.statement(.selectUnranged).forEachRow { row throws(SQLiteFault) in
            let no = row.integer(0)
            do throws(SQLiteFault) {
                guard let id = unsafe UUID(bytes: row.blob(3)) else { throw .corrupted("a tenant has no id") }
                tenants.append(
                    Unranged(no: no, id: TenantID(id), ranged: try row.unsigned(1), position: try row.unsigned(2)))
            } catch {
                try found.note(error, in: "tenant number \(no)", no)
            }
            return true
        }
        for tenant in tenants {
            do throws(SQLiteFault) { found.rows += try ranges(of: tenant, connection) } catch {
                var damage = error
                damage.place = damage.place ?? "a position after \(tenant.ranged)"
                try found.note(damage, in: "tenant \(tenant.id)", tenant.no)
            }
        }
        return found
    }

    /// What keeps a tenant's newest events from being read.
    private static func damage(at position: UInt64, _ complaint: String) -> SQLiteFault {
        SQLiteFault(
            damage: StorageError(
                .corrupted, "the event at position \(position) \(complaint): run martlet doctor --deep",
                place: "position \(position)"))
    }

    private static func ranges(
        of tenant: Unranged, _ connection: SQLiteConnection
    ) throws(SQLiteFault) -> [RangeRow] {
        let (tenantNo, ranged, position) = (tenant.no, tenant.ranged, tenant.position)
        var known: [Name: Int] = [:]
        var names: [AggregateName] = []
        var pieces: [(name: Int, row: RangeRow)] = []
        var rows: [RangeRow] = []
        let select = try connection.statement(.selectBlocks)
        select.bind(1, try EventKeys.key(tenantNo, Position(ranged).next))
        select.bind(2, try EventKeys.key(tenantNo, Position(position)))
        try select.forEachRow { row throws(SQLiteFault) in
            let first = try EventKeys.position(of: row.integer(0), in: tenantNo).rawValue
            let entries = unsafe row.blob(2)
            var walk = unsafe EntryWalk(entries)
            let typed = unsafe entries.assumingMemoryBound(to: UInt8.self)
            var last: Int?
            for index in 0..<(try row.unsigned(1)) {
                guard let next = walk.next(), let head = unsafe RecordOutline(entries, record: next.record),
                    head.position.rawValue == first + index, .none < head.version, head.version <= .max,
                    unsafe head.storedVerdict(in: typed.span, tenant: tenant.id) != .damaged
                else { throw damage(at: first + index, "is damaged") }
                let name = unsafe Name(type: Array(entries[head.aggregateType]), id: Array(entries[head.aggregateID]))
                var number = known[name]
                if number == nil {
                    guard let type = AggregateType(String(decoding: name.type, as: UTF8.self)),
                        let id = unsafe name.id.withUnsafeBytes({ unsafe UUID(bytes: $0) })
                    else { throw damage(at: first + index, "has no readable aggregate") }
                    number = names.count
                    known[name] = names.count
                    names.append(AggregateName(type: type, id: id))
                }
                guard let number else { return false }
                let recordBytes = UInt64(next.record.count)
                if let last, last == number {
                    guard pieces[pieces.count - 1].row.lastVersion + 1 == head.version.rawValue else {
                        throw damage(at: first + index, "has a version that does not follow")
                    }
                    pieces[pieces.count - 1].row.lastVersion = head.version.rawValue
                    pieces[pieces.count - 1].row.count += 1
                    pieces[pieces.count - 1].row.length += next.entry.count
                    pieces[pieces.count - 1].row.bytes += recordBytes
                } else {
                    pieces.append(
                        (
                            number,
                            RangeRow(
                                tenantNo: tenantNo, aggregateNo: 0, lastVersion: head.version.rawValue, count: 1,
                                position: first + index, before: index, start: next.entry.lowerBound,
                                length: next.entry.count, bytes: recordBytes)
                        ))
                }
                last = number
            }
            return true
        }
        // A block that is ranged in part does not exist: ranges move by whole commits.
        var bytes: [Int: UInt64] = [:]
        var numbers: [Int: Int64] = [:]
        for (name, piece) in pieces where piece.position > ranged {
            var row = piece
            if numbers[name] == nil {
                guard let found = try AggregateRow.find(names[name], in: tenantNo, connection) else {
                    throw damage(at: row.position, "is of \(names[name]), which has no row in aggregates")
                }
                numbers[name] = found.no
                bytes[name] =
                    try RangeRow.last(of: found.no, pending: [], upTo: row.firstVersion - 1, connection).bytes
            }
            row.aggregateNo = numbers[name] ?? 0
            row.bytes += bytes[name] ?? 0
            bytes[name] = row.bytes
            rows.append(row)
        }
        return rows
    }
}

extension RecoveredRanges {
    /// Notes what is damaged of one tenant; everything else that fails concerns all of them.
    fileprivate mutating func note(_ fault: SQLiteFault, in place: String, _ tenantNo: Int64) throws(SQLiteFault) {
        guard fault.isDamage else { throw fault }
        damaged[tenantNo] = fault
        damaged[tenantNo]?.message = "\(place): \(fault.message)"
    }
}
