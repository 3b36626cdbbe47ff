import NIOConcurrencyHelpers

/// Lets so many tasks in at a time; the others wait in order.
package final class Turnstile: Sendable {
    private struct State {
        var free: Int
        var waiting: [(id: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
        var lastID: UInt64 = 0
        /// Waits that were cancelled before they began.
        var cancelled: Set<UInt64> = []
    }

    private let state: NIOLockedValueBox<State>

    /// A turnstile with so many places.
    package init(places: Int) { state = NIOLockedValueBox(State(free: places)) }

    /// Runs `body` when there is a place.
    /// - Throws: `CancellationError` where the task is cancelled before that; what `body` throws.
    package func pass<Result: Sendable>(_ body: () async throws -> Result) async throws -> Result {
        try await enter()
        defer { leave() }
        return try await body()
    }

    private func enter() async throws {
        let id = state.withLockedValue { state in
            state.lastID += 1
            return state.lastID
        }
        let isIn = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLockedValue { state in
                    if state.cancelled.remove(id) != nil { return false }
                    guard state.free == 0 else {
                        state.free -= 1
                        return true
                    }
                    state.waiting.append((id, continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiting = state.withLockedValue { state -> CheckedContinuation<Bool, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.id == id }) else {
                    state.cancelled.insert(id)
                    return nil
                }
                return state.waiting.remove(at: index).continuation
            }
            waiting?.resume(returning: false)
        }
        state.withLockedValue { _ = $0.cancelled.remove(id) }
        guard isIn else { throw CancellationError() }
    }

    private func leave() {
        let next = state.withLockedValue { state -> CheckedContinuation<Bool, Never>? in
            guard !state.waiting.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst().continuation
        }
        next?.resume(returning: true)
    }
}
