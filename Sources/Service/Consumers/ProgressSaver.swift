import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// Stores how far slots have come, of all consumers together: many rows go into one commit, at most once in a while.
final class ProgressSaver: Sendable {
    typealias Completion = @Sendable (Result<SlotSaved, MartletError>) -> Void

    private struct State {
        var waiting: [ConsumerID: [(saving: SlotSaving, completion: Completion)]] = [:]
        var isScheduled = false
        var lastFlush: NIODeadline?
    }

    /// Slots of one command.
    private static let slotsMax = 256

    private let store: EventStore
    private let interval: TimeAmount
    private let state = NIOLockedValueBox(State())

    init(store: EventStore, limits: Limits) {
        self.store = store
        interval = .milliseconds(Int64(limits.consumerProgressMillis))
    }

    /// Stores a change with those of others, soon.
    /// - Parameter completion: called from any thread.
    func save(
        _ saving: SlotSaving, of id: ConsumerID, on eventLoop: any EventLoop, completion: @escaping Completion
    ) {
        let now = eventLoop.now
        let deadline = state.withLockedValue { state -> NIODeadline? in
            state.waiting[id, default: []].append((saving, completion))
            guard !state.isScheduled else { return nil }
            state.isScheduled = true
            return max(now, state.lastFlush.map { $0 + interval } ?? now)
        }
        guard let deadline else { return }
        guard deadline > now else { return eventLoop.execute { self.flush(now: eventLoop.now) } }
        eventLoop.scheduleTask(deadline: deadline) { self.flush(now: eventLoop.now) }
    }

    /// Stores at once what waits.
    func flush(now: NIODeadline) {
        let waiting = state.withLockedValue { state in
            defer {
                state.waiting = [:]
                state.isScheduled = false
                state.lastFlush = now
            }
            return state.waiting
        }
        for (id, savings) in waiting {
            for start in stride(from: 0, to: savings.count, by: Self.slotsMax) {
                write(savings[start..<min(start + Self.slotsMax, savings.count)], of: id)
            }
        }
    }

    private func write(_ savings: ArraySlice<(saving: SlotSaving, completion: Completion)>, of id: ConsumerID) {
        store.write(.change(.consumer(ConsumerChange(.progress(savings.map(\.saving)), of: id)))) { result in
            switch result {
            case .failure(let error): for (_, completion) in savings { completion(.failure(error)) }
            case .success(.consumer(.progress(let saved))):
                for ((_, completion), saved) in zip(savings, saved) { completion(.success(saved)) }
            case .success(let outcome):
                let error = outcome.refusal ?? .unexpectedOutcome
                for (_, completion) in savings { completion(.failure(error)) }
            }
        }
    }
}
