import NIOConcurrencyHelpers
import NIOCore

/// Those of one event loop who wait for one tenant's head to move, and when they are woken.
///
/// They are woken in a wave, at once when nothing was sent to them just now. A wave of many takes its time: encoding,
/// encrypting and a write for each. The next one waits as long as that took, so that at most about half of the loop's
/// time goes into waves, appends are still answered in between, and what is committed meanwhile goes out together. A
/// turn of the loop wakes a slice of a wave only. Joining and leaving cost O(1).
final class WakeupScheduler: Sendable {
    private struct State {
        /// By slot; nil in slots that are free.
        var waiters: [(any FeedWaiter)?] = []
        /// Empty, with the room of an earlier wave: waves that follow each other allocate nothing.
        var spare: [(any FeedWaiter)?] = []
        var freeSlots: [Int] = []
        /// Counts the waves, so that a slot of an earlier one is told from one of now.
        var epoch: UInt64 = 0
        /// A wave is on its way, or just came.
        var isBusy = false
        /// There is news for those who wait.
        var isDue = false

        var hasWaiters: Bool { waiters.count > freeSlots.count }

        mutating func add(_ waiter: any FeedWaiter) -> Int {
            if let slot = freeSlots.popLast() {
                waiters[slot] = waiter
                return slot
            }
            waiters.append(waiter)
            return waiters.count - 1
        }

        mutating func takeAll() -> [(any FeedWaiter)?] {
            defer {
                waiters = spare
                spare = []
                freeSlots.removeAll(keepingCapacity: true)
                epoch += 1
            }
            return waiters
        }
    }

    /// A waiter's place, to leave by.
    struct Place: Sendable {
        let slot: Int
        fileprivate let epoch: UInt64
    }

    /// This many are woken in one turn of the loop.
    private static let sliceWaiters = 256
    /// Waves of fewer are never held back.
    private static let pacedWaiters = 8
    private static let pauseMax = TimeAmount.milliseconds(20)

    let eventLoop: any EventLoop
    private let state = NIOLockedValueBox(State())

    private let clock: @Sendable () -> NIODeadline

    /// A wave by the clock of its event loop, or by another one.
    init(eventLoop: any EventLoop, clock: (@Sendable () -> NIODeadline)? = nil) {
        self.eventLoop = eventLoop
        self.clock = clock ?? { eventLoop.now }
    }

    /// Adds a waiter.
    /// - Parameter isDue: the head has moved already.
    /// - Returns: its place; nil where the head has moved, and no wave is to come: the waiter was not added and goes on
    ///   at once.
    func add(_ waiter: any FeedWaiter, isDue: Bool) -> Place? {
        state.withLockedValue { state in
            guard !isDue || state.isBusy else { return nil }
            if isDue { state.isDue = true }
            return Place(slot: state.add(waiter), epoch: state.epoch)
        }
    }

    /// Takes a waiter out again; a wave that is under way may still wake it. Touches nothing but its slot.
    func remove(_ place: Place) {
        // Freed after the lock is given back.
        _ = state.withLockedValue { state -> (any FeedWaiter)? in
            guard place.epoch == state.epoch, let waiter = state.waiters[place.slot] else { return nil }
            state.waiters[place.slot] = nil
            state.freeSlots.append(place.slot)
            return waiter
        }
    }

    /// Slots that are held for waiters, free ones among them.
    var slotCount: Int { state.withLockedValue { $0.waiters.count } }

    /// There is news; from any thread.
    func begin() {
        let isFirst = state.withLockedValue { state in
            guard !state.isBusy else {
                state.isDue = true
                return false
            }
            state.isBusy = state.hasWaiters
            return state.isBusy
        }
        if isFirst { eventLoop.execute { self.run() } }
    }

    private func run() {
        var waiters = state.withLockedValue { state in
            state.isDue = false
            return state.takeAll()
        }
        let start = clock()
        let isPaced = waiters.count >= Self.pacedWaiters
        guard waiters.count <= Self.sliceWaiters else { return wake(waiters[...], since: start, isPaced: isPaced) }
        for index in waiters.indices { waiters[index]?.wake() }
        waiters.removeAll(keepingCapacity: true)
        state.withLockedValue { swap(&$0.spare, &waiters) }
        end(since: start, isPaced: isPaced)
    }

    /// A wave of more than a slice.
    private func wake(_ waiters: ArraySlice<(any FeedWaiter)?>, since start: NIODeadline, isPaced: Bool) {
        for waiter in waiters.prefix(Self.sliceWaiters) { waiter?.wake() }
        let rest = waiters.dropFirst(Self.sliceWaiters)
        guard rest.isEmpty else {
            return eventLoop.execute { self.wake(rest, since: start, isPaced: isPaced) }
        }
        end(since: start, isPaced: isPaced)
    }

    private func end(since start: NIODeadline, isPaced: Bool) {
        guard isPaced else { return goOn() }
        // What they wrote is flushed by a task that was added before this one.
        eventLoop.execute {
            let now = self.clock()
            self.eventLoop.scheduleTask(deadline: now + min(now - start, Self.pauseMax)) { self.goOn() }
        }
    }

    /// The wave is over: another one comes if there is news for those who wait by now.
    private func goOn() {
        let isNext = state.withLockedValue { state in
            state.isBusy = state.isDue && state.hasWaiters
            return state.isBusy
        }
        if isNext { eventLoop.execute { self.run() } }
    }
}
