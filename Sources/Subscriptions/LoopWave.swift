import NIOConcurrencyHelpers
import NIOCore

/// Those of one event loop who wait for one tenant's head to move, and when they are woken.
///
/// They are woken in a wave, at once when nothing was sent to them just now. A wave of many takes its time: encoding,
/// encrypting and a write for each. The next one waits as long as that took, so that at most about half of the loop's
/// time goes into waves, appends are still answered in between, and what is committed meanwhile goes out together.
final class LoopWave: Sendable {
    private struct State {
        var waiters: [any FeedWaiter] = []
        /// A wave is on its way, or just came.
        var isBusy = false
        /// There is news for those who wait.
        var isDue = false
    }

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
    /// - Returns: false where it has, and no wave is to come: the waiter was not added and goes on at once.
    func add(_ waiter: any FeedWaiter, isDue: Bool) -> Bool {
        state.withLockedValue { state in
            guard !isDue || state.isBusy else { return false }
            state.waiters.append(waiter)
            if isDue { state.isDue = true }
            return true
        }
    }

    /// Takes a waiter out again; a wave that is under way may still wake it.
    func remove(_ waiter: any FeedWaiter) {
        state.withLockedValue { state in state.waiters.removeAll { $0 === waiter } }
    }

    /// There is news; from any thread.
    func begin() {
        let isFirst = state.withLockedValue { state in
            guard !state.isBusy else {
                state.isDue = true
                return false
            }
            state.isBusy = !state.waiters.isEmpty
            return state.isBusy
        }
        if isFirst { eventLoop.execute { self.run() } }
    }

    private func run() {
        let waiters = state.withLockedValue { state in
            defer { state.waiters = [] }
            state.isDue = false
            return state.waiters
        }
        let start = clock()
        for waiter in waiters { waiter.wake() }
        guard waiters.count >= Self.pacedWaiters else { return goOn() }
        // What they wrote is flushed by a task that was added before this one.
        eventLoop.execute {
            let now = self.clock()
            self.eventLoop.scheduleTask(deadline: now + min(now - start, Self.pauseMax)) { self.goOn() }
        }
    }

    /// The wave is over: another one comes if there is news for those who wait by now.
    private func goOn() {
        let isNext = state.withLockedValue { state in
            state.isBusy = state.isDue && !state.waiters.isEmpty
            return state.isBusy
        }
        if isNext { eventLoop.execute { self.run() } }
    }
}
