public import EventModel
public import EventStorage
import NIOConcurrencyHelpers
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

/// Lets those who are at the same place read storage once: who asks for a page that is being read already
/// waits for that one.
public final class SharedReads: Sendable {
    private struct Key: Hashable {
        let tenant: TenantID
        let after: Position
        let filter: EventFilter
        let bytesMax: Int
    }

    private typealias Completion = @Sendable (Result<EventPage, MartletError>) -> Void

    /// The storage that is read.
    public let source: any PageSource
    private let scanMax: Int
    private let waiting = NIOLockedValueBox<[Key: [Completion]]>([:])
    private let startedCount = Atomic<UInt64>(0)
    private let failedCount = Atomic<UInt64>(0)

    /// Reads of that storage.
    public init(source: any PageSource, limits: Limits) {
        self.source = source
        scanMax = limits.pageScanEventsMax
    }

    /// Pages read from storage since the start; one that several readers shared counts once.
    public var readCount: UInt64 { startedCount.load(ordering: .relaxed) }

    /// Those of them that failed.
    public var failureCount: UInt64 { failedCount.load(ordering: .relaxed) }

    /// Reads a page; `completion` is called once, on any thread.
    ///
    /// The page may end before the range does: it may be one that was asked for when the range was shorter.
    func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bytesMax: Int,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
    ) {
        let key = Key(tenant: tenant, after: range.after, filter: filter, bytesMax: bytesMax)
        let isFirst = waiting.withLockedValue { waiting in
            waiting[key, default: []].append(completion)
            return waiting[key]?.count == 1
        }
        guard isFirst else { return }
        startedCount.wrappingAdd(1, ordering: .relaxed)
        source.readPage(
            of: tenant, positions: range, filter: filter, bounds: PageBounds(bytesMax: bytesMax, scanMax: scanMax)
        ) { [self] result in
            if case .failure = result { failedCount.wrappingAdd(1, ordering: .relaxed) }
            let completions = waiting.withLockedValue { $0.removeValue(forKey: key) } ?? []
            for completion in completions { completion(result) }
        }
    }
}
