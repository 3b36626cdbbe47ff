import NIOConcurrencyHelpers

/// A statement that one thread runs and another may interrupt, without ever interrupting the one that comes after it.
package final class InterruptibleStatement: Sendable {
    private enum State {
        case waiting, cancelled, running, done
    }

    private let state = NIOLockedValueBox(State.waiting)

    /// A statement that does not run yet.
    package init() {}

    /// Runs it.
    /// - Throws: `CancellationError` where it was cancelled before; what `body` throws.
    package func run<Result>(_ body: () throws -> Result) throws -> Result {
        try state.withLockedValue { state in
            guard case .waiting = state else { throw CancellationError() }
            state = .running
        }
        // Waits for an interruption that is on its way.
        defer { state.withLockedValue { $0 = .done } }
        return try body()
    }

    /// It is not to begin.
    /// - Returns: whether it runs, and is to be interrupted.
    package func cancel() -> Bool {
        state.withLockedValue { state in
            switch state {
            case .waiting: state = .cancelled
            case .cancelled, .done: break
            case .running: return true
            }
            return false
        }
    }

    /// Calls `interrupt` if it still runs; it does not return before.
    package func interrupt(by interrupt: () -> Void) {
        // Under the lock, which is what keeps the next statement from beginning.
        state.withLockedValue { if case .running = $0 { interrupt() } }
    }
}
