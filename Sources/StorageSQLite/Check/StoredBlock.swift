import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// A row of `blocks` with what its entries hold. Nothing in it is believed: numbers are whatever the file says.
struct StoredBlock {
    struct Event {
        var id: UUID
        var position: UInt64
        var version: UInt64
        var recordedAt: Int64
        var checksum: ChecksumVerdict
    }

    /// Events of one aggregate side by side: what a row of `ranges` tells.
    struct Piece {
        var aggregate: AggregateName
        var firstVersion: UInt64
        var lastVersion: UInt64
        var count: Int64 = 1
        var before: Int64
        var start: Int64
        var length: Int64
        var recordBytes: Int64
        /// Whether each version follows the one before.
        var isConsecutive = true
    }

    let tenantNo: Int64
    /// By its key.
    let firstPosition: Int64
    let recordedAt: Int64
    let count: Int64
    private(set) var events: [Event] = []
    private(set) var pieces: [Piece] = []
    /// Why the entries end before their bytes do; nil where they do not.
    private(set) var fault: String?

    /// A row of ``CheckStatements/blocks``.
    /// - Parameter tenant: whose events they must be; nil where checksums are of no interest.
    init(_ row: borrowing SQLiteStatement.Row, _ decoder: inout RecordDecoder, tenant: TenantID?) {
        let key = row.integer(0)
        tenantNo = key >> Int64(Schema.positionBits)
        firstPosition = Int64(EventKeys.position(of: Int64(UInt64(bitPattern: key) & UInt64(Int64.max))).rawValue)
        recordedAt = row.integer(1)
        count = row.integer(2)
        var rest = unsafe ByteBuffer(bytes: row.blob(3))
        let all = rest.readerIndex
        while true {
            let start = rest.readerIndex - all
            do throws(RecordFault) {
                guard let record = try RecordedEntries.nextRecord(of: &rest) else { break }
                let event = try decoder.decode(record)
                var verdict = ChecksumVerdict.missing
                if let tenant, let outline = RecordOutline(record) {
                    verdict = outline.storedVerdict(in: record.readableBytesUInt8Span, tenant: tenant)
                }
                add(
                    event, verdict, recordBytes: Int64(record.readableBytes), start: Int64(start),
                    end: Int64(rest.readerIndex - all))
            } catch {
                fault = "\(error) at byte \(start)"
                break
            }
        }
    }

    private mutating func add(
        _ event: RecordedEvent, _ checksum: ChecksumVerdict, recordBytes: Int64, start: Int64, end: Int64
    ) {
        let version = event.version.rawValue
        if let last = pieces.indices.last, pieces[last].aggregate == event.aggregate {
            if version != pieces[last].lastVersion &+ 1 { pieces[last].isConsecutive = false }
            pieces[last].lastVersion = version
            pieces[last].count += 1
            pieces[last].length += end - start
            pieces[last].recordBytes += recordBytes
        } else {
            pieces.append(
                Piece(
                    aggregate: event.aggregate, firstVersion: version, lastVersion: version,
                    before: Int64(events.count), start: start, length: end - start, recordBytes: recordBytes))
        }
        events.append(
            Event(
                id: event.event.id, position: event.position.rawValue, version: version,
                recordedAt: event.recordedAt.microseconds, checksum: checksum))
    }

    /// Position of the event at that index, by the block's key.
    func position(_ index: Int) -> Int64 { firstPosition &+ Int64(index) }

    func firstPosition(of piece: Piece) -> Int64 { firstPosition &+ piece.before }

    func lastPosition(of piece: Piece) -> Int64 { firstPosition &+ piece.before &+ piece.count &- 1 }

    /// The piece that holds a position.
    func piece(at position: Int64) -> Piece? {
        pieces.first { firstPosition(of: $0) <= position && position <= lastPosition(of: $0) }
    }
}

/// A row of `ranges` or of the tail. Nothing in it is believed.
struct StoredRange: Hashable, CustomStringConvertible {
    var lastVersion: Int64
    var count: Int64
    var position: Int64
    var before: Int64
    var start: Int64
    var length: Int64
    /// In `ranges` of the aggregate up to here, in the tail and in blocks of this range.
    var bytes: Int64

    var firstVersion: Int64 { lastVersion &- count &+ 1 }
    var lastPosition: Int64 { position &+ count &- 1 }

    init(_ row: borrowing SQLiteStatement.Row) {
        lastVersion = row.integer(0)
        count = row.integer(1)
        position = row.integer(2)
        before = row.integer(3)
        start = row.integer(4)
        length = row.integer(5)
        bytes = row.integer(6)
    }

    init(_ piece: StoredBlock.Piece, in block: StoredBlock) {
        lastVersion = Int64(bitPattern: piece.lastVersion)
        count = piece.count
        position = block.firstPosition(of: piece)
        before = piece.before
        start = piece.start
        length = piece.length
        bytes = piece.recordBytes
    }

    /// Adds all of it but the bytes before to the hash of its aggregate's name.
    func hash(_ name: RowHash) -> RowHash {
        var hash = name
        for column in [lastVersion, count, position, before, start, length, bytes] { hash.add(column) }
        return hash
    }

    var description: String {
        "versions \(firstVersion) to \(lastVersion) at position \(position), \(before) events before it in the block, "
            + "bytes \(start) to \(start &+ length), \(bytes) bytes of records"
    }
}
