import DequeModule
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// The pages that were read last, of all tenants, bounded in bytes.
struct RecentPages {
    private struct Kept {
        let tenant: TenantID
        let after: Position
        /// The id of the event at `after`, where it is known.
        let following: UUID?
        let page: EventPage
    }

    private static let pagesMax = 64

    private var pages: Deque<Kept> = []
    private(set) var bytes = 0

    /// What follows a position; the page is cut to begin there.
    ///
    /// - Parameter following: the id of the event at that position; nil where it is not known.
    func page(of tenant: TenantID, after: Position, following: UUID?) -> EventPage? {
        for kept in pages.reversed() where kept.tenant == tenant && kept.after <= after && after < kept.page.scannedTo {
            let page = kept.page.suffix(from: Int(after.rawValue - kept.after.rawValue))
            let id = kept.after == after ? kept.following : page?.before
            guard following == nil || id == nil || id == following else { continue }
            return page?.page
        }
        return nil
    }

    /// Forgets what is kept of a tenant; of all where that is nil.
    mutating func forget(_ tenant: TenantID?) -> [EventPage] {
        let left = pages.filter { tenant == nil || $0.tenant == tenant }
        guard !left.isEmpty else { return [] }
        pages.removeAll { tenant == nil || $0.tenant == tenant }
        bytes -= left.reduce(0) { $0 + $1.page.entries.storageCapacity }
        return left.map(\.page)
    }

    mutating func keep(_ page: EventPage, of tenant: TenantID, after: Position, following: UUID?, bytesMax: Int) {
        let size = page.entries.storageCapacity
        // A page with a gap is told of by those who read it, and must not be met again.
        guard page.count > 0, UInt64(page.count) == page.scannedTo.rawValue - after.rawValue, size <= bytesMax else {
            return
        }
        pages.append(Kept(tenant: tenant, after: after, following: following, page: page))
        bytes += size
        while bytes > bytesMax || pages.count > Self.pagesMax, let oldest = pages.popFirst() {
            bytes -= oldest.page.entries.storageCapacity
        }
    }
}

extension EventPage {
    /// The page without its first so many events, and the id of the last of these, where such ids are known; nil where the
    /// page is not as it must be.
    fileprivate func suffix(from first: Int) -> (page: EventPage, before: UUID?)? {
        guard first > 0 else { return (self, nil) }
        let found: (offset: Int, id: UUID?)? = unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            guard walk.skip(first - 1), let (_, record) = walk.next() else { return nil }
            return (
                walk.offset, endEventID == nil ? nil : unsafe RecordedEntries.eventID(ofRecord: record, in: bytes)
            )
        }
        guard first < count, let (offset, before) = found,
            let rest = entries.getSlice(
                at: entries.readerIndex + offset, length: entries.readableBytes - offset)
        else { return nil }
        var page = self
        page.entries = rest
        page.count -= first
        return (page, before)
    }

    /// The beginning of a page of consecutive positions: at most so many bytes, one event where that alone is larger.
    func part(after: Position, bytesMax: Int) -> EventPage {
        guard entries.readableBytes > bytesMax, count > 1 else { return self }
        let (taken, end, lastID) = unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            var taken = 0
            var end = 0
            var last = 0..<0
            while let (_, record) = walk.next(), taken == 0 || walk.offset <= bytesMax {
                taken += 1
                end = walk.offset
                last = record
            }
            let id = endEventID == nil ? nil : unsafe RecordedEntries.eventID(ofRecord: last, in: bytes)
            return (taken, end, id)
        }
        var page = self
        page.entries = entries.getSlice(at: entries.readerIndex, length: end) ?? ByteBuffer()
        page.count = taken
        page.lastPosition = Position(after.rawValue + UInt64(taken))
        page.lastVersion = nil
        page.scannedTo = Position(after.rawValue + UInt64(taken))
        page.isLast = false
        page.endEventID = lastID
        return page
    }
}
