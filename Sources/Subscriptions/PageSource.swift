public import FoundationEssentials
public import MartletModel
public import MartletStorage
public import MartletTenants

/// Where a subscription starts, once its request was resolved.
public struct ResolvedStart: Sendable {
    /// It delivers the events after this position.
    public var after: Position
    /// The head that the request was resolved against.
    public var head: TenantHead
    /// The tenant's settings by then.
    public var settings: TenantSettings
    /// Id of the event at ``after``; nil where it is not known.
    public var afterEventID: UUID?

    /// A start of those parts.
    public init(
        after: Position, head: TenantHead, settings: TenantSettings = .none, afterEventID: UUID? = nil
    ) {
        self.afterEventID = afterEventID
        self.after = after
        self.head = head
        self.settings = settings
    }
}

/// Storage, as subscriptions see it. Calls return at once; completions are called once, on a storage thread that they may
/// hold up for as long as a page takes to be delivered, or before the call returns where it is refused.
///
/// All of it is on the account of the tenant. What a call returns cancels it: the completion of what has not begun by
/// then is not called.
public protocol PageSource: Sendable {
    /// Resolves where a subscription starts: `POSITION_BEYOND_HEAD` and `TIME_IN_FUTURE` for what does not
    /// exist yet.
    func resolveStart(
        of request: SubscribeRequest,
        completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void
    ) -> StoreTicket?

    /// Reads a page of a tenant's events, forward.
    func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
    ) -> StoreTicket?

    /// Does work of a tenant's in turn with its reads; `body` gets why that is refused.
    func work(for tenant: TenantID, _ body: @escaping @Sendable (MartletError?) -> Void) -> StoreTicket?

    /// Cancels what has not begun.
    func cancel(_ ticket: StoreTicket)
}
