import FoundationEssentials
import MartletDelivery
public import MartletModel
import MartletStorage
public import MartletTenants
import MartletUpcasting
public import NIOCore

/// Runs one subscription on an event loop: binds a ``SubscriptionMachine`` to the hub and to storage.
///
/// All methods are called on the event loop, and so are `emit` and `onEnd`. A turn of the loop moves at most one
/// page of events, so that a thousand subscriptions share a loop. Events that upcasters concern are upcast on a storage
/// thread.
///
/// `@unchecked Sendable`: everything mutable is touched on `eventLoop` alone.
public final class SubscriptionDriver: FeedWaiter, @unchecked Sendable {
    private enum State {
        case idle
        case resolving
        case running
        case ended
    }

    /// A page that is read for this subscription, or delivered.
    private enum Reading {
        case none
        /// There is no room for it yet.
        case waitsForRoom
        /// It can be left where the wait is not nil; otherwise it is on its way here.
        case underWay(ReadCoalescer.Wait?)
    }

    /// What a storage thread brings.
    enum Brought: Sendable {
        /// A page takes so much beyond the room that was held for it.
        case page(ReadCoalescer.Delivered, extraBytes: Int)
        /// It was dropped: it takes so much room.
        case tooLarge(bytes: Int)
    }

    /// Where it runs.
    public let eventLoop: any EventLoop
    private let request: SubscribeRequest
    private let hub: EventHub
    private let reads: ReadCoalescer
    private let mailbox: PageMailbox
    private let room: AnswerRoom
    private let limits: Limits

    /// How events are delivered under the settings in force.
    private var delivery: EventDelivery
    private var upcastersVersion = UpcastersVersion.none

    private var emit: ((SubscriptionMessage) -> Void)?
    private let onUpcastFailures: (Int) -> Void
    private var onEnd: ((MartletError) -> Void)?
    private var state = State.idle
    private var machine: SubscriptionMachine?
    private var feed: TenantFeed?
    /// ``TenantFeed/past``, as far as this subscription was told.
    private var past: UInt64 = 0
    /// The last waiting; it may be over.
    private var wait: FeedWait?
    /// What resolves the start.
    private var resolving: StoreTicket?
    private var reading = Reading.none
    /// Room that the last page did not find: the next time, so much is taken.
    private var largeBytes = 0
    /// What follows this position was read into the feed, as far as it found a place.
    private var filledAfter: Position?
    private var creditBytes: UInt64 = 0
    private var isWritable = true
    private let messageBytesMax: () -> Int
    private var isTurnScheduled = false
    private var timer: (task: Scheduled<Void>, deadline: NIODeadline)?

    /// A subscription that was not started yet.
    ///
    /// - Parameters:
    ///   - request: what is followed; its tenant is one that the caller may use.
    ///   - creditBytes: the first credit.
    ///   - room: on whose account its pages are.
    ///   - messageBytesMax: how many bytes of events the channel takes now as one message, a single event apart; where that is
    ///     0, it pauses until ``setWritable(_:)``.
    ///   - onUpcastFailures: takes how many events an upcaster failed on.
    ///   - emit: takes a message; within it, ``setWritable(_:)`` and ``cancel()`` may be called.
    ///   - onEnd: called at most once, last, and not after ``cancel()``.
    public init(
        request: SubscribeRequest, creditBytes: UInt64, eventLoop: any EventLoop, hub: EventHub, reads: ReadCoalescer,
        room: AnswerRoom, limits: Limits, messageBytesMax: @escaping () -> Int = { .max },
        onUpcastFailures: @escaping (Int) -> Void = { _ in },
        emit: @escaping (SubscriptionMessage) -> Void, onEnd: @escaping (MartletError) -> Void
    ) {
        delivery = Self.delivery(of: request, under: .none, limits)
        self.messageBytesMax = messageBytesMax
        self.onUpcastFailures = onUpcastFailures
        self.request = request
        self.creditBytes = creditBytes
        self.eventLoop = eventLoop
        self.hub = hub
        self.reads = reads
        mailbox = reads.mailbox(of: eventLoop)
        self.room = room
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
        let feed = hub.follow(request.tenant)
        self.feed = feed
        resolve(by: feed)
    }

    private func resolve(by feed: TenantFeed) {
        past = feed.past
        resolving = reads.source.resolveStart(of: request) { [self] result in
            eventLoop.execute { self.resolved(result) }
        }
    }

    /// Up to where all was emitted, with the event there as far as it is known: for who takes in what ``emit`` gives; nil
    /// where that is not known now.
    public var sentTo: Checkpoint? { machine?.sentTo }

    /// Whether it has come as far as the tenant has, and waits for new events.
    public var isLive: Bool { machine?.isLive == true }

    /// Whether the tenant's past is still the one that it reads of; where it is not, the next turn finds out how far that goes.
    public var isOfPastInForce: Bool { feed?.past == past }

    /// Under which upcasters what it emits is delivered, and whether these are the ones in force and the tenant's past is the
    /// one that it was read of.
    public var deliversUnder: (version: UpcastersVersion, isInForce: Bool) {
        (upcastersVersion, isOfPastInForce && feed.map { !hasNews($0) } ?? false)
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

    /// Pauses while the channel takes no more bytes. A page whose read is under way comes nevertheless.
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
        resolving = nil
        // What was read before the past changed is not believed.
        if let feed, feed.past != past { return resolve(by: feed) }
        switch result {
        case .failure(let error): fail(error)
        case .success(let start):
            state = .running
            hub.headMoved(request.tenant, to: start.head)
            hub.settingsChanged(request.tenant, to: start.settings)
            switch feed.map({ settings(of: $0) }) ?? .success(start.settings) {
            case .failure(let error): return fail(error)
            case .success(let settings): adopt(settings)
            }
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
        while case .running = state, isWritable, let feed {
            let roomBytes = messageBytesMax()
            guard roomBytes > 0 else { return setWritable(false) }
            guard let action = machine?.next(now: eventLoop.now, roomBytes: roomBytes) else { return }
            switch action {
            case .send(let message):
                emit?(message)
                if message.count > 0 { hasMovedPage = true }
            case .pull(let after, let following, let bytesMax):
                if hasMovedPage { return scheduleTurn() }
                let pull = feed.pull(
                    after: after, following: following, past: past, filter: delivery.storedFilter,
                    bytesMax: bytesMax, scanMax: limits.pageScanEventsMax)
                switch pull {
                case .historyChanged(let comparable, let past):
                    self.past = past
                    machine?.historyChanged(comparable: comparable, head: feed.head)
                    continue
                case .inDoubt:
                    hub.doubt(feed, past: past)
                    machine?.doubted(now: eventLoop.now)
                    continue
                default: break
                }
                // The settings are looked at after the events: what was appended after them is delivered under them.
                if hasNews(feed) {
                    takeNews(feed)
                    continue
                }
                // A page without a match took its time too.
                if case .page(let stored, let head) = pull {
                    hasMovedPage = true
                    if feed.isChanged(stored, after: after, by: delivery) {
                        deliver(stored, after: after, following, head: head, bytesMax: bytesMax, feed: feed)
                        continue
                    }
                }
                machine?.pulled(pull)
            case .read(let range, let bytesMax): read(range, bytesMax: bytesMax, feed: feed)
            case .arm(let after):
                wait = feed.arm(
                    self, after: after, past: past,
                    upcasters: request.upcasting.isRaw ? nil : upcastersVersion)
                if wait == nil { machine?.woken() }
            case .rest: return updateTimer()
            case .end(let error): return fail(error)
            }
        }
    }

    private func read(_ range: PageRange<Position>, bytesMax: Int, feed: TenantFeed) {
        let isShort = range.to.rawValue - range.after.rawValue <= UInt64(limits.pageScanEventsMax)
        if machine?.isLive == true, isShort, filledAfter != range.after, feed.hasPlace(for: range) {
            return fill(range, feed)
        }
        withRoom { [self] extra in
            reads.readPage(
                of: request.tenant, positions: range, following: machine?.positionEventID, delivery: delivery,
                bytesMax: bytesMax, completion: taking(feed, extra))
        }
    }

    /// Has a stretch that others committed read into the feed, once for all who follow, and looks again. What finds no place
    /// there is read by itself.
    private func fill(_ range: PageRange<Position>, _ feed: TenantFeed) {
        filledAfter = range.after
        withRoom { [self] extra in
            let (following, past) = (machine?.positionEventID, past)
            let taking = taking(feed, extra)
            return reads.readPage(
                of: request.tenant, positions: range, following: following, delivery: .asStored,
                bytesMax: limits.pageBytesMax
            ) { [hub] result in
                if case .success(let read?) = result {
                    hub.fill(feed, read.page, after: range.after, following: following, past: past)
                }
                taking(result.map { _ in nil })
            }
        }
    }

    /// Has events that are in memory upcast.
    private func deliver(
        _ stored: EventPage, after: Position, _ following: UUID?, head: TenantHead, bytesMax: Int, feed: TenantFeed
    ) {
        machine?.deliveryBegan(to: stored.scannedTo, head: head)
        withRoom { [self] extra in
            let (filter, scanMax) = (delivery.storedFilter, limits.pageScanEventsMax)
            let past = past
            return reads.deliver(
                of: request.tenant, after: after, following: following, delivery, bytesMax: bytesMax,
                completion: taking(feed, extra)
            ) {
                let pull = feed.pull(
                    after: after, following: following, past: past, filter: filter, bytesMax: bytesMax, scanMax: scanMax
                )
                if case .page(let page, _) = pull { return page } else { return nil }
            }
        }
    }

    /// Begins to read a page when there is room for it. A slice keeps the page that it was cut from, so that room is for a
    /// whole one, however little credit there is.
    private func withRoom(_ begin: @escaping (ExtraRoom) -> ReadCoalescer.Wait?) {
        reading = .waitsForRoom
        let isHeld = room.take(max(limits.pageBytesMax, largeBytes)) { [self] in
            guard case .waitsForRoom = reading else { return room.give() }
            guard isWritable else {
                // Others may use it while the channel takes nothing.
                leave()
                machine?.pageDropped()
                return
            }
            reading = .underWay(begin(room.extra))
        }
        if isHeld { reading = .underWay(begin(room.extra)) }
    }

    /// Reads no page any more.
    private func leave() {
        switch reading {
        case .none: return
        case .waitsForRoom: room.give()
        case .underWay(let wait):
            // What is on its way gives the room back when it comes.
            guard let wait, reads.cancel(wait) else { return }
            room.give()
        }
        reading = .none
    }

    /// What takes a page in on the event loop.
    private func taking(_ feed: TenantFeed, _ extra: ExtraRoom) -> ReadCoalescer.Completion {
        { [self] result in
            let brought: Brought
            // What no frame holds ends the subscription: there may never be enough room for it.
            if case .success(let delivered?) = result,
                !AnswerSize(limits).isExceeded(by: delivered.page.entries.readableBytes)
            {
                let bytes = delivered.page.entries.readableBytes
                // One event may be larger than a page.
                brought = extra.take(for: bytes).map { .page(result, extraBytes: $0) } ?? .tooLarge(bytes: bytes)
            } else {
                brought = .page(result, extraBytes: 0)
            }
            mailbox.deliver(PageMailbox.Page(subscription: self, feed: feed, brought: brought))
        }
    }

    /// Takes in a page that was on its way.
    func take(_ brought: Brought, _ feed: TenantFeed) {
        reading = .none
        largeBytes = 0
        switch brought {
        case .tooLarge(let bytes):
            // It is read again when there is room for all of it.
            largeBytes = bytes
            machine?.pageDropped()
        case .page(let result, let extraBytes):
            room.adopt(extraBytes)
            take(result, feed)
        }
        // At once, also where the channel takes nothing: then it is on the connection's account.
        while case .send(let message)? = machine?.message(now: eventLoop.now) { emit?(message) }
        room.give()
        scheduleTurn()
    }

    private func take(_ result: ReadCoalescer.Delivered, _ feed: TenantFeed) {
        switch result {
        case .success(let delivered?) where !hasNews(feed) && feed.past == past:
            if delivered.failureCount > 0 { onUpcastFailures(delivered.failureCount) }
            machine?.pageRead(delivered.page, head: feed.head, now: eventLoop.now)
        case .success:
            // It has left memory, or is of a past that is over, or was delivered under older upcasters than those in force.
            machine?.pageDropped()
        case .failure(let error) where error.reason == .historyChanged:
            // How far back is still the same is for the feed to find out; it tells all who follow.
            hub.doubt(feed, past: past)
            machine?.doubted(now: eventLoop.now)
        case .failure(let error):
            if error.reason == .upcastFailed { onUpcastFailures(1) }
            machine?.readFailed(error, now: eventLoop.now)
        }
    }

    /// Whether there are newer settings than those that events are delivered under, or none to be had.
    private func hasNews(_ feed: TenantFeed) -> Bool {
        !request.upcasting.isRaw && !feed.upcasts(by: upcastersVersion)
    }

    /// Goes by the settings in force from now on, or ends where they cannot be had. Settings are large: this is apart, so
    /// that a turn without news copies none.
    @inline(never)
    private func takeNews(_ feed: TenantFeed) {
        switch settings(of: feed) {
        case .failure(let error): fail(error)
        case .success(let settings) where isNews(settings):
            adopt(settings)
            machine?.upcastersChanged(revision: settings.revision)
        case .success: break
        }
    }

    /// The settings in force, of which those who get events as they are stored need none.
    private func settings(of feed: TenantFeed) -> Result<TenantSettings, MartletError> {
        request.upcasting.isRaw ? .success(.none) : feed.settings
    }

    /// Whether events are delivered under others than those settings.
    private func isNews(_ settings: TenantSettings) -> Bool {
        !request.upcasting.isRaw && settings.upcastersVersion != upcastersVersion
    }

    private static func delivery(
        of request: SubscribeRequest, under settings: TenantSettings, _ limits: Limits
    ) -> EventDelivery {
        .of(
            set: settings.upcasters, options: request.upcasting, filter: request.filter,
            payloadBytesMax: limits.upcastPayloadBytesMax)
    }

    private func adopt(_ settings: TenantSettings) {
        upcastersVersion = settings.upcastersVersion
        delivery = Self.delivery(of: request, under: settings, limits)
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
            // Nobody looks any more whether its past has changed.
            if hub.unfollow(feed) { reads.forget(request.tenant) }
        }
        leave()
        if let resolving { reads.source.cancel(resolving) }
        resolving = nil
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
