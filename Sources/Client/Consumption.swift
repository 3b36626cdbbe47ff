public import MartletModel

/// What a worker of a consumer gets.
public enum ConsumptionItem: Hashable, Sendable {
    /// The worker has these slots from now on. The first item of each stream, perhaps of none; later ones add slots.
    case assigned([ConsumeMessage.Slot])
    /// The worker no longer has these slots: what it says of their deliveries comes too late. Also when the connection was
    /// lost, of all slots.
    case revoked([Int])
    /// Events to handle, 1 or more. Those of one key come in position order.
    case events([ConsumedEvent])
    /// What is stored of a slot has come to that checkpoint. While the worker is slow only the last one of a slot is kept.
    case committed(slot: Int, Checkpoint)
    /// A slot delivers nothing more, for that reason, until somebody resets the consumer or puts its definition.
    case stopped(slot: Int, reason: String)
    /// The consumer is paused, or goes on.
    case paused(Bool)
}

/// An event that a worker is to handle.
public struct ConsumedEvent: Hashable, Sendable {
    /// The event.
    public var event: RecordedEvent
    /// What the worker acknowledges or rejects.
    public var delivery: ConsumerDelivery
    /// The number of the event's slot.
    public var slot: Int
    /// The epoch under which the worker has the slot: what it stores itself is stored under this one, and never under a
    /// lower one than is there.
    public var epoch: UInt64
    /// How often the event was tried with this, from 1.
    public var attempt: UInt32
    /// It may have been handled before.
    public var mayBeRepeated: Bool
    /// The event's key. While a delivery of a key is rejected and has not come again, later ones of the key are passed over.
    public var key: ConsumerKey
    /// The key was blocked when the event was delivered, or had been so a moment before.
    public var isKeyBlocked: Bool
    /// The credit that it took.
    package var creditBytes: Int

    package init(
        event: RecordedEvent, delivery: ConsumerDelivery, slot: Int, epoch: UInt64, attempt: UInt32,
        mayBeRepeated: Bool, key: ConsumerKey, isKeyBlocked: Bool, creditBytes: Int
    ) {
        self.event = event
        self.delivery = delivery
        self.slot = slot
        self.epoch = epoch
        self.attempt = attempt
        self.mayBeRepeated = mayBeRepeated
        self.key = key
        self.isKeyBlocked = isKeyBlocked
        self.creditBytes = creditBytes
    }

    /// What an append carries that is the reaction to the event: then nobody reacts to it a second time.
    ///
    /// It says that all events of the slot that came before are settled. A worker that uses it handles the events of a slot
    /// one after the other, and, when it has rejected one, goes on with the slot when ``ConsumptionItem/committed(slot:_:)``
    /// has passed that one.
    public func checkpoint(of consumer: ConsumerName) -> AppendCheckpoint {
        AppendCheckpoint(
            consumer: consumer, slot: slot, epoch: epoch,
            event: Checkpoint(position: event.position, eventID: event.event.id), key: key,
            isKeyBlocked: isKeyBlocked)
    }
}

/// Names one delivery of one stream: no other delivery of the process has the same name, on whatever connection it came.
public struct ConsumerDelivery: Hashable, Sendable {
    /// The stream: each one of the process has a number of its own.
    package let stream: UInt64
    /// The delivery's number within the stream, from 1.
    package let number: UInt64

    package init(stream: UInt64, number: UInt64) {
        self.stream = stream
        self.number = number
    }
}

/// What becomes of a delivery that failed.
public enum ConsumerRejection: Hashable, Sendable {
    /// It is tried again after that time, at most 49 days; nil is the consumer's backoff.
    case retry(after: Duration? = nil)
    /// Its key waits until somebody retries or skips it.
    case park
    /// Its slot stops.
    case stop
}

/// One worker of a consumer: gets slots, and the events of their keys, and says what became of them.
///
///     let consumption = client.consume(ConsumeRequest(consumer, worker: name))
///     for try await item in consumption {
///         guard case .events(let events) = item else { continue }
///         for event in events {
///             try await handle(event)
///             consumption.acknowledge(event.delivery)
///         }
///     }
///
/// Events come in as they are taken: at most the window's bytes wait in the client. The client tells the server by itself
/// that the worker is there, for as long as the iterator lives: a worker that hangs is found by the consumer's
/// acknowledgement timeout alone.
///
/// When the connection is lost, or the server ends the stream for a reason that may pass, the sequence yields
/// ``ConsumptionItem/revoked(_:)`` with all slots that it had and begins a new stream; events of the old one that were not
/// taken are dropped. It ends only with an error that a retry cannot repair: `CONSUMER_NOT_FOUND`, `WORKER_REPLACED`,
/// `NEVER_DELIVERED`, `CONSUMER_HISTORY_CHANGED` and the like.
///
/// It is iterated once. Leaving the loop, or letting go of the iterator, ends the stream. What was acknowledged shortly
/// before may come again to the next worker: who wants to avoid that waits for ``ConsumptionItem/committed(slot:_:)``.
///
/// ``TenantsConsumption`` is the same over the consumers of many tenants.
public struct Consumption: AsyncSequence, Sendable {
    /// Items, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var reader: ConsumptionReader?

        fileprivate init(_ reader: ConsumptionReader?) { self.reader = reader }

        /// The next item; nil only after an error was thrown.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> ConsumptionItem? {
            guard reader != nil else { throw ConsumptionSource.iteratedTwice }
            switch try await reader?.next() {
            case .of(_, let item): return item
            case .joined, .left: throw .wrongAnswer
            case nil: return nil
            }
        }
    }

    private let source: ConsumptionSource

    init(_ source: ConsumptionSource) { self.source = source }

    /// The same worker, whose items come with the consumer's tenant. One of the two is iterated.
    package var ofTenant: TenantsConsumption { TenantsConsumption(source) }

    /// Begins to work; a second iterator throws.
    public func makeAsyncIterator() -> Iterator { Iterator(source.makeReader()) }

    /// Has the server send as much again as these events took, where the consumption holds credit. Once for each event; for
    /// those of an earlier stream nothing is done.
    package func giveBack(_ events: [ConsumedEvent]) { source.giveBack(events) }

    /// A delivery is settled. Dropped if it is one of an earlier stream: its event comes again.
    ///
    /// The server hears of it soon; that it is stored, ``ConsumptionItem/committed(slot:_:)`` says. Call it from any task.
    public func acknowledge(_ delivery: ConsumerDelivery) { source.acknowledge(delivery) }

    /// All deliveries of the stream up to this one are settled, whatever their slots. Dropped if it is one of an earlier
    /// stream.
    public func acknowledge(upTo delivery: ConsumerDelivery) { source.acknowledge(upTo: delivery) }

    /// A delivery failed. Dropped if it is one of an earlier stream.
    /// - Parameter reason: why, for a person; the first ``BlockedKey/reasonBytesMax`` bytes are kept.
    public func reject(_ delivery: ConsumerDelivery, _ rejection: ConsumerRejection, reason: String) {
        source.reject(delivery, rejection, reason: reason)
    }
}

extension MartletClient {
    /// Works on a consumer; begins when the consumption is iterated.
    /// - Parameter windowBytes: bytes of events that it takes in ahead of the worker; nil means
    ///   ``ClientConfiguration/subscriptionWindowBytes``.
    public func consume(_ request: ConsumeRequest, windowBytes: Int? = nil) -> Consumption {
        Consumption(ConsumptionSource(self, .consume(request), windowBytes: windowBytes))
    }

    /// Works on a consumer, and takes in at most the window's bytes ahead of those who handle events: what was taken out of
    /// the consumption counts until it is given back (``Consumption/giveBack(_:)``). Each event keeps its own bytes in memory,
    /// and none of those that came with it.
    package func consumeHoldingCredit(_ request: ConsumeRequest) -> Consumption {
        Consumption(ConsumptionSource(self, .consume(request), holdsCredit: true))
    }
}
