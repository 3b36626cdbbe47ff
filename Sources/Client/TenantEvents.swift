public import MartletModel

/// The events of a tenant, those that are stored and then those that come: each matching event once, in position order.
///
/// It goes on after a lost connection, and ends only with an error that a retry cannot repair, or with the client. Each
/// iterator is a subscription of its own; letting go of it ends the subscription.
public struct TenantEvents: AsyncSequence, Sendable {
    /// Events, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var items: Subscription.Iterator
        private var events: ArraySlice<RecordedEvent> = []

        fileprivate init(_ items: Subscription.Iterator) { self.items = items }

        /// The next event, once there is one.
        /// - Throws: why the subscription ended; ``MartletError`` with `CANCELLED` when the task is cancelled.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> RecordedEvent? {
            while events.isEmpty {
                guard let item = try await items.next(isolation: actor) else { return nil }
                if case .events(let next, _) = item { events = next[...] }
            }
            return events.popFirst()
        }
    }

    /// The same events in the pages in which they come, and what else the server says: that the subscription has caught up
    /// or fallen behind, how far it has looked, where the head is.
    public let items: Subscription

    /// A subscription that begins where it was asked to.
    public func makeAsyncIterator() -> Iterator { Iterator(items.makeAsyncIterator()) }
}

extension RecordedEvent {
    /// Its position and id. Keep it together with what was made of the event, and pass it to
    /// ``Tenant/events(after:where:upcasting:)-(EventMark?,_,_)`` to go on after it.
    public var mark: EventMark { EventMark(position: position, eventID: event.id) }
}

extension Tenant {
    /// The tenant's events after a position, and those that come.
    /// - Parameters:
    ///   - after: the last position that the program has seen; the start by default.
    ///   - filter: which events.
    public func events(
        after: Position = .start, where filter: EventFilter = .all, upcasting: UpcastingOptions = .latest
    ) -> TenantEvents { events(from: .after(after), where: filter, upcasting: upcasting) }

    /// The tenant's events after one of them, and those that come. If the storage holds another event in its place, or none,
    /// they end with `HISTORY_CHANGED`.
    /// - Parameters:
    ///   - last: the last event that the program has seen; nil means that it has seen none.
    ///   - filter: which events.
    public func events(
        after last: EventMark?, where filter: EventFilter = .all, upcasting: UpcastingOptions = .latest
    ) -> TenantEvents {
        events(from: .after(last?.position ?? .start), lastSeen: last, where: filter, upcasting: upcasting)
    }

    /// The tenant's events from a position, a time or the head on, and those that come.
    /// - Parameters:
    ///   - lastSeen: the last event that the program has seen: if the storage holds another one there, or none, the
    ///     subscription ends with `HISTORY_CHANGED`. With ``SubscriptionStart/after(_:)`` only.
    ///   - filter: which events.
    ///   - windowBytes: bytes of events that are taken in ahead; nil means
    ///     ``ClientConfiguration/subscriptionWindowBytes``.
    public func events(
        from start: SubscriptionStart, lastSeen: EventMark? = nil, where filter: EventFilter = .all,
        upcasting: UpcastingOptions = .latest, windowBytes: Int? = nil
    ) -> TenantEvents {
        let request = SubscribeRequest(
            tenant: id, start: start, lastSeen: lastSeen, filter: filter, upcasting: upcasting)
        return TenantEvents(items: client.subscribe(request, windowBytes: windowBytes))
    }
}
