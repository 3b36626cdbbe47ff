import DequeModule
import Foundation
import Logging
import MartletModel

/// Commits what is written in groups: whatever waits while the one commit is under way goes into the next one, in
/// one transaction with one fsync. There is no timer: a command that finds the committer idle is committed
/// at once.
///
/// Each writer of the engine has a thread; a tenant is in one batch at a time. Of tenants that another program has locked
/// (``LockWait``), half of the writers wait at most, and a quarter for those whose lock lasts.
final class GroupCommitter: @unchecked Sendable {
    typealias Completion = @Sendable (Result<WriteOutcome, MartletError>) -> Void

    private typealias Waiting = WriteQueue<Completion>.Waiting

    /// What a writer is to commit.
    private struct Work {
        var batch: [Waiting]
        var lockWait = Duration.zero
        /// Nil where its tenants are not known to be locked.
        var phase: LockPhase?
        /// They are looked at, and not waited for.
        var isLook = false
        /// What takes longer to decide has left it, or is what it is.
        var isParted = false
    }

    // Guarded by `condition`.
    private var queue: WriteQueue<Completion>
    private var isClosed = false
    private var eventsCommitted: UInt64 = 0
    private var writerCount = 0
    /// What writers handed over, because it takes longer to decide than the rest of its batch.
    private var handedOver: Deque<Work> = []
    /// How many writers are at work for tenants that were set aside.
    private var lockWaiters: [LockPhase: Int] = [:]

    private let condition = NSCondition()
    private let threads = WorkThreads()
    private let limits: Limits
    private let clock: Clock
    private let faults: FaultLog
    private let onCommit: @Sendable (RecordedRun) -> Void
    private let onFinding: @Sendable (StorageFinding) -> Void

    /// - Parameter onFinding: called once for each transaction that has written something or has failed.
    init(
        limits: Limits, clock: @escaping Clock, logger: Logger, onCommit: @escaping @Sendable (RecordedRun) -> Void,
        onFinding: @escaping @Sendable (StorageFinding) -> Void = { _ in }
    ) {
        queue = WriteQueue(
            appendBytesMax: limits.waitingAppendBytesMax, changeBytesMax: limits.waitingChangeBytesMax)
        self.limits = limits
        self.clock = clock
        faults = FaultLog(logger)
        self.onCommit = onCommit
        self.onFinding = onFinding
    }

    /// Starts a thread that commits with this writer.
    func start(writer: @escaping @Sendable () -> any StorageWriter) {
        condition.withLock { writerCount += 1 }
        threads.start(name: "commit") { [self] in
            let writer = writer()
            while let work = nextWork() { carryOut(work, with: writer) }
        }
    }

    /// Commits one batch on the calling thread; false where none waits.
    func commitOne(with writer: any StorageWriter) -> Bool {
        guard let work = condition.withLock({ takeWork() }) else { return false }
        carryOut(work, with: writer)
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
            let admission = admit(command, isComplete: isComplete, completion)
            if isComplete { condition.signal() }
            return admission
        }
    }

    /// Adds commands as ``add(_:isComplete:completion:)`` does each, before any of them can be taken.
    func add(
        _ commands: [(command: WriteCommand, isComplete: Bool, completion: Completion)]
    ) -> [Admission] {
        condition.withLock {
            defer { condition.signal() }
            return commands.map { admit($0.command, isComplete: $0.isComplete, $0.completion) }
        }
    }

    /// Under the lock.
    private func admit(_ command: WriteCommand, isComplete: Bool, _ completion: @escaping Completion) -> Admission {
        guard !isClosed else { return .closed }
        guard let (number, asks) = queue.add(command, isComplete: isComplete, ticket: completion) else { return .full }
        return .added(number, asks: asks)
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

    /// Has the next free writer find out whether it can write: it commits an empty batch. What that comes to is told as a
    /// finding; nothing is told by a committer that is closed.
    func probe() {
        condition.withLock {
            guard !isClosed else { return }
            handedOver.append(Work(batch: [], isParted: true))
            condition.signal()
        }
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
                if isClosed, queue.isEmpty {
                    condition.broadcast()
                    return nil
                }
                var dues = LockPhase.allCases.map { mayWait(for: $0) ? queue.nextDue($0) : nil }
                if mayWait(for: .again) { dues.append(queue.nextLookDue) }
                if let due = dues.compactMap({ $0 }).min() {
                    let left = max(.milliseconds(1), due - .now)
                    _ = condition.wait(until: Date(timeIntervalSinceNow: left / .seconds(1)))
                } else {
                    condition.wait()
                }
            }
        }
    }

    /// What is to be committed next; nil where nothing can be. Under the lock.
    private func takeWork() -> Work? {
        guard let work = handedOver.popFirst() ?? takeLocked() ?? takeNext() else { return nil }
        // Another writer may take what other tenants still have waiting, and looks after those that are set aside.
        if queue.hasWork || queue.hasLocked || !handedOver.isEmpty { condition.signal() }
        return work
    }

    private func takeNext() -> Work? {
        guard queue.hasWork else { return nil }
        let batch = queue.take(rowsMax: limits.commitEventsMax, bytesMax: limits.commitBytesMax)
        return batch.isEmpty ? nil : Work(batch: batch)
    }

    private func takeLocked() -> Work? {
        guard queue.hasLocked else { return nil }
        let now = ContinuousClock.now
        if mayWait(for: .again) {
            let batch = queue.takeLook(rowsMax: limits.commitEventsMax, bytesMax: limits.commitBytesMax, at: now)
            if !batch.isEmpty {
                lockWaiters[.again, default: 0] += 1
                return Work(batch: batch, phase: .again, isLook: true)
            }
        }
        for phase in LockPhase.allCases where mayWait(for: phase) {
            guard
                let (batch, wait) = queue.takeLocked(
                    phase, rowsMax: limits.commitEventsMax, bytesMax: limits.commitBytesMax, at: now)
            else { continue }
            lockWaiters[phase, default: 0] += 1
            // The only writer does not wait, but looks whether the lock has gone.
            return Work(batch: batch, lockWait: writerCount > 1 ? wait : .zero, phase: phase)
        }
        return nil
    }

    /// Whether one writer more may take what tenants of that phase have waiting.
    private func mayWait(for phase: LockPhase) -> Bool {
        let all = lockWaiters.values.reduce(0, +)
        guard all < max(1, writerCount / 2) else { return false }
        return phase != .lasting || lockWaiters[.lasting, default: 0] < max(1, writerCount / 4)
    }

    /// So many transactions a batch is tried in at most: more than it takes to find one tenant among those of the largest.
    private static let attemptsMax = 32

    private func carryOut(_ work: Work, with writer: any StorageWriter) {
        var attemptsLeft = Self.attemptsMax
        carryOut(work, with: writer, &attemptsLeft)
        guard let phase = work.phase else { return }
        condition.withLock {
            lockWaiters[phase, default: 0] -= 1
            condition.signal()
        }
    }

    /// What one tenant's data is like must not fail what others write: where it may be why, halves of the tenants follow.
    private func carryOut(_ work: Work, with writer: any StorageWriter, _ attemptsLeft: inout Int) {
        attemptsLeft -= 1
        var work = work
        let result = commit(&work, with: writer)
        let batch = work.batch
        // Those that are waited for together are waited for one by one next.
        guard case .failure(let error) = result, attemptsLeft > 1, error.concernsOneTenant,
            error.kind != .locked || work.phase == nil || work.isLook
        else { return finish(work, result) }
        let tenants = Set(batch.map(\.command.tenant))
        guard tenants.count > 1 else { return finish(work, result) }
        let first = Set(tenants.prefix(tenants.count / 2))
        var half = work
        half.batch = batch.filter { first.contains($0.command.tenant) }
        carryOut(half, with: writer, &attemptsLeft)
        half.batch = batch.filter { !first.contains($0.command.tenant) }
        if attemptsLeft > 0 {
            carryOut(half, with: writer, &attemptsLeft)
        } else {
            finish(half, result)
        }
    }

    private func commit(_ work: inout Work, with writer: any StorageWriter) -> Result<CommitResult, StorageError> {
        do throws(StorageError) {
            let result = try commitOnce(&work, with: writer)
            precondition(result.outcomes.count == work.batch.count, "an engine answers every command of a batch")
            for run in result.runs { onCommit(run) }
            if work.batch.isEmpty {
                onFinding(.probed(.writes, nil))
            } else if !result.runs.isEmpty {
                onFinding(.worked(.writes))
            }
            return .success(result)
        } catch {
            onFinding(work.batch.isEmpty ? .probed(.writes, error.kind) : .failed(.writes, error.kind))
            if error.kind != .locked { faults.note("commit failed", error, calls: work.batch.count) }
            return .failure(error)
        }
    }

    private func commitOnce(_ work: inout Work, with writer: any StorageWriter) throws(StorageError) -> CommitResult {
        let commands = work.batch.map(\.command)
        guard !work.isParted, work.phase == nil else {
            return try writer.commit(commands, now: clock(), lockWait: work.lockWait)
        }
        // Halves of what fails are not parted once more.
        work.isParted = true
        return try writer.commit(commands, now: clock()) { indices in
            let slow = Work(batch: indices.map { work.batch[$0] }, isParted: true)
            let left = Set(work.batch.indices).subtracting(indices).sorted()
            work.batch = left.map { work.batch[$0] }
            condition.withLock {
                handedOver.append(slow)
                condition.signal()
            }
        }
    }

    private func finish(_ work: Work, _ result: Result<CommitResult, StorageError>) {
        let batch = work.batch
        let lockedTenants: Set<TenantID>
        switch result {
        case .success(let done): lockedTenants = done.lockedTenants
        case .failure(let error): lockedTenants = error.kind == .locked ? Set(batch.map(\.command.tenant)) : []
        }
        guard lockedTenants.isEmpty else { return finish(work, result, without: lockedTenants) }
        condition.withLock {
            if case .success(let done) = result { count(done) }
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

    private func count(_ done: CommitResult) {
        eventsCommitted += UInt64(done.runs.reduce(0) { $0 + $1.events.count })
    }

    /// Sets aside what is locked of a batch, and answers the rest.
    private func finish(
        _ work: Work, _ result: Result<CommitResult, StorageError>, without tenants: Set<TenantID>
    ) {
        let batch = work.batch
        let locked = batch.filter { tenants.contains($0.command.tenant) }
        var error = StorageError.tenantLocked
        var answered: [(waiting: Waiting, outcome: WriteOutcome)] = []
        switch result {
        case .success(let done):
            answered = zip(batch, done.outcomes).filter { !tenants.contains($0.0.command.tenant) }
        case .failure(let failure): error = failure
        }
        let leaving = condition.withLock { () -> [Waiting] in
            defer { condition.signal() }
            if case .success(let done) = result { count(done) }
            queue.finish(answered.map(\.waiting))
            // Where it was not waited for, the other part of the batch may have been set aside before.
            return queue.setAside(locked, at: .now, isLook: work.isLook || work.phase == nil)
        }
        for (waiting, outcome) in answered { waiting.ticket(.success(outcome)) }
        guard !leaving.isEmpty else { return }
        faults.note("a tenant stays locked", error, calls: leaving.count)
        for waiting in leaving { waiting.ticket(.failure(MartletError(error))) }
    }
}

extension StorageError {
    /// Nothing was written, and what is stored or asked of one tenant may be why.
    fileprivate var concernsOneTenant: Bool { kind == .corrupted || kind == .full || kind == .locked }
}

extension Limits {
    /// Changes that wait or are being carried out, over all tenants: a quarter of the room that appends have.
    var waitingChangeBytesMax: Int { waitingAppendBytesMax / 4 }
}
