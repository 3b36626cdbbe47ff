import Foundation
import Logging
import MartletModel

/// Commits what is written in groups: whatever waits while the one commit is under way goes into the next one, in
/// one transaction with one fsync. There is no timer: a command that finds the committer idle is committed
/// at once.
///
/// Each writer of the engine has a thread; a tenant is in one batch at a time.
final class GroupCommitter: @unchecked Sendable {
    typealias Completion = @Sendable (Result<WriteOutcome, MartletError>) -> Void

    private typealias Waiting = WriteQueue<Completion>.Waiting

    // Guarded by `condition`.
    private var queue: WriteQueue<Completion>
    private var isClosed = false
    private var eventsCommitted: UInt64 = 0

    private let condition = NSCondition()
    private let threads = WorkThreads()
    private let limits: Limits
    private let clock: Clock
    private let faults: FaultLog
    private let onCommit: @Sendable (RecordedRun) -> Void

    init(
        limits: Limits, clock: @escaping Clock, logger: Logger, onCommit: @escaping @Sendable (RecordedRun) -> Void
    ) {
        queue = WriteQueue(
            appendBytesMax: limits.waitingAppendBytesMax, changeBytesMax: limits.waitingChangeBytesMax)
        self.limits = limits
        self.clock = clock
        faults = FaultLog(logger)
        self.onCommit = onCommit
    }

    /// Starts a thread that commits with this writer.
    func start(writer: @escaping @Sendable () -> any StorageWriter) {
        threads.start(name: "commit") { [self] in
            let writer = writer()
            while let batch = nextBatch() { carryOut(batch, with: writer) }
        }
    }

    /// Commits one batch on the calling thread; false where none waits.
    func commitOne(with writer: any StorageWriter) -> Bool {
        guard let batch = condition.withLock({ takeBatch() }) else { return false }
        carryOut(batch, with: writer)
        return true
    }

    /// Bytes that wait, or are being committed.
    var waitingBytes: Int { condition.withLock { queue.bytes } }

    /// Events committed since the start.
    var committedEventCount: UInt64 { condition.withLock { eventsCommitted } }

    /// What became of a command that was to be added.
    enum Admission: Hashable {
        /// Under that number. What completes the tenant's commands is to be asked for, and told to ``complete(_:_:)``.
        case added(UInt64, asks: Bool)
        /// There is no room.
        case full
        case closed
    }

    /// Adds a command; `completion` is called on a commit thread.
    /// - Parameter isComplete: false where ``complete(_:_:)`` is to make it so.
    func add(_ command: WriteCommand, isComplete: Bool = true, completion: @escaping Completion) -> Admission {
        condition.withLock {
            guard !isClosed else { return .closed }
            guard let (number, asks) = queue.add(command, isComplete: isComplete, ticket: completion) else {
                return .full
            }
            if isComplete { condition.signal() }
            return .added(number, asks: asks)
        }
    }

    /// Completes what a tenant has waiting, or says why that cannot be done: then only what needs no completion goes on.
    func complete(_ tenant: TenantID, _ result: Result<CommandCompletion, MartletError>) {
        let left = condition.withLock {
            defer { if isClosed { condition.broadcast() } else { condition.signal() } }
            return queue.complete(tenant) { command in
                switch result {
                case .success(let completion): completion(command)
                case .failure: command.isDecidedWithoutRules ? command : nil
                }
            }
        }
        guard case .failure(let error) = result else { return }
        for waiting in left { waiting.ticket(.failure(error)) }
    }

    /// Takes out a command that is in no batch yet: its completion is not called. False where it is.
    func remove(_ number: UInt64, of tenant: TenantID) -> Bool {
        // What the call holds is freed outside the lock.
        let waiting = condition.withLock {
            defer { if isClosed { condition.broadcast() } }
            return queue.remove(number, of: tenant)
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

    private func nextBatch() -> [Waiting]? {
        condition.withLock {
            while true {
                if let batch = takeBatch() { return batch }
                if isClosed, queue.isEmpty {
                    condition.broadcast()
                    return nil
                }
                condition.wait()
            }
        }
    }

    /// What is to be committed next; nil where nothing can be. Under the lock.
    private func takeBatch() -> [Waiting]? {
        guard queue.hasWork else { return nil }
        // Another writer may take what other tenants still have waiting.
        defer { if queue.hasWork { condition.signal() } }
        let batch = queue.take(rowsMax: limits.commitEventsMax, bytesMax: limits.commitBytesMax)
        return batch.isEmpty ? nil : batch
    }

    /// So many transactions a batch is tried in at most: more than it takes to find one tenant among those of the largest.
    private static let attemptsMax = 32

    private func carryOut(_ batch: [Waiting], with writer: any StorageWriter) {
        var attemptsLeft = Self.attemptsMax
        carryOut(batch, with: writer, &attemptsLeft)
    }

    /// What one tenant's data is like must not fail what others write: where it may be why, halves of the tenants follow.
    private func carryOut(_ batch: [Waiting], with writer: any StorageWriter, _ attemptsLeft: inout Int) {
        attemptsLeft -= 1
        let result = commit(batch, with: writer)
        guard case .failure(let error) = result, error.concernsOneTenant, attemptsLeft > 1 else {
            return finish(batch, result)
        }
        let tenants = Set(batch.map(\.command.tenant))
        guard tenants.count > 1 else { return finish(batch, result) }
        let first = Set(tenants.prefix(tenants.count / 2))
        carryOut(batch.filter { first.contains($0.command.tenant) }, with: writer, &attemptsLeft)
        let rest = batch.filter { !first.contains($0.command.tenant) }
        if attemptsLeft > 0 { carryOut(rest, with: writer, &attemptsLeft) } else { finish(rest, result) }
    }

    private func commit(
        _ batch: [Waiting], with writer: any StorageWriter
    ) -> Result<CommitResult, StorageError> {
        do throws(StorageError) {
            let result = try writer.commit(batch.map(\.command), now: clock())
            precondition(result.outcomes.count == batch.count, "an engine answers every command of a batch")
            for run in result.runs { onCommit(run) }
            return .success(result)
        } catch {
            faults.note("commit failed", error, calls: batch.count)
            return .failure(error)
        }
    }

    private func finish(_ batch: [Waiting], _ result: Result<CommitResult, StorageError>) {
        condition.withLock {
            if case .success(let done) = result {
                eventsCommitted += UInt64(done.runs.reduce(0) { $0 + $1.events.count })
            }
            queue.finish(batch)
            if queue.hasWork { condition.signal() }
        }
        switch result {
        case .success(let done): for index in batch.indices { batch[index].ticket(.success(done.outcomes[index])) }
        case .failure(let error):
            let error = MartletError(error)
            for waiting in batch { waiting.ticket(.failure(error)) }
        }
    }
}

extension StorageError {
    /// Nothing was written, and what is stored or asked of one tenant may be why.
    fileprivate var concernsOneTenant: Bool { kind == .corrupted || kind == .full }
}

extension Limits {
    /// Changes that wait or are being carried out, over all tenants: a quarter of the room that appends have.
    var waitingChangeBytesMax: Int { waitingAppendBytesMax / 4 }
}
