public import MartletModel
import MartletQueries
public import MartletStorage
public import MartletTenants

/// A store, as subscriptions see it.
public struct StoragePages: PageSource {
    private let store: EventStore
    private let settings: SettingsCache

    /// The pages of that store.
    public init(_ store: EventStore, settings: SettingsCache) {
        self.store = store
        self.settings = settings
    }

    /// Resolves where a subscription starts, by the store's clock, and the settings that the tenant has by then.
    public func resolveStart(
        of request: SubscribeRequest, completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void
    ) -> StoreTicket? {
        let clock = store.clock
        let isShared = store.isShared
        return store.read(for: request.tenant) { [settings] reader throws(StorageError) in
            let tenantState = try reader.tenantState(of: request.tenant)
            // What is delivered as it is stored needs no settings, and must not be refused for want of memory for them.
            let settings =
                request.upcasting.isRaw
                ? TenantSettings.none : try settings.resolve(request.tenant, tenantState, reader: reader)
            let start = try QueryResolution.start(of: request, head: tenantState.head, now: clock(), reader: reader)
            guard case .success(let after) = start else {
                return start.map { ResolvedStart(after: $0, head: tenantState.head) }
            }
            var resolved = ResolvedStart(after: after, head: tenantState.head, settings: settings)
            if after == tenantState.head.position {
                resolved.afterEventID = tenantState.head.eventID
            } else if isShared, after > .start {
                resolved.afterEventID = try reader.eventIDs(at: [EventPlace(tenant: request.tenant, position: after)])[
                    0]
            }
            return .success(resolved)
        } completion: { result in
            completion(result.flatMap { $0 })
        }
    }

    /// Reads a page on a reader's thread.
    public func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
    ) -> StoreTicket? {
        store.read(for: tenant) { reader throws(StorageError) in
            try reader.page(of: tenant, positions: range, filter: filter, bounds: bounds)
        } completion: {
            completion($0)
        }
    }

    /// Works on a reader's thread.
    public func work(
        for tenant: TenantID, _ body: @escaping @Sendable (MartletError?) -> Void
    ) -> StoreTicket? {
        store.read(for: tenant) { _ in
        } completion: { (result: Result<Void, MartletError>) in
            switch result {
            case .success: body(nil)
            case .failure(let error): body(error)
            }
        }
    }

    /// Takes a read that has not begun out of its queue.
    public func cancel(_ ticket: StoreTicket) { store.cancel(ticket) }
}
