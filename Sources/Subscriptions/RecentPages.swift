import DequeModule
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// The pages that were read last, of all tenants, bounded in bytes.
struct RecentPages {
    private struct Kept {
        let tenant: TenantID
        let after: Position
        let page: EventPage
    }

    private static let pagesMax = 64

    private var pages: Deque<Kept> = []
    private(set) var bytes = 0

    /// What follows a position; the page is cut to begin there.
    func page(of tenant: TenantID, after: Position) -> EventPage? {
        for kept in pages.reversed() where kept.tenant == tenant && kept.after <= after && after < kept.page.scannedTo {
            return kept.page.suffix(from: Int(after.rawValue - kept.after.rawValue))
        }
        return nil
    }

    mutating func keep(_ page: EventPage, of tenant: TenantID, after: Position, bytesMax: Int) {
        let size = page.entries.storageCapacity
        // A page with a gap is told of by those who read it, and must not be met again.
        guard page.count > 0, UInt64(page.count) == page.scannedTo.rawValue - after.rawValue, size <= bytesMax else {
            return
        }
        pages.append(Kept(tenant: tenant, after: after, page: page))
        bytes += size
        while bytes > bytesMax || pages.count > Self.pagesMax, let oldest = pages.popFirst() {
            bytes -= oldest.page.entries.storageCapacity
        }
    }
}

extension EventPage {
    /// The page without its first so many events; nil where the page is not as it must be.
    fileprivate func suffix(from first: Int) -> EventPage? {
        guard first > 0 else { return self }
        let offset: Int? = unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            return walk.skip(first) ? walk.offset : nil
        }
        guard first < count, let offset,
            let rest = entries.getSlice(
                at: entries.readerIndex + offset, length: entries.readableBytes - offset)
        else { return nil }
        var page = self
        page.entries = rest
        page.count -= first
        return page
    }

    /// The beginning of a page of consecutive positions: at most so many bytes, one event where that alone is larger.
    func part(after: Position, bytesMax: Int) -> EventPage {
        guard entries.readableBytes > bytesMax, count > 1 else { return self }
        let (taken, end) = unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            var taken = 0
            var end = 0
            while walk.next() != nil, taken == 0 || walk.offset <= bytesMax {
                taken += 1
                end = walk.offset
            }
            return (taken, end)
        }
        var page = self
        page.entries = entries.getSlice(at: entries.readerIndex, length: end) ?? ByteBuffer()
        page.count = taken
        page.lastPosition = Position(after.rawValue + UInt64(taken))
        page.lastVersion = nil
        page.scannedTo = Position(after.rawValue + UInt64(taken))
        page.isLast = false
        return page
    }
}
