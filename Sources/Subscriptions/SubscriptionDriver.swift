import MartletDelivery
public import MartletModel
import MartletStorage
import MartletTenants
import MartletUpcasting
public import NIOCore

/// Runs one subscription on an event loop: binds a ``SubscriptionMachine`` to the hub and to storage.
///
/// All methods are called on the event loop, and so are `emit` and `onEnd`. A turn of the loop moves at most one
/// page of events, so that a thousand subscriptions share a loop.
///
/// `@unchecked Sendable`: everything mutable is touched on `eventLoop` alone.
public final class SubscriptionDriver: FeedWaiter, @unchecked Sendable {
    private enum State {
        case idle
        case resolving
        case running
        case ended
    }

    /// Where it runs.
    public let eventLoop: any EventLoop
    private let request: SubscribeRequest
    private let hub: EventHub
    private let reads: SharedReads
    private let limits: Limits

    /// How events are delivered under the settings in force.
    private var delivery: EventDelivery
    private var upcastersRevision: UInt64 = 0

    private var emit: ((SubscriptionMessage) -> Void)?
    private let onUpcastFailures: (Int) -> Void
    private var onEnd: ((MartletError) -> Void)?
    private var state = State.idle
    private var machine: SubscriptionMachine?
    private var feed: TenantFeed?
    /// The last waiting; it may be over.
    private var wait: FeedWait?
    private var creditBytes: UInt64 = 0
    private var isWritable = true
    private var isTurnScheduled = false
    private var timer: (task: Scheduled<Void>, deadline: NIODeadline)?

    /// A subscription that was not started yet.
    ///
    /// - Parameters:
    ///   - request: what is followed; its tenant is one that the caller may use.
    ///   - creditBytes: the first credit.
    ///   - onUpcastFailures: takes how many events an upcaster failed on.
    ///   - emit: takes a message; within it, ``setWritable(_:)`` and ``cancel()`` may be called.
    ///   - onEnd: called at most once, last, and not after ``cancel()``.
    public init(
        request: SubscribeRequest, creditBytes: UInt64, eventLoop: any EventLoop, hub: EventHub, reads: SharedReads,
        limits: Limits, onUpcastFailures: @escaping (Int) -> Void = { _ in },
        emit: @escaping (SubscriptionMessage) -> Void, onEnd: @escaping (MartletError) -> Void
    ) {
        delivery = Self.delivery(of: request, under: .none, limits)
        self.onUpcastFailures = onUpcastFailures
        self.request = request
        self.creditBytes = creditBytes
        self.eventLoop = eventLoop
        self.hub = hub
        self.reads = reads
        self.limits = limits
        self.emit = emit
        self.onEnd = onEnd
    }

    /// Resolves the start and begins to send. Ends with `POSITION_BEYOND_HEAD`, `TIME_IN_FUTURE` or a storage
    /// failure where the start cannot be resolved; later storage failures that may pass are waited out.
    public func start() {
        eventLoop.preconditionInEventLoop()
        guard case .idle = state else { return }
        state = .resolving
        // Followed first: what is committed while the start is resolved is not missed.
        feed = hub.follow(request.tenant)
        reads.source.resolveStart(of: request) { [self] result in
            eventLoop.execute { self.resolved(result) }
        }
    }

    /// The subscriber grants more bytes of events.
    public func addCredit(_ bytes: UInt64) {
        eventLoop.preconditionInEventLoop()
        if machine == nil {
            let (sum, overflow) = creditBytes.addingReportingOverflow(bytes)
            creditBytes = overflow ? .max : sum
        } else {
            machine?.creditAdded(bytes)
            scheduleTurn()
        }
    }

    /// Pauses while the channel takes no more bytes. At most one page, whose read was under way, waits meanwhile.
    public func setWritable(_ isWritable: Bool) {
        eventLoop.preconditionInEventLoop()
        guard isWritable != self.isWritable else { return }
        self.isWritable = isWritable
        if isWritable { scheduleTurn() } else { cancelTimer() }
    }

    /// Ends it; nothing is called any more.
    public func cancel() {
        eventLoop.preconditionInEventLoop()
        end()
    }

    /// The tenant's head moved. The turn is taken at once: this is called from a task of the event loop.
    public func wake() {
        machine?.woken()
        guard case .running = state, isWritable, !isTurnScheduled else { return }
        turn()
    }

    private func resolved(_ result: Result<ResolvedStart, MartletError>) {
        guard case .resolving = state else { return }
        switch result {
        case .failure(let error): fail(error)
        case .success(let start):
            state = .running
            hub.headMoved(request.tenant, to: start.head)
            hub.settingsChanged(request.tenant, to: start.settings)
            adopt(feed?.settings ?? start.settings)
            machine = SubscriptionMachine(
                start: start, creditBytes: creditBytes,
                settings: SubscriptionMachine.Settings(request: request, limits: limits), now: eventLoop.now)
            scheduleTurn()
        }
    }

    private func scheduleTurn() {
        guard case .running = state, isWritable, !isTurnScheduled else { return }
        isTurnScheduled = true
        eventLoop.execute { self.turn() }
    }

    private func turn() {
        isTurnScheduled = false
        var hasMovedPage = false
        while case .running = state, isWritable, let feed, let action = machine?.next(now: eventLoop.now) {
            switch action {
            case .send(let message):
                emit?(message)
                if message.count > 0 { hasMovedPage = true }
            case .pull(let after, let bytesMax):
                if hasMovedPage { return scheduleTurn() }
                let settings = feed.settings
                if !request.upcasting.isRaw, settings.upcastersRevision != upcastersRevision {
                    adopt(settings)
                    machine?.upcastersChanged(revision: settings.revision)
                    continue
                }
                let pull = feed.pull(
                    after: after, filter: delivery.storedFilter, bytesMax: bytesMax, scanMax: limits.pageScanEventsMax)
                // A page without a match took its time too.
                guard case .page(let stored, let head) = pull else {
                    machine?.pulled(pull)
                    continue
                }
                hasMovedPage = true
                if let page = deliver(stored, by: delivery, bytesMax: bytesMax) {
                    machine?.pulled(.page(page, head: head))
                }
            case .read(let range, let bytesMax): read(range, bytesMax: bytesMax, feed: feed)
            case .arm(let after):
                wait = feed.arm(self, after: after)
                if wait == nil { machine?.woken() }
            case .rest: return updateTimer()
            case .end(let error): return fail(error)
            }
        }
    }

    private func read(_ range: PageRange<Position>, bytesMax: Int, feed: TenantFeed) {
        // A page is delivered under the settings by which it was looked for.
        let delivery = delivery
        reads.readPage(of: request.tenant, positions: range, filter: delivery.storedFilter, bytesMax: bytesMax) {
            [self] result in
            eventLoop.execute {
                switch result {
                case .success(let stored):
                    if let page = self.deliver(stored, by: delivery, bytesMax: bytesMax) {
                        self.machine?.pageRead(page, head: feed.head, now: self.eventLoop.now)
                    }
                case .failure(let error): self.machine?.readFailed(error, now: self.eventLoop.now)
                }
                self.scheduleTurn()
            }
        }
    }

    private static func delivery(
        of request: SubscribeRequest, under settings: TenantSettings, _ limits: Limits
    ) -> EventDelivery {
        EventDelivery(
            set: settings.upcasters, options: request.upcasting, filter: request.filter,
            payloadBytesMax: limits.upcastPayloadBytesMax)
    }

    private func adopt(_ settings: TenantSettings) {
        upcastersRevision = settings.upcastersRevision
        delivery = Self.delivery(of: request, under: settings, limits)
    }

    /// Nil where the page's first event cannot be upcast, which ends the subscription.
    private func deliver(_ page: EventPage, by delivery: EventDelivery, bytesMax: Int) -> EventPage? {
        do throws(MartletError) {
            let result = try delivery.deliver(page, bytesMax: bytesMax)
            if result.failureCount > 0 { onUpcastFailures(result.failureCount) }
            return result.page
        } catch {
            if error.reason == .upcastFailed { onUpcastFailures(1) }
            machine?.upcastFailed(error)
            return nil
        }
    }

    private func fail(_ error: MartletError) {
        let onEnd = onEnd
        end()
        onEnd?(error)
    }

    private func end() {
        state = .ended
        cancelTimer()
        machine = nil
        emit = nil
        onEnd = nil
        if let feed {
            if let wait { feed.disarm(wait) }
            hub.unfollow(feed)
        }
        feed = nil
        wait = nil
    }

    /// Sees to it that a turn comes at the machine's deadline. A timer that fires too early sets the next one:
    /// cheaper than moving it with each message.
    private func updateTimer() {
        guard let deadline = machine?.deadline else { return }
        if let timer, timer.deadline <= deadline { return }
        cancelTimer()
        let task = eventLoop.scheduleTask(deadline: deadline) { [weak self] in self?.timerFired() ?? () }
        timer = (task, deadline)
    }

    private func timerFired() {
        timer = nil
        if let feed { machine?.headMoved(to: feed.head) }
        scheduleTurn()
    }

    private func cancelTimer() {
        timer?.task.cancel()
        timer = nil
    }
}
