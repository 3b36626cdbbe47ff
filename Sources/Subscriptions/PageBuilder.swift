import MartletModel
import MartletStorage
import NIOCore

/// Makes pages of runs: slices of what was encoded when it was appended.
enum PageBuilder {
    /// The page of what follows a position.
    ///
    /// A page of one run is a slice of it; only where a page spans runs, or a filter leaves events out, bytes are
    /// copied, as few times as there are pieces. ``EventPage/isLast`` is left to the caller.
    ///
    /// - Returns: the page, and how much memory of its own it takes: 0 for a slice.
    /// - Precondition: the runs follow each other without a gap, and the first holds the position after `after`.
    static func page(
        of runs: [RecordedRun], after: Position, filter: EventFilter, bytesMax: Int, scanMax: Int
    ) -> (page: EventPage, bytes: Int) {
        var pieces = Pieces(bytesMax: bytesMax)
        var page = EventPage(scannedTo: after)
        var scanned = 0
        for run in runs {
            let first = Int(page.scannedTo.rawValue + 1 - run.firstPosition.rawValue)
            if filter.isEmpty, pieces.take(run, first..<run.events.count) {
                page.count += run.events.count - first
                page.scannedTo = run.lastPosition
                page.lastPosition = page.scannedTo
                page.endEventID = run.lastEventID
                continue
            }
            for index in first..<run.events.count {
                guard scanned < scanMax || filter.isEmpty else { return pieces.finish(page) }
                let event = run.events[index]
                let isMatch = filter.isEmpty || filter.matches(event.aggregate, event.type)
                if isMatch, !pieces.take(run, index..<index + 1) { return pieces.finish(page) }
                scanned += 1
                page.scannedTo = page.scannedTo.next
                page.endEventID = event.id
                if isMatch {
                    page.count += 1
                    page.lastPosition = page.scannedTo
                }
            }
        }
        return pieces.finish(page)
    }

    /// Parts of runs on their way into one buffer.
    private struct Pieces {
        var room: Int
        var isEmpty = true
        var done: [ByteBuffer] = []
        /// Neighbours that were not cut out yet.
        var open: (entries: ByteBuffer, range: Range<Int>)?
        var openPosition = Position.start

        init(bytesMax: Int) { room = bytesMax }

        /// Takes events of a run; false when there is no room for all of them. A first single event always has.
        mutating func take(_ run: RecordedRun, _ indices: Range<Int>) -> Bool {
            let bytes = run.entryStart(of: indices.lowerBound)..<run.entryStart(of: indices.upperBound)
            guard bytes.count <= room || (isEmpty && indices.count == 1) else { return false }
            room -= bytes.count
            isEmpty = false
            if let (entries, range) = open, openPosition == run.firstPosition, range.upperBound == bytes.lowerBound {
                open = (entries, range.lowerBound..<bytes.upperBound)
            } else {
                close()
                open = (run.entries, bytes)
                openPosition = run.firstPosition
            }
            return true
        }

        mutating func finish(_ page: EventPage) -> (page: EventPage, bytes: Int) {
            close()
            var page = page
            if done.count == 1 {
                page.entries = done[0]
                return (page, 0)
            } else {
                page.entries.reserveCapacity(done.reduce(0) { $0 + $1.readableBytes })
                for piece in done { page.entries.writeImmutableBuffer(piece) }
            }
            return (page, page.entries.storageCapacity)
        }

        private mutating func close() {
            guard let (entries, range) = open else { return }
            open = nil
            if let slice = entries.getSlice(at: range.lowerBound, length: range.count) { done.append(slice) }
        }
    }
}

extension RecordedRun {
    /// Where the entry of the event at that index begins; at the count of events, where the last one ends.
    fileprivate func entryStart(of index: Int) -> Int { index == 0 ? 0 : events[index - 1].end }

    /// How many bytes the entries from that index on take.
    func entryBytes(from index: Int) -> Int { entryStart(of: events.count) - entryStart(of: index) }
}
