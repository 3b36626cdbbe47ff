import Foundation
import Logging
import MartletModel

/// Commits appends in groups: whatever waits while the one commit is under way goes into the next one, in
/// one transaction with one fsync. There is no timer: an append that finds the committer idle is committed
/// at once.
///
/// Each writer of the engine has a thread; a tenant is in one batch at a time. Changes beside the events are carried
/// out one by one between batches, in turn with them: they wait in a lane for each tenant, one of which is under way at
/// a time.
final class GroupCommitter: @unchecked Sendable {
    typealias Completion = @Sendable (Result<AppendOutcome, StorageError>) -> Void

    typealias ChangeCompletion = @Sendable (Result<TenantChangeOutcome, StorageError>) -> Void

    private struct WaitingChange {
        var change: TenantChange
        var completion: ChangeCompletion
    }

    private enum Work {
        case batch([AppendQueue<Completion>.Waiting])
        case change(FairLanes<WaitingChange>.Taken)
    }

    /// What a change costs at least: a small transaction.
    private static let changeCostMinNanos: UInt64 = 100_000

    // Guarded by `condition`.
    private var queue: AppendQueue<Completion>
    private var changes: FairLanes<WaitingChange>
    private var isChangeNext = false
    private var isClosed = false
    private var eventsCommitted: UInt64 = 0

    private let condition = NSCondition()
    private let threads = WorkThreads()
    private let limits: Limits
    private let clock: Clock
    private let uptimeNanos: @Sendable () -> UInt64
    private let faults: FaultLog
    private let onCommit: @Sendable (RecordedRun) -> Void

    init(
        limits: Limits, clock: @escaping Clock, uptimeNanos: @escaping @Sendable () -> UInt64 = { 0 }, logger: Logger,
        onCommit: @escaping @Sendable (RecordedRun) -> Void
    ) {
        queue = AppendQueue(bytesMax: limits.waitingAppendBytesMax)
        changes = FairLanes(
            sizeMax: limits.waitingChangeBytesMax, takenPerTenantMax: 1, costMin: Self.changeCostMinNanos)
        self.uptimeNanos = uptimeNanos
        self.limits = limits
        self.clock = clock
        faults = FaultLog(logger)
        self.onCommit = onCommit
    }

    /// Starts a thread that commits with this writer.
    func start(writer: @escaping @Sendable () -> any StorageWriter) {
        threads.start(name: "commit") { [self] in commitBatches(with: writer()) }
    }

    /// Commits one batch, or carries out one change, on the calling thread; false where none waits.
    func commitOne(with writer: any StorageWriter) -> Bool {
        guard let work = condition.withLock({ takeWork() }) else { return false }
        carryOut(work, with: writer)
        return true
    }

    /// Bytes that wait, or are being committed.
    var waitingBytes: Int { condition.withLock { queue.bytes + changes.size } }

    /// Events committed since the start.
    var committedEventCount: UInt64 { condition.withLock { eventsCommitted } }

    /// What became of a call that was to be added.
    enum Admission: Hashable {
        /// Under that number.
        case added(UInt64)
        /// There is no room.
        case full
        case closed
    }

    /// Adds a call; `completion` is called on a commit thread.
    func add(_ request: AppendRequest, completion: @escaping Completion) -> Admission {
        condition.withLock {
            guard !isClosed else { return .closed }
            guard let number = queue.add(request, ticket: completion) else { return .full }
            condition.signal()
            return .added(number)
        }
    }

    /// Adds a change; `completion` is called on a commit thread.
    func add(_ change: TenantChange, completion: @escaping ChangeCompletion) -> Admission {
        // The largest goes in where nothing else is.
        let bytes = min(change.contentBytes + 512, limits.waitingChangeBytesMax)
        return condition.withLock {
            guard !isClosed else { return .closed }
            let waiting = WaitingChange(change: change, completion: completion)
            guard let number = changes.add(waiting, of: change.tenant, size: bytes) else { return .full }
            condition.signal()
            return .added(number)
        }
    }

    /// Takes out an append that is in no batch yet: its completion is not called. False where it is.
    func removeAppend(_ number: UInt64, of tenant: TenantID) -> Bool {
        // What the call holds is freed outside the lock.
        let waiting = condition.withLock {
            defer { if isClosed { condition.broadcast() } }
            return queue.remove(number, of: tenant)
        }
        return waiting != nil
    }

    /// Takes out a change that has not begun: its completion is not called. False where it has.
    func removeChange(_ number: UInt64, of tenant: TenantID) -> Bool {
        let waiting = condition.withLock {
            defer { if isClosed { condition.broadcast() } }
            return changes.remove(number, of: tenant)
        }
        return waiting != nil
    }

    /// Takes no more calls, commits what waits, then ends the threads.
    func close() async {
        condition.withLock {
            isClosed = true
            condition.broadcast()
        }
        await threads.waitForEnd()
    }

    private func nextWork() -> Work? {
        condition.withLock {
            while true {
                if let work = takeWork() { return work }
                if isClosed, queue.isEmpty, changes.isEmpty {
                    condition.broadcast()
                    return nil
                }
                condition.wait()
            }
        }
    }

    /// What is to be done next, batches and changes in turn; nil where nothing can be. Under the lock.
    private func takeWork() -> Work? {
        guard queue.hasWork || changes.hasWork else { return nil }
        // Another writer may take what other tenants still have waiting.
        defer { if queue.hasWork || changes.hasWork { condition.signal() } }
        if isChangeNext || !queue.hasWork, let change = changes.take() {
            isChangeNext = false
            return .change(change)
        }
        isChangeNext = true
        return .batch(queue.take(eventsMax: limits.commitEventsMax, bytesMax: limits.commitBytesMax))
    }

    private func commitBatches(with writer: any StorageWriter) {
        while let work = nextWork() { carryOut(work, with: writer) }
    }

    private func carryOut(_ work: Work, with writer: any StorageWriter) {
        switch work {
        case .batch(let batch): commit(batch, with: writer)
        case .change(let waiting): apply(waiting, with: writer)
        }
    }

    private func commit(_ batch: [AppendQueue<Completion>.Waiting], with writer: any StorageWriter) {
        let outcome: Result<[AppendOutcome], StorageError>
        var eventCount = 0
        do throws(StorageError) {
            let result = try writer.commit(batch.map(\.request), now: clock())
            precondition(result.outcomes.count == batch.count, "an engine answers every call of a batch")
            for run in result.runs {
                eventCount += run.events.count
                onCommit(run)
            }
            outcome = .success(result.outcomes)
        } catch {
            faults.note("commit failed", error, calls: batch.count)
            outcome = .failure(error)
        }
        condition.withLock {
            eventsCommitted += UInt64(eventCount)
            queue.finish(batch)
            if queue.hasWork { condition.signal() }
        }
        switch outcome {
        case .success(let outcomes): for index in batch.indices { batch[index].ticket(.success(outcomes[index])) }
        case .failure(let error): for waiting in batch { waiting.ticket(.failure(error)) }
        }
    }

    private func apply(_ taken: FairLanes<WaitingChange>.Taken, with writer: any StorageWriter) {
        let start = uptimeNanos()
        let result: Result<TenantChangeOutcome, StorageError>
        do throws(StorageError) {
            result = .success(try writer.apply(taken.element.change, now: clock()))
        } catch {
            faults.note("change failed", error)
            result = .failure(error)
        }
        let end = uptimeNanos()
        condition.withLock {
            changes.finish(taken, cost: end > start ? end - start : 0)
            if changes.hasWork { condition.signal() }
        }
        taken.element.completion(result)
    }
}

extension Limits {
    /// Changes that wait or are being carried out, over all tenants: a quarter of the room that appends have.
    var waitingChangeBytesMax: Int { waitingAppendBytesMax / 4 }
}
