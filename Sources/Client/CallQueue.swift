import DequeModule
import NIOCore

/// Calls that wait for their connection to take bytes. It holds references only: each call's request is its
/// caller's, who waits for it.
struct CallQueue {
    private var calls: Deque<ClientCall> = []

    var isEmpty: Bool { calls.isEmpty }

    /// When the first of them must be ended.
    var earliestDeadline: NIODeadline? { calls.lazy.compactMap(\.activeDeadline).min() }

    mutating func append(_ call: ClientCall) { calls.append(call) }

    mutating func popFirst() -> ClientCall? { calls.popFirst() }

    mutating func remove(_ call: ClientCall) { calls.removeAll { $0 === call } }

    /// Takes out those that are meant.
    mutating func removeAll(where isMeant: (ClientCall) -> Bool) -> [ClientCall] {
        let removed = Array(calls.filter(isMeant))
        if !removed.isEmpty { calls.removeAll(where: isMeant) }
        return removed
    }
}
