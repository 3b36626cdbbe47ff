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
    private struct State: Sendable {
        var handedOut: UInt64 = 0
        var waiting: [CheckedContinuation<Moment?, Never>] = []
        var isOver = false
    }

    /// The thread looks at least so often whether the run is over.
    private static let sleepNanosecondsMax: UInt64 = 50_000_000

    private let window: RunWindow
    private let callsPerSecond: Double
    private let state = NIOLockedValueBox(State())
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
            let isOver = state.withLockedValue { state in
                guard !state.isOver, state.handedOut < count else { return true }
                state.waiting.append(continuation)
                return false
            }
            if isOver { continuation.resume(returning: nil) }
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

    private func wakeCallers() {
        while true {
            let now = Moment.now()
            var woken: [(CheckedContinuation<Moment?, Never>, Moment?)] = []
            let next = state.withLockedValue { state -> Moment? in
                while let caller = state.waiting.last, let due = take(&state, now) {
                    state.waiting.removeLast()
                    woken.append((caller, due))
                }
                guard !state.isOver, state.handedOut < count else {
                    woken += state.waiting.map { ($0, nil) }
                    state.waiting = []
                    return nil
                }
                // Calls that are due and wait are taken by the callers themselves, as they get free.
                let next = due(state.handedOut)
                return next > now ? next : now + 0.000_2
            }
            for (caller, due) in woken { caller.resume(returning: due) }
            guard let next else { return }
            let sleep = next.nanoseconds > now.nanoseconds ? next.nanoseconds - now.nanoseconds : 0
            Thread.sleep(forTimeInterval: Double(min(sleep, Self.sleepNanosecondsMax)) / 1e9)
        }
    }

    private func end() {
        let waiting = state.withLockedValue { state in
            state.isOver = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for caller in waiting { caller.resume(returning: nil) }
    }
}
