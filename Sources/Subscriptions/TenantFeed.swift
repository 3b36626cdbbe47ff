public import FoundationEssentials
import MartletDelivery
public import MartletModel
import MartletStorage
public import MartletTenants
import NIOConcurrencyHelpers
public import NIOCore

/// Someone who waits for a tenant's head to move.
public protocol FeedWaiter: AnyObject, Sendable {
    /// Where ``wake()`` is called.
    var eventLoop: any EventLoop { get }

    /// The head moved. Called on ``eventLoop``, once for each time that
    /// ``TenantFeed/arm(_:after:past:upcasters:)`` armed it.
    func wake()
}

/// What a feed has for a reader.
public enum FeedPull: Hashable, Sendable {
    /// The events that follow, from memory; ``EventPage/isLast`` tells whether they reach the head.
    case page(EventPage, head: TenantHead)
    /// Everything up to and with `to` must be read from storage. `isBehind`: it was in memory and had to make
    /// room; otherwise it never was, because another server committed it, or before anybody followed.
    case inStorage(to: Position, head: TenantHead, isBehind: Bool)
    /// Nothing follows yet.
    case atHead(TenantHead)
    /// The storage has come back with another past since the reader last asked; up to this position nothing has changed.
    /// From now on the reader asks with that number.
    case historyChanged(comparable: Position, past: UInt64)
    /// The reader has got another event at its position than is there now: it waits for what the feed finds.
    case inDoubt
}

/// The head of a tenant and its recent events, for all who follow it.
public final class TenantFeed: Sendable {
    private struct State {
        var tail = RecentEvents()
        var settings = TenantSettings.none
        /// Why the settings in force are not known.
        var fault: MartletError?
        /// One for each event loop that somebody waited on.
        var schedulers: [WakeupScheduler] = []
        var lastPage: SharedPage? { didSet { verdict = nil } }
        /// Whether that page is delivered as another than it is: what the last who asked was told.
        var verdict: (delivery: EventDelivery.Key, isChanged: Bool)?
        /// How often the storage has come back with another past.
        var past: UInt64 = 0
        /// Up to where nothing changed, the last time.
        var comparable = Position.start

        func upcasts(by version: UpcastersVersion) -> Bool { fault == nil && settings.upcastersVersion == version }

        /// Gives up the page that was made last: it is out of use, or what it is made of leaves.
        mutating func dropPage() -> SharedPage? {
            defer { lastPage = nil }
            return lastPage
        }

        mutating func scheduler(of eventLoop: any EventLoop) -> WakeupScheduler {
            for scheduler in schedulers where scheduler.eventLoop === eventLoop { return scheduler }
            let scheduler = WakeupScheduler(eventLoop: eventLoop)
            schedulers.append(scheduler)
            return scheduler
        }
    }

    /// The page that was made last: those who wait at the same place all take it.
    private final class SharedPage: Sendable {
        let after: Position
        let following: UUID?
        let bytesMax: Int
        let page: EventPage
        let head: Position
        /// Memory of its own, on the hub's account; 0 for a slice of a run, which is there already.
        let bytes: Int

        init(after: Position, following: UUID?, bytesMax: Int, page: EventPage, head: Position, bytes: Int) {
            self.after = after
            self.following = following
            self.bytesMax = bytesMax
            self.page = page
            self.head = head
            self.bytes = bytes
        }

        /// Whether it is that page of the feed.
        func isThat(_ page: EventPage, _ after: Position) -> Bool {
            after == self.after && page.scannedTo == self.page.scannedTo && page.endEventID == self.page.endEventID
        }

        /// Whether a reader there would get the same page.
        func serves(_ after: Position, _ following: UUID?, _ bytesMax: Int, head: Position) -> Bool {
            guard after == self.after, following == self.following, head == self.head else { return false }
            return bytesMax == self.bytesMax || (page.isLast && page.entries.readableBytes <= bytesMax)
        }
    }

    /// The tenant.
    public let tenant: TenantID
    private let limits: Limits
    private let held: HeldBytes
    private let state = NIOLockedValueBox(State())

    init(tenant: TenantID, limits: Limits, held: HeldBytes) {
        self.held = held
        self.tenant = tenant
        self.limits = limits
    }

    /// The last position that this server knows of.
    public var head: TenantHead { state.withLockedValue { $0.tail.head } }

    /// How often the storage has come back with another past since somebody follows.
    public var past: UInt64 { state.withLockedValue { $0.past } }

    /// Heads that the tenant has had, the newest last: with them a past is compared. At most 64.
    public var marks: [EventMark] { state.withLockedValue { Array($0.tail.marks) } }

    /// Events in memory above a position and up to another one, at most this many.
    public func marks(after: Position, to: Position, max: Int) -> [EventMark] {
        state.withLockedValue { $0.tail.marks(after: after, to: to, max: max) }
    }

    /// The settings in force for those who follow; a failure where they cannot be had.
    public var settings: Result<TenantSettings, MartletError> {
        state.withLockedValue { state in state.fault.map { .failure($0) } ?? .success(state.settings) }
    }

    /// Whether the settings in force are known, and have upcasters of that version.
    func upcasts(by version: UpcastersVersion) -> Bool { state.withLockedValue { $0.upcasts(by: version) } }

    /// The events that follow a position, or where they are.
    ///
    /// - Parameters:
    ///   - following: the id of the event at that position; nil where it is not known.
    ///   - past: the number of the past that the reader knows, ``past`` or ``FeedPull/historyChanged(comparable:past:)``.
    ///   - bytesMax: at most this many bytes of entries; one event comes even if that alone is larger.
    ///   - scanMax: with a filter, a page looks at about so many events.
    public func pull(
        after: Position, following: UUID? = nil, past: UInt64 = 0, filter: EventFilter, bytesMax: Int, scanMax: Int
    ) -> FeedPull {
        let found = state.withLockedValue { state -> RecentEvents.Found in
            guard past == state.past else {
                // Of all changes but the last one it is not known any more how far they went.
                let comparable = past + 1 == state.past ? state.comparable : .start
                return .historyChanged(comparable: comparable, past: state.past)
            }
            let head = state.tail.head
            if filter.isEmpty, let last = state.lastPage, last.serves(after, following, bytesMax, head: head.position) {
                return .page(last.page, head)
            }
            return state.tail.find(
                after: after, following: following, filter: filter, bytesMax: bytesMax, scanMax: scanMax)
        }
        switch found {
        case .historyChanged(let comparable, let past): return .historyChanged(comparable: comparable, past: past)
        case .otherPast: return .inDoubt
        case .nothing(let head): return .atHead(head)
        case .page(let page, let head): return .page(page, head: head)
        case .inStorage(let to, let head, let isBehind): return .inStorage(to: to, head: head, isBehind: isBehind)
        case .runs(let runs, let head):
            // Outside the lock: a filter takes its time.
            var (page, bytes) = PageBuilder.page(
                of: runs, after: after, filter: filter, bytesMax: bytesMax, scanMax: scanMax)
            page.isLast = page.scannedTo == head.position
            if filter.isEmpty {
                keep(
                    SharedPage(
                        after: after, following: following, bytesMax: bytesMax, page: page, head: head.position,
                        bytes: bytes))
            }
            return .page(page, head: head)
        }
    }

    /// Keeps a page for those who wait at the same place, as long as what it is made of is here, and where there is room.
    private func keep(_ made: SharedPage) {
        guard made.bytes == 0 || held.reserve(made.bytes) else { return }
        let left = state.withLockedValue { state -> SharedPage? in
            guard state.tail.head.position == made.head, state.tail.holds(after: made.after) else { return made }
            defer { state.lastPage = made }
            return state.lastPage
        }
        held.add(-(left?.bytes ?? 0))
    }

    /// Whether a page from here is delivered as another than it is. Those who wait at the same place and want the same take
    /// one look at it together.
    ///
    /// - Parameter delivery: by the settings in force.
    func isChanged(_ page: EventPage, after: Position, by delivery: EventDelivery) -> Bool {
        guard let key = delivery.key, page.count > 0 else { return false }
        let known = state.withLockedValue { state -> Bool? in
            guard let last = state.lastPage, last.isThat(page, after), let verdict = state.verdict else { return nil }
            return verdict.delivery == key ? verdict.isChanged : nil
        }
        if let known { return known }
        let isChanged = delivery.changes(page)
        state.withLockedValue { state in
            // A set is told from others by its place in memory: that of the settings in force is not freed meanwhile.
            guard state.lastPage?.isThat(page, after) == true, delivery.isBy(state.settings.upcasters) else { return }
            state.verdict = (key, isChanged)
        }
        return isChanged
    }

    /// Waits for news: for the head to move beyond a position, for another past, for other upcasters; O(1).
    ///
    /// - Parameters:
    ///   - past: the number of the past that the waiter knows.
    ///   - upcasters: the version of those that it goes by; nil for one that goes by none.
    /// - Returns: nil when there is news already: the waiter is not armed and looks again. Where many wait, it may be
    ///   armed all the same, and is woken with them.
    public func arm(
        _ waiter: any FeedWaiter, after position: Position, past: UInt64 = 0, upcasters: UpcastersVersion? = nil
    ) -> FeedWait? {
        state.withLockedValue { state in
            let scheduler = state.scheduler(of: waiter.eventLoop)
            let isDue =
                state.tail.head.position > position || state.past != past
                || upcasters.map { !state.upcasts(by: $0) } == true
            return scheduler.add(waiter, isDue: isDue).map { FeedWait(scheduler: scheduler, place: $0) }
        }
    }

    /// Ends the waiting; a wake-up that is under way may still come. Ending what is over already does nothing. O(1).
    public func disarm(_ wait: FeedWait) { wait.scheduler.remove(wait.place) }
}

/// Who waits for a feed, and where; ``TenantFeed/disarm(_:)`` takes it.
public struct FeedWait: Sendable {
    let scheduler: WakeupScheduler
    let place: WakeupScheduler.Place
}

extension TenantFeed {
    /// That the feed's past may not be the storage's.
    struct Doubt {
        /// The number of the past that is over for certain; nil where that is to be found out.
        var overPast: UInt64?
    }

    /// Takes in a run.
    /// - Returns: who is to be woken, outside all locks, and whether what the feed has does not fit the run.
    func publish(_ run: RecordedRun, sequence: UInt64) -> ([WakeupScheduler], Doubt?) {
        // What leaves the tail is freed after the lock is given back.
        let (change, woken, _, page, doubt) = state.withLockedValue { state in
            let doubt = state.tail.fit(of: run).map { Doubt(overPast: $0 == .contradicts ? state.past : nil) }
            let before = state.tail.bytes
            let page = state.dropPage()
            let dropped = state.tail.keep(run, sequence: sequence, bytesMax: limits.tailBytesPerTenantMax)
            let woken = state.tail.moveHead(to: run.head) ? state.schedulers : []
            return (state.tail.bytes - before, woken, dropped, page, doubt)
        }
        held.add(change - (page?.bytes ?? 0))
        return (woken, doubt)
    }

    /// Whether a stretch that is in storage alone would have a place in memory (``fill(_:past:sequence:)``).
    func hasPlace(for range: PageRange<Position>) -> Bool { state.withLockedValue { $0.tail.hasPlace(for: range) } }

    /// Whether the event after a position is in memory.
    func holds(after position: Position) -> Bool { state.withLockedValue { $0.tail.holds(after: position) } }

    /// Takes in a stretch that others committed, as storage has it; one of a past that is over, or without a place, changes
    /// nothing.
    func fill(_ run: RecordedRun, past: UInt64, sequence: UInt64) {
        let change = state.withLockedValue { state in
            let before = state.tail.bytes
            if state.past == past {
                state.tail.fill(run, sequence: sequence, bytesMax: limits.tailBytesPerTenantMax)
            }
            return state.tail.bytes - before
        }
        held.add(change)
    }

    /// Takes in a head.
    /// - Returns: who is to be woken, outside all locks.
    func headMoved(to head: TenantHead) -> [WakeupScheduler] {
        let (woken, page) = state.withLockedValue { state in
            guard state.tail.moveHead(to: head) else { return ([WakeupScheduler](), SharedPage?.none) }
            return (state.schedulers, state.dropPage())
        }
        held.add(-(page?.bytes ?? 0))
        return woken
    }

    /// Takes in that the storage has come back with another past: nothing of before is believed.
    ///
    /// - Parameters:
    ///   - comparable: up to here nothing has changed.
    ///   - settings: those in force now; a failure where they cannot be had.
    /// - Returns: who is to be woken, outside all locks.
    func historyChanged(
        comparable: Position, head: TenantHead, settings: Result<TenantSettings, MartletError>
    ) -> [WakeupScheduler] {
        let (woken, freed, _, page) = state.withLockedValue { state in
            let page = state.dropPage()
            let bytes = state.tail.bytes
            let dropped = state.tail.begin(at: head)
            // With the past, so that nobody goes on under settings that are not in force.
            switch settings {
            case .success(let settings): (state.settings, state.fault) = (settings, nil)
            case .failure(let error): (state.settings, state.fault) = (.none, error)
            }
            state.verdict = nil
            state.past += 1
            state.comparable = comparable
            return (state.schedulers, bytes, dropped, page)
        }
        held.add(-freed - (page?.bytes ?? 0))
        return woken
    }

    /// Takes in settings; older ones than those known change nothing.
    /// - Returns: who is to be woken, outside all locks.
    func adopt(_ settings: TenantSettings) -> [WakeupScheduler] {
        state.withLockedValue { state in
            guard settings.isNewer(than: state.settings) else { return [] }
            state.settings = settings
            state.fault = nil
            state.verdict = nil
            return state.schedulers
        }
    }

    /// Takes in that the settings of a revision cannot be had: nothing is delivered under older ones. Where those are
    /// known, or newer ones, nothing changes.
    /// - Returns: who is to be woken, outside all locks.
    func settingsFailed(_ error: MartletError, epoch: UInt64, revision: UInt64) -> [WakeupScheduler] {
        state.withLockedValue { state in
            guard (epoch, revision) > (state.settings.epoch, state.settings.revision) else { return [] }
            state.fault = error
            return state.schedulers
        }
    }

    /// What its runs and its page hold in memory, the whole buffers that they are slices of.
    var heldBytes: Int {
        state.withLockedValue { state in
            guard let page = state.lastPage else { return state.tail.bytes }
            return state.tail.bytes
                + (state.tail.holds(after: page.after) ? page.bytes : page.page.entries.storageCapacity)
        }
    }

    /// The number of the oldest run held.
    var oldestSequence: UInt64? { state.withLockedValue { $0.tail.oldestSequence } }

    /// Drops the oldest run, and the page that was made last with it.
    /// - Returns: how much memory they held, and the number of the run that is the oldest now.
    func dropOldest() -> (droppedBytes: Int, oldestSequence: UInt64?) {
        let (dropped, page, oldest) = state.withLockedValue { state in
            (state.tail.dropOldest(), state.dropPage(), state.tail.oldestSequence)
        }
        let bytes = (dropped?.bytes ?? 0) + (page?.bytes ?? 0)
        held.add(-bytes)
        return (bytes, oldest)
    }

    /// Nobody follows any more: gives back all memory.
    func close() {
        let old = state.withLockedValue { state in
            defer { state = State(tail: RecentEvents(isClosed: true)) }
            return state
        }
        held.add(-old.tail.bytes - (old.lastPage?.bytes ?? 0))
    }
}
