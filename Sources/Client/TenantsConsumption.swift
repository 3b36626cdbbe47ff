public import MartletModel

/// What a worker of many tenants' consumers gets.
public enum TenantsConsumptionItem: Hashable, Sendable {
    /// The worker joins the consumers of these tenants: slots of each are assigned to it soon. The first item of each stream,
    /// perhaps of none; later ones add tenants.
    case joined([TenantID])
    /// About the consumer of that tenant, which the worker has joined.
    case of(TenantID, ConsumptionItem)
    /// The worker has left the consumer of that tenant for that reason, and no longer has slots of it: what it says of their
    /// deliveries comes too late. It joins again by itself when the consumer is there again; after a failure, within a
    /// minute.
    case left(TenantID, MartletError)
}

/// One worker of the consumers that many tenants have under one name, in one stream: gets slots of each, and the events of
/// their keys, and says what became of them.
///
///     let consumption = client.consume(ConsumeTenantsRequest(name, worker: worker))
///     for try await item in consumption {
///         guard case .of(let tenant, .events(let events)) = item else { continue }
///         for event in events {
///             try await handle(event, of: tenant)
///             consumption.acknowledge(event.delivery)
///         }
///     }
///
/// It works on the consumers that are there, and on those that come later. What holds of a ``Consumption`` holds of this one,
/// too. The window is one for all tenants, and so is the order of deliveries.
///
/// When the connection is lost, or the server ends the stream for a reason that may pass, the sequence yields
/// ``ConsumptionItem/revoked(_:)`` for each tenant of which it had slots, with all of them, and begins a new stream: its first
/// item is ``TenantsConsumptionItem/joined(_:)`` again. It ends only with an error that a retry cannot repair:
/// `WORKER_REPLACED`, `NEVER_DELIVERED`, `TOO_MANY_TENANTS` and the like. What goes wrong with the consumer of one tenant is
/// ``TenantsConsumptionItem/left(_:_:)``.
public struct TenantsConsumption: AsyncSequence, Sendable {
    /// Items, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var reader: ConsumptionReader?

        fileprivate init(_ reader: ConsumptionReader?) { self.reader = reader }

        /// The next item; nil only after an error was thrown.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> TenantsConsumptionItem? {
            guard reader != nil else { throw ConsumptionSource.iteratedTwice }
            return try await reader?.next()
        }
    }

    private let source: ConsumptionSource

    init(_ source: ConsumptionSource) { self.source = source }

    /// Begins to work; a second iterator throws.
    public func makeAsyncIterator() -> Iterator { Iterator(source.makeReader()) }

    /// Has the server send as much again as these events took, where the consumption holds credit. Once for each event; for
    /// those of an earlier stream nothing is done.
    package func giveBack(_ events: [ConsumedEvent]) { source.giveBack(events) }

    /// A delivery is settled. Dropped if it is one of an earlier stream: its event comes again.
    ///
    /// The server hears of it soon; that it is stored, ``ConsumptionItem/committed(slot:_:)`` says. Call it from any task.
    public func acknowledge(_ delivery: ConsumerDelivery) { source.acknowledge(delivery) }

    /// All deliveries of the stream up to this one are settled, whatever their tenants and slots. Dropped if it is one of an
    /// earlier stream.
    public func acknowledge(upTo delivery: ConsumerDelivery) { source.acknowledge(upTo: delivery) }

    /// A delivery failed. Dropped if it is one of an earlier stream.
    /// - Parameter reason: why, for a person; the first ``BlockedKey/reasonBytesMax`` bytes are kept.
    public func reject(_ delivery: ConsumerDelivery, _ rejection: ConsumerRejection, reason: String) {
        source.reject(delivery, rejection, reason: reason)
    }
}

extension MartletClient {
    /// Works on the consumers of one name of many tenants; begins when the consumption is iterated.
    /// - Parameter windowBytes: bytes of events that it takes in ahead of the worker, of all tenants together; nil means
    ///   ``ClientConfiguration/subscriptionWindowBytes``.
    public func consume(_ request: ConsumeTenantsRequest, windowBytes: Int? = nil) -> TenantsConsumption {
        TenantsConsumption(ConsumptionSource(self, .consumeTenants(request), windowBytes: windowBytes))
    }

    /// Works on the consumers of one name of many tenants, and takes in at most the window's bytes ahead of those who handle
    /// events, as ``consumeHoldingCredit(_:)`` does for one consumer.
    package func consumeHoldingCredit(_ request: ConsumeTenantsRequest) -> TenantsConsumption {
        TenantsConsumption(ConsumptionSource(self, .consumeTenants(request), holdsCredit: true))
    }
}
