public import MartletModel
import MartletSession
import NIOCore

/// What a subscription delivers.
public enum SubscriptionItem: Hashable, Sendable {
    /// Events in position order, 1 or more; each comes once, whatever happens to the connection.
    case events([RecordedEvent], head: TenantHead)
    /// Everything up to here was delivered or did not match; from here on events come live.
    case caughtUp(Position, head: TenantHead)
    /// Live mode ended here: events come from storage until the next ``caughtUp(_:head:)``.
    case fellBehind(Position, head: TenantHead)
    /// Nothing matched up to here.
    case checkpoint(Position, head: TenantHead)
    /// Nothing else came for a while. `waitingForCreditBytes` is above 0 while the next event waits for the consumer to
    /// take what it has.
    case heartbeat(Position, head: TenantHead, waitingForCreditBytes: UInt64)
    /// The tenant's upcasters changed: events after this position are delivered under the settings of that revision.
    case upcastersChanged(Position, revision: UInt64, head: TenantHead)
    /// The first item: events after this position will come.
    case started(after: Position, head: TenantHead)
    /// The connection was lost and the subscription goes on where it was, not live until the next
    /// ``caughtUp(_:head:)``.
    case reconnected
}

/// Follows a tenant: every matching event once, in position order.
///
/// It continues after a lost connection, and ends only with an error that a retry cannot repair, or with
/// the client. Each iterator is a subscription of its own, which begins with its first `next()`; letting go of
/// it ends the subscription.
public struct Subscription: AsyncSequence, Sendable {
    /// Items, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var reader: SubscriptionReader

        fileprivate init(_ reader: SubscriptionReader) { self.reader = reader }

        /// The next item; nil only after an error was thrown.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> SubscriptionItem? {
            switch try await reader.next() {
            case .events(let events, let head): return .events(try reader.decode(events), head: head)
            case .signal(let item): return item
            case nil: return nil
            }
        }
    }

    private let client: MartletClient
    private let request: SubscribeRequest
    private let windowBytes: Int

    init(_ client: MartletClient, _ request: SubscribeRequest, windowBytes: Int) {
        self.client = client
        self.request = request
        self.windowBytes = windowBytes
    }

    /// A subscription that begins where the request says.
    public func makeAsyncIterator() -> Iterator { Iterator(makeReader()) }

    /// The same, with the events as they came over the wire, not decoded: for those who look at few of them, or only
    /// pass them on.
    public var batches: SubscriptionBatches { SubscriptionBatches(self) }

    fileprivate func makeReader() -> SubscriptionReader {
        SubscriptionReader(client, request, windowBytes: windowBytes)
    }
}

/// What a ``Subscription`` delivers, with its events not decoded.
public enum SubscriptionBatch: Sendable {
    /// Events in position order, 1 or more; each comes once, whatever happens to the connection.
    case events(EventBatch, head: TenantHead)
    /// Anything else; never ``SubscriptionItem/events(_:head:)``.
    case signal(SubscriptionItem)
}

/// A ``Subscription`` whose events are not decoded.
public struct SubscriptionBatches: AsyncSequence, Sendable {
    /// Batches and signals, one by one.
    public struct Iterator: AsyncIteratorProtocol {
        private var reader: SubscriptionReader

        fileprivate init(_ reader: SubscriptionReader) { self.reader = reader }

        /// The next one; nil only after an error was thrown.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MartletError) -> SubscriptionBatch? {
            try await reader.next()
        }
    }

    private let subscription: Subscription

    fileprivate init(_ subscription: Subscription) { self.subscription = subscription }

    /// A subscription that begins where the request says.
    public func makeAsyncIterator() -> Iterator { Iterator(subscription.makeReader()) }
}

/// A subscription under way. Letting go of it cancels the call.
struct SubscriptionReader: Sendable {
    private let client: MartletClient
    private let windowBytes: Int
    private var progress: SubscriptionProgress
    private var attempts: Attempts
    private var stream: StreamHandle?
    private var items: ArraySlice<SubscriptionBatch> = []
    private var isDone = false

    init(_ client: MartletClient, _ request: SubscribeRequest, windowBytes: Int) {
        self.client = client
        self.windowBytes = windowBytes
        progress = SubscriptionProgress(request)
        attempts = client.attempts(.subscribe(request), timeout: nil)
    }

    mutating func next() async throws(MartletError) -> SubscriptionBatch? {
        if let item = items.popFirst() { return item }
        guard !isDone else { return nil }
        do throws(MartletError) {
            return try await receive()
        } catch {
            isDone = true
            stream = nil
            throw error
        }
    }

    /// Decodes events; if that fails, the subscription has ended.
    mutating func decode(_ events: EventBatch) throws(MartletError) -> [RecordedEvent] {
        do throws(MartletError) {
            return try events.decoded()
        } catch {
            isDone = true
            stream = nil
            throw error
        }
    }

    private mutating func receive() async throws(MartletError) -> SubscriptionBatch {
        while true {
            let failure: CallFailure
            do throws(CallFailure) {
                switch await (try openStream()).next() {
                case .part(.subscribe(let message), _):
                    items = try take(message)[...]
                    if let item = items.popFirst() { return item }
                    continue
                case .part: throw CallFailure(error: .wrongAnswer)
                case .end(let end): failure = end ?? Self.endedByServer
                }
            } catch { failure = error }
            stream = nil
            try await client.wait(&attempts, after: failure)
        }
    }

    private mutating func take(_ message: SubscriptionMessage) throws(CallFailure) -> [SubscriptionBatch] {
        do throws(MartletError) {
            let items = try progress.receive(message)
            // A server that fails right after each start must not be asked again without a wait.
            if case .started? = message.signal {} else { attempts.succeed(now: client.environment.now()) }
            return items
        } catch { throw CallFailure(error: error) }
    }

    private mutating func openStream() async throws(CallFailure) -> StreamHandle {
        if let stream { return stream }
        let deadline = client.configuration.requestTimeout.map { client.environment.now() + TimeAmount(clamping: $0) }
        let connection = try await client.connection(until: deadline)
        let opened = connection.stream(
            .subscribe(progress.request), deadline: deadline, isDeadlineForStart: true,
            window: CreditWindow(
                windowBytes: windowBytes, windowBytesMax: client.configuration.limits.frameBytesMax))
        stream = opened
        return opened
    }

    private static let endedByServer = CallFailure(
        error: MartletError(
            .unavailable, reason: .connectionLost, message: "the server ended the subscription without a reason",
            isRetryable: true))
}

extension MartletClient {
    /// Follows a tenant from where the request says; begins when the subscription is iterated.
    /// - Parameter windowBytes: bytes of events that it takes in ahead of its consumer; nil means
    ///   ``ClientConfiguration/subscriptionWindowBytes``.
    public func subscribe(_ request: SubscribeRequest, windowBytes: Int? = nil) -> Subscription {
        Subscription(self, request, windowBytes: windowBytes ?? configuration.subscriptionWindowBytes)
    }
}
