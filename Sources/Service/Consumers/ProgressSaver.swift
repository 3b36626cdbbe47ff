import MartletModel
import MartletStorage
import MartletTenants
import NIOConcurrencyHelpers
import NIOCore

/// Stores how far slots have come, of all consumers together, at most once in a while: what has come by then goes to storage
/// in one go, and into one commit, as far as that takes it.
///
/// What waits for that is on its tenant's account until it is in storage's queue, which has an account of its own.
final class ProgressSaver: Sendable {
    typealias Completion = @Sendable (Result<SlotSaved, MartletError>) -> Void

    private struct Waiting {
        var saving: SlotSaving
        var completion: Completion

        /// What it takes in memory, about.
        var bytes: Int { saving.change.memoryBytes + 256 }
    }

    private struct State {
        var waiting: [ConsumerID: [Waiting]] = [:]
        var isScheduled = false
        var lastFlush: NIODeadline?
    }

    /// Slots of one command.
    private static let slotsMax = 256

    private let store: EventStore
    private let pool: FairPool
    private let limits: Limits
    private let counters: ConsumerCounters
    private let interval: TimeAmount
    private let state = NIOLockedValueBox(State())

    init(store: EventStore, pool: FairPool, limits: Limits, counters: ConsumerCounters) {
        self.store = store
        self.pool = pool
        self.limits = limits
        self.counters = counters
        interval = .milliseconds(Int64(limits.consumerProgressMillis))
    }

    /// Stores a change with those of others, soon; fails where the tenant has no memory left for it to wait in.
    /// - Parameter completion: called from any thread.
    func save(
        _ saving: SlotSaving, of id: ConsumerID, on eventLoop: any EventLoop, completion: @escaping Completion
    ) {
        let now = eventLoop.now
        let waiting = Waiting(saving: saving, completion: completion)
        guard pool.take(waiting.bytes, for: .tenant(id.tenant)) else {
            return completion(.failure(.callMemoryFull(limits, bytes: waiting.bytes)))
        }
        let deadline = state.withLockedValue { state -> NIODeadline? in
            state.waiting[id, default: []].append(waiting)
            guard !state.isScheduled else { return nil }
            state.isScheduled = true
            return max(now, state.lastFlush.map { $0 + interval } ?? now)
        }
        guard let deadline else { return }
        guard deadline > now else { return eventLoop.execute { self.flush(now: eventLoop.now) } }
        eventLoop.scheduleTask(deadline: deadline) { self.flush(now: eventLoop.now) }
    }

    /// Stores at once what a worker leaves, behind all that waits.
    func saveLast(_ savings: [SlotSaving], of id: ConsumerID, now: NIODeadline) {
        flush(now: now, last: (id, savings.map { Waiting(saving: $0) { _ in } }))
    }

    private func flush(now: NIODeadline, last: (id: ConsumerID, savings: [Waiting])? = nil) {
        let waiting = state.withLockedValue { state in
            defer {
                state.waiting = [:]
                state.isScheduled = false
                state.lastFlush = now
            }
            return state.waiting
        }
        var writings = waiting.flatMap { commands($1, of: $0) }
        if let last { writings += commands(last.savings, of: last.id) }
        store.write(writings)
        for (id, waiting) in waiting {
            pool.give(waiting.reduce(0) { $0 + $1.bytes }, for: .tenant(id.tenant))
        }
    }

    private func commands(_ waiting: [Waiting], of id: ConsumerID) -> [EventStore.Writing] {
        stride(from: 0, to: waiting.count, by: Self.slotsMax).map { start in
            let part = waiting[start..<min(start + Self.slotsMax, waiting.count)]
            let change = ConsumerChange(.progress(part.map(\.saving)), of: id)
            return (.change(.consumer(change)), { self.complete(part, $0) })
        }
    }

    private func complete(_ waiting: ArraySlice<Waiting>, _ result: Result<WriteOutcome, MartletError>) {
        switch result {
        case .failure(let error): for one in waiting { one.completion(.failure(error)) }
        case .success(.consumer(.progress(let saved))):
            counters.fenceProgress(saved.count { $0 != .saved })
            for (one, saved) in zip(waiting, saved) { one.completion(.success(saved)) }
        case .success(let outcome):
            let error = outcome.refusal ?? .unexpectedOutcome
            for one in waiting { one.completion(.failure(error)) }
        }
    }
}
