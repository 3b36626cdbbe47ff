import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// A page on its way: takes entries as they lie in blocks until a bound of the page is reached.
struct PageFill {
    private let bounds: PageBounds
    private let filter: EntryFilter?
    private(set) var page = EventPage()
    /// Bytes of blocks that a filter was held against.
    private var filteredBytes = 0
    /// The bytes that were given are no entries of that number.
    private(set) var isBroken = false

    init(_ bounds: PageBounds, filter: EventFilter = .all) {
        self.bounds = bounds
        self.filter = filter.isEmpty ? nil : EntryFilter(filter)
    }

    private static let reservedBytesMax = 1 << 20
    /// A filter looks through no more than this and a block before the page is answered: the read is short, and the log
    /// can begin anew.
    private static let filteredBytesMax = 8 << 20

    /// Before a further block is looked through: whether the page ends here instead, because it has looked at enough.
    /// - Parameter last: the position that was looked at last.
    mutating func ends(after last: Position?) -> Bool {
        guard filteredBytes >= Self.filteredBytesMax, let last else { return false }
        page.isLast = false
        page.scannedTo = last
        return true
    }

    /// A filter was held against a block of so many bytes.
    mutating func filtered(_ bytes: Int) { if filter != nil { filteredBytes += bytes } }

    /// Makes room for what will come, to be filled in one go.
    mutating func reserve(_ bytes: Int) {
        page.entries.reserveCapacity(minimumWritableBytes: max(0, min(bytes, bounds.bytesMax, Self.reservedBytesMax)))
    }

    /// Whether so many entries of so many bytes may be taken whole, whatever they hold.
    func hasRoom(for count: Int, bytes: Int) -> Bool {
        filter == nil && bounds.direction == .forward && count <= bounds.eventsMax - page.count
            && page.entries.readableBytes + bytes <= bounds.bytesMax
    }

    /// Appends whole entries, as ``hasRoom(for:bytes:)`` allows, by what `write` does.
    mutating func take(
        count: Int, last: Position, _ version: Version?,
        by write: (inout ByteBuffer) throws(SQLiteFault) -> Void
    ) throws(SQLiteFault) {
        try write(&page.entries)
        page.count += count
        page.lastPosition = last
        page.lastVersion = version
    }

    /// Takes those of `count` entries whose index is in `wanted`, in the page's direction.
    /// - Returns: whether all of those that match fitted.
    @unsafe mutating func take(_ entries: UnsafeRawBufferPointer, count: Int, wanted: Range<Int>) -> Bool {
        var walk = unsafe EntryWalk(entries)
        if wanted.lowerBound == 0, wanted.upperBound == count, hasRoom(for: count, bytes: entries.count) {
            return unsafe takeAll(entries, count, &walk)
        }
        guard walk.skip(wanted.lowerBound) else { return broken() }
        switch bounds.direction {
        case .forward:
            for _ in wanted {
                guard let next = walk.next() else { return broken() }
                guard unsafe take(entries, next.entry, next.record) else { return false }
            }
        case .backward:
            var found: [(entry: Range<Int>, record: Range<Int>)] = []
            for _ in wanted {
                guard let next = walk.next() else { return broken() }
                found.append(next)
            }
            for (entry, record) in found.reversed() {
                guard unsafe take(entries, entry, record) else { return false }
            }
        }
        return true
    }

    @unsafe private mutating func takeAll(
        _ entries: UnsafeRawBufferPointer, _ count: Int, _ walk: inout EntryWalk
    ) -> Bool {
        guard walk.skip(count - 1), let last = walk.next(), last.entry.upperBound == entries.count,
            let head = unsafe RecordOutline(entries, record: last.record)
        else { return broken() }
        unsafe page.entries.writeBytes(entries)
        page.count += count
        page.lastPosition = head.position
        page.lastVersion = head.version
        return true
    }

    @unsafe private mutating func take(
        _ entries: UnsafeRawBufferPointer, _ entry: Range<Int>, _ record: Range<Int>
    ) -> Bool {
        guard let head = unsafe RecordOutline(entries, record: record) else { return broken() }
        if let filter {
            guard let isMatch = unsafe filter.matches(head, in: entries) else { return broken() }
            if !isMatch { return true }
        }
        guard page.count < bounds.eventsMax,
            page.count == 0 || page.entries.readableBytes + entry.count <= bounds.bytesMax
        else {
            page.isLast = false
            return false
        }
        unsafe page.entries.writeBytes(UnsafeRawBufferPointer(rebasing: entries[entry]))
        page.count += 1
        page.lastPosition = head.position
        page.lastVersion = head.version
        return true
    }

    private mutating func broken() -> Bool {
        isBroken = true
        return false
    }
}
