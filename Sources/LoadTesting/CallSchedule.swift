import Dispatch
import Foundation
import NIOConcurrencyHelpers

/// Hands out calls that are due at fixed times, whatever became of the calls before: the open loop.
///
/// A caller that comes late takes the oldest call that is due, and its latency counts from when it was due. So a server
/// that stalls shows in the times of all calls that were due meanwhile.
///
/// A thread wakes the callers: one sleep for the next call, where a timer for each caller would cost the load tester
/// more than the calls do.
final class CallSchedule: Sendable {
    private struct State {
        var handedOut: UInt64 = 0
        var waiting: [CheckedContinuation<Moment?, Never>] = []
        var isOver = false
        /// The thread waits until somebody waits for a call.
        var threadWaits = false
    }

    /// The thread looks at least so often whether the run is over.
    private static let sleepNanosecondsMax: UInt64 = 50_000_000

    private let window: RunWindow
    private let callsPerSecond: Double
    private let state = NIOLockedValueBox(State())
    private let isWanted = DispatchSemaphore(value: 0)
    /// How many calls are due in all.
    let count: UInt64

    init(window: RunWindow, callsPerSecond: Double) {
        self.window = window
        self.callsPerSecond = callsPerSecond
        count = UInt64((window.end.seconds(since: window.start) * callsPerSecond).rounded(.up))
    }

    /// Wakes callers while `body` runs.
    func pacing<Result>(_ body: () async throws -> Result) async throws -> Result {
        let thread = Thread { [self] in wakeCallers() }
        thread.name = "martlet-pacer"
        thread.stackSize = 256 << 10
        thread.start()
        defer { end() }
        return try await withTaskCancellationHandler(operation: body, onCancel: { end() })
    }

    /// Waits until the next call is due.
    /// - Returns: when it was due; nil when there are no more.
    func next() async -> Moment? {
        if let due = state.withLockedValue({ take(&$0, .now()) }) { return due }
        return await withCheckedContinuation { continuation in
            let (isOver, wakes) = state.withLockedValue { state in
                guard !state.isOver, state.handedOut < count else { return (true, false) }
                state.waiting.append(continuation)
                defer { state.threadWaits = false }
                return (false, state.threadWaits)
            }
            if isOver { continuation.resume(returning: nil) }
            if wakes { isWanted.signal() }
        }
    }

    /// When that call is due.
    func due(_ number: UInt64) -> Moment { window.start + Double(number) / callsPerSecond }

    /// Calls that are due and that no caller has taken.
    func backlog(at now: Moment) -> UInt64 {
        let due = min(count, UInt64(now.seconds(since: window.start) * callsPerSecond))
        let taken = state.withLockedValue { $0.handedOut }
        return due > taken ? due - taken : 0
    }

    private func take(_ state: inout State, _ now: Moment) -> Moment? {
        guard !state.isOver, state.handedOut < count else { return nil }
        let due = due(state.handedOut)
        guard due <= now else { return nil }
        state.handedOut += 1
        return due
    }

    /// What the thread does next.
    private enum Step {
        case stop
        case sleep(until: Moment)
        /// Nobody waits: calls that are due are taken by the callers themselves, as they get free.
        case waitForCallers
    }

    private func wakeCallers() {
        while true {
            let now = Moment.now()
            var woken: [(CheckedContinuation<Moment?, Never>, Moment?)] = []
            let step = state.withLockedValue { state -> Step in
                while let caller = state.waiting.last, let due = take(&state, now) {
                    state.waiting.removeLast()
                    woken.append((caller, due))
                }
                guard !state.isOver, state.handedOut < count else {
                    woken += state.waiting.map { ($0, nil) }
                    state.waiting = []
                    return .stop
                }
                guard state.waiting.isEmpty else { return .sleep(until: due(state.handedOut)) }
                state.threadWaits = true
                return .waitForCallers
            }
            for (caller, due) in woken { caller.resume(returning: due) }
            switch step {
            case .stop: return
            case .waitForCallers: isWanted.wait()
            case .sleep(let until):
                let nanoseconds = until.nanoseconds > now.nanoseconds ? until.nanoseconds - now.nanoseconds : 0
                Thread.sleep(forTimeInterval: Double(min(nanoseconds, Self.sleepNanosecondsMax)) / 1e9)
            }
        }
    }

    private func end() {
        let (waiting, wakes) = state.withLockedValue { state in
            state.isOver = true
            defer { (state.waiting, state.threadWaits) = ([], false) }
            return (state.waiting, state.threadWaits)
        }
        for caller in waiting { caller.resume(returning: nil) }
        if wakes { isWanted.signal() }
    }
}
