import MartletModel
import MartletStorage
import NIOCore

/// How a run of events is laid into blocks, and how the events of each aggregate lie there.
struct BlockCutter {
    /// Events of a run that make one block.
    struct Block {
        /// Indices into ``RecordedRun/events``.
        var events: Range<Int>
        /// Where their entries lie in ``RecordedRun/entries``.
        var bytes: Range<Int>
    }

    /// Events of one aggregate that lie in one block side by side.
    struct Piece {
        var aggregate: AggregateName
        /// Indices into ``RecordedRun/events``.
        var events: Range<Int>
        /// Events of the block before the first.
        var before: Int
        /// Where their entries lie in the block.
        var bytes: Range<Int>
        /// Of their records.
        var recordBytes: Int
    }

    /// A block holds no more bytes, but where one event alone is larger. Whole blocks are read in one go; to read one
    /// event of a block, SQLite walks the chain of pages before it.
    static let blockBytesMax = 32 << 10

    let run: RecordedRun

    /// Calls `body` for each block, in order.
    func forEachBlock(_ body: (Block, [Piece]) throws(SQLiteFault) -> Void) throws(SQLiteFault) {
        var first = 0
        var start = 0
        var pieces: [Piece] = []
        for index in run.events.indices {
            let event = run.events[index]
            let entryStart = index == 0 ? 0 : run.events[index - 1].end
            if event.end - start > Self.blockBytesMax, index > first {
                try body(Block(events: first..<index, bytes: start..<entryStart), pieces)
                first = index
                start = entryStart
                pieces.removeAll(keepingCapacity: true)
            }
            let recordBytes = event.end - event.recordStart
            if let last = pieces.indices.last, pieces[last].aggregate == event.aggregate {
                pieces[last].events = pieces[last].events.lowerBound..<index + 1
                pieces[last].bytes = pieces[last].bytes.lowerBound..<event.end - start
                pieces[last].recordBytes += recordBytes
            } else {
                pieces.append(
                    Piece(
                        aggregate: event.aggregate, events: index..<index + 1, before: index - first,
                        bytes: entryStart - start..<event.end - start, recordBytes: recordBytes))
            }
        }
        try body(Block(events: first..<run.events.count, bytes: start..<run.entries.readableBytes), pieces)
    }
}
