import DequeModule
public import MartletModel
import MartletRecordCodec
public import MartletStorage
public import MartletTenants
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// Where a subscription starts, once its request was resolved.
public struct ResolvedStart: Sendable {
    /// It delivers the events after this position.
    public var after: Position
    /// The head that the request was resolved against.
    public var head: TenantHead
    /// The tenant's settings by then.
    public var settings: TenantSettings

    /// A start of those parts.
    public init(after: Position, head: TenantHead, settings: TenantSettings = .none) {
        self.after = after
        self.head = head
        self.settings = settings
    }
}

/// Storage, as subscriptions see it. Calls return at once; completions are called once, on any thread.
public protocol PageSource: Sendable {
    /// Resolves where a subscription starts: `POSITION_BEYOND_HEAD` and `TIME_IN_FUTURE` for what does not
    /// exist yet.
    func resolveStart(
        of request: SubscribeRequest,
        completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void)

    /// Reads a page of a tenant's events, forward.
    func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void)
}

/// Lets those who are at about the same place read storage once: who asks for a page that is being read already
/// waits for that one, and the last pages are kept for those who follow closely.
///
/// Without a filter, pages are read as large as they may be, and each reader gets as much of one as it asked for, as a
/// slice. Events never change, so that what is kept is never out of date.
public final class SharedReads: Sendable {
    private struct Key: Hashable {
        let tenant: TenantID
        let after: Position
        let filter: EventFilter
        let bytesMax: Int
    }

    private struct Waiting {
        let bytesMax: Int
        let completion: Completion
    }

    private struct State {
        var waiting: [Key: [Waiting]] = [:]
        var recent = RecentPages()
    }

    private enum Admission {
        case found(EventPage)
        case first
        case waits
    }

    private typealias Completion = @Sendable (Result<EventPage, MartletError>) -> Void

    /// The storage that is read.
    public let source: any PageSource
    private let limits: Limits
    private let state = NIOLockedValueBox(State())
    private let startedCount = Atomic<UInt64>(0)
    private let failedCount = Atomic<UInt64>(0)

    /// Reads of that storage.
    public init(source: any PageSource, limits: Limits) {
        self.source = source
        self.limits = limits
    }

    /// Pages read from storage since the start; one that several readers shared counts once.
    public var readCount: UInt64 { startedCount.load(ordering: .relaxed) }

    /// Those of them that failed.
    public var failureCount: UInt64 { failedCount.load(ordering: .relaxed) }

    /// Bytes of pages that are kept; bounded by ``Limits/recentPageBytesMax``.
    public var keptBytes: Int { state.withLockedValue { $0.recent.bytes } }

    /// Reads a page; `completion` is called once, on any thread or before this returns.
    ///
    /// The page may end before the range does: it may be one that was asked for when the range was shorter.
    func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bytesMax: Int,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
    ) {
        let isWhole = filter.isEmpty
        let readBytes = isWhole ? limits.pageBytesMax : bytesMax
        let key = Key(tenant: tenant, after: range.after, filter: filter, bytesMax: readBytes)
        let admission = state.withLockedValue { state -> Admission in
            if isWhole, let page = state.recent.page(of: tenant, after: range.after) { return .found(page) }
            state.waiting[key, default: []].append(Waiting(bytesMax: bytesMax, completion: completion))
            return state.waiting[key]?.count == 1 ? .first : .waits
        }
        switch admission {
        case .waits: return
        case .found(let page): return completion(.success(page.part(after: range.after, bytesMax: bytesMax)))
        case .first: break
        }
        startedCount.wrappingAdd(1, ordering: .relaxed)
        source.readPage(
            of: tenant, positions: range, filter: filter,
            bounds: PageBounds(bytesMax: readBytes, scanMax: limits.pageScanEventsMax)
        ) { [self] result in
            if case .failure = result { failedCount.wrappingAdd(1, ordering: .relaxed) }
            let waiting = state.withLockedValue { state in
                if isWhole, case .success(let page) = result {
                    state.recent.keep(page, of: tenant, after: range.after, bytesMax: limits.recentPageBytesMax)
                }
                return state.waiting.removeValue(forKey: key) ?? []
            }
            for reader in waiting {
                reader.completion(
                    isWhole ? result.map { $0.part(after: range.after, bytesMax: reader.bytesMax) } : result)
            }
        }
    }
}

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
    fileprivate func part(after: Position, bytesMax: Int) -> EventPage {
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
