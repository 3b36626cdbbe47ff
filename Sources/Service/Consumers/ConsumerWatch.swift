import MartletModel
import MartletQueries
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// Looks how far consumers have come, for all who wait for one together: one read of a consumer at a time, however many wait.
final class ConsumerWatch: Sendable {
    typealias Completion = @Sendable (Result<Position, MartletError>) -> Void

    private struct Waiter {
        let position: Position
        let completion: Completion
    }

    private struct State {
        /// Who waits for consumers; of each of these, a read is under way or will be.
        var waiting: [ConsumerID: [UInt64: Waiter]] = [:]
        var lastNumber: UInt64 = 0
    }

    private let store: EventStore
    private let limits: Limits
    private let state = NIOLockedValueBox(State())

    init(store: EventStore, limits: Limits) {
        self.store = store
        self.limits = limits
    }

    /// Waits until everything of the consumer up to that position is settled, or belongs to a blocked key.
    ///
    /// - Parameter completion: called once, from any thread, with how far it has come; not after ``cancel(_:of:)``.
    /// - Returns: what to cancel it by.
    func wait(
        for id: ConsumerID, to position: Position, on eventLoop: any EventLoop, completion: @escaping Completion
    ) -> UInt64 {
        let (number, isFirst) = state.withLockedValue { state in
            state.lastNumber += 1
            let isFirst = state.waiting[id] == nil
            state.waiting[id, default: [:]][state.lastNumber] = Waiter(position: position, completion: completion)
            return (state.lastNumber, isFirst)
        }
        if isFirst { look(at: id, on: eventLoop) }
        return number
    }

    /// Nobody waits under that number any more.
    func cancel(_ number: UInt64, of id: ConsumerID) {
        state.withLockedValue { state in _ = state.waiting[id]?.removeValue(forKey: number) }
    }

    private func look(at id: ConsumerID, on eventLoop: any EventLoop) {
        let furthest = state.withLockedValue { state -> Position? in
            let furthest = state.waiting[id]?.values.map(\.position).max()
            if furthest == nil { state.waiting[id] = nil }
            return furthest
        }
        guard let furthest else { return }
        let limits = limits
        store.read(for: id.tenant) { reader throws(StorageError) in
            try Self.settledTo(furthest, of: id, limits, reader: reader)
        } completion: { [self] result in
            looked(at: id, result.flatMap { $0 }, on: eventLoop)
        }
    }

    private func looked(at id: ConsumerID, _ result: Result<Position, MartletError>, on eventLoop: any EventLoop) {
        let (done, isOver) = state.withLockedValue { state -> ([Waiter], Bool) in
            let waiters = state.waiting[id] ?? [:]
            let left: [UInt64: Waiter]
            switch result {
            case .success(let settled): left = waiters.filter { $0.value.position > settled }
            case .failure(let error) where error.isRetryable: left = waiters
            case .failure: left = [:]
            }
            // Who comes when nobody is left is the first again.
            state.waiting[id] = left.isEmpty ? nil : left
            return (waiters.filter { left[$0.key] == nil }.map(\.value), left.isEmpty)
        }
        for waiter in done { waiter.completion(result) }
        guard !isOver else { return }
        // What is stored moves that often.
        eventLoop.scheduleTask(in: .milliseconds(Int64(limits.consumerProgressMillis))) {
            self.look(at: id, on: eventLoop)
        }
    }

    private static func settledTo(
        _ furthest: Position, of id: ConsumerID, _ limits: Limits, reader: any StorageReader
    ) throws(StorageError) -> Result<Position, MartletError> {
        guard let group = try reader.group(id) else { return .failure(.consumerNotFound) }
        let definition: ConsumerDefinition
        do throws(MartletError) { definition = try ConsumerDefinition(document: group.consumer.document) } catch {
            return .failure(error)
        }
        let head = try reader.head(of: id.tenant).position
        return .success(
            try ConsumerBacklog.find(
                of: group, definition, id, to: min(head, furthest), scanMax: limits.pageScanEventsMax,
                bytesMax: limits.pageBytesMax, reader: reader
            ).settledTo)
    }
}
