import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// Moves events from a row each, as the first two schemas kept them, into blocks. Memory does not grow with history.
enum BlockMigration {
    /// A block on its way.
    private struct Block {
        var key: Int64
        var recordedAt: Int64
        var count: Int64 = 0
        var entries = ByteBuffer()
        /// The range at its end.
        var range: Range?
    }

    private struct Range {
        var aggregateNo: Int64
        var lastVersion: Int64
        var count: Int64
        var position: Int64
        var before: Int64
        var start: Int
    }

    static func run(_ connection: SQLiteConnection) throws(SQLiteFault) {
        let insertBlock = try connection.statement(.insertBlock)
        let insertRange = try connection.statement(.insertRange)
        let insertID = try connection.statement(.insertEventID)
        let grow = try connection.prepare(
            """
            UPDATE aggregates SET bytes = bytes + ?2 WHERE no = ?1 RETURNING bytes
            """)
        try connection.run("UPDATE aggregates SET bytes = 0")
        var block: Block?

        func close(_ range: Range, _ end: Int, bytes: Int64) throws(SQLiteFault) {
            insertRange.bind(1, range.aggregateNo)
            insertRange.bind(2, range.lastVersion)
            insertRange.bind(3, range.count)
            insertRange.bind(4, range.position)
            insertRange.bind(5, range.before)
            insertRange.bind(6, Int64(range.start))
            insertRange.bind(7, Int64(end - range.start))
            insertRange.bind(8, bytes)
            try insertRange.run()
        }
        var rangeBytes: Int64 = 0
        func closeRange() throws(SQLiteFault) {
            guard let open = block, let range = open.range else { return }
            block?.range = nil
            grow.bind(1, range.aggregateNo)
            grow.bind(2, rangeBytes)
            rangeBytes = 0
            let bytes = try grow.firstRow { $0.integer(0) } ?? 0
            try close(range, open.entries.writerIndex, bytes: bytes)
        }
        func closeBlock() throws(SQLiteFault) {
            try closeRange()
            guard let done = block else { return }
            block = nil
            insertBlock.bind(1, done.key)
            insertBlock.bind(2, done.recordedAt)
            insertBlock.bind(3, done.count)
            try insertBlock.run(blob: 4, done.entries)
        }

        let select = try connection.prepare(
            """
            SELECT key, aggregate_no, version, recorded_at, tenant_no, event_id, record FROM events ORDER BY key
            """)
        var fault: SQLiteFault?
        try select.forEachRow { row in
            do throws(SQLiteFault) {
                let (key, aggregateNo, version) = (row.integer(0), row.integer(1), row.integer(2))
                let recordedAt = row.integer(3)
                let record = unsafe row.blob(6)
                let position = Int64(EventKeys.position(of: key).rawValue)
                if let open = block,
                    open.key + open.count != key || open.recordedAt != recordedAt
                        || open.entries.readableBytes + RecordedEntries.entryBytes(recordBytes: record.count)
                            > BlockCutter.blockBytesMax
                {
                    try closeBlock()
                }
                var open = block ?? Block(key: key, recordedAt: recordedAt)
                if let range = open.range, range.aggregateNo != aggregateNo || range.lastVersion + 1 != version {
                    try closeRange()
                    open.range = nil
                }
                var range =
                    open.range
                    ?? Range(
                        aggregateNo: aggregateNo, lastVersion: version, count: 0, position: position,
                        before: open.count, start: open.entries.writerIndex)
                range.lastVersion = version
                range.count += 1
                unsafe RecordedEntries.write(record: record, to: &open.entries)
                rangeBytes += Int64(record.count)
                open.range = range
                open.count += 1
                block = open
                insertID.bind(1, row.integer(4))
                unsafe insertID.bind(2, blob: row.blob(5))
                insertID.bind(3, position)
                try insertID.run()
                return true
            } catch {
                fault = error
                return false
            }
        }
        if let fault { throw fault }
        try closeBlock()
    }
}
