public import EventModel
public import EventStorage

extension EventStore: PageSource {
    /// Resolves where a subscription starts, by the store's clock.
    public func resolveStart(
        of request: SubscribeRequest, completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void
    ) {
        let clock = clock
        read { reader throws(StorageError) in
            try QueryResolution.start(of: request, now: clock(), reader: reader).map {
                ResolvedStart(after: $0.after, head: $0.head)
            }
        } completion: { result in
            completion(result.flatMap { $0 })
        }
    }

    /// Reads a page on a reader's thread.
    public func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
    ) {
        read { reader throws(StorageError) in
            try reader.page(of: tenant, positions: range, filter: filter, bounds: bounds)
        } completion: {
            completion($0)
        }
    }
}
