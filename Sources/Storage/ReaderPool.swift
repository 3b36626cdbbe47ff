import DequeModule
import Foundation
import MartletModel

/// Threads that read, each with a reader of its own. Reads wait in one queue, bounded in count.
final class ReaderPool: @unchecked Sendable {
    /// Called on a reader's thread; nil when the pool is closed before the read's turn.
    typealias Job = @Sendable ((any StorageReader)?) -> Void

    // Guarded by `condition`.
    private var jobs: Deque<Job> = []
    private var isClosed = false
    private var runningThreads = 0
    private var onClosed: [@Sendable () -> Void] = []

    private let condition = NSCondition()
    private let waitingMax: Int

    init(waitingMax: Int) { self.waitingMax = waitingMax }

    /// Starts a thread that reads with this reader.
    func start(reader: @escaping @Sendable () -> any StorageReader) {
        condition.withLock { runningThreads += 1 }
        let thread = Thread { [self] in
            // The reader is gone, and its connection closed, before anybody hears that the pool is.
            runJobs(with: reader())
            for callback in threadEnded() { callback() }
        }
        thread.name = "read"
        thread.stackSize = 1 << 20
        thread.start()
    }

    /// What became of a read that was to be added.
    enum Admission {
        case added
        /// Too many wait.
        case full
        case closed
    }

    /// Adds a read.
    func add(_ job: @escaping Job) -> Admission {
        condition.withLock {
            guard !isClosed else { return .closed }
            guard jobs.count < waitingMax else { return .full }
            jobs.append(job)
            condition.signal()
            return .added
        }
    }

    /// Takes no more reads, refuses those that wait, then ends the threads.
    func close() async {
        let waiting = condition.withLock {
            isClosed = true
            condition.broadcast()
            defer { jobs = [] }
            return jobs
        }
        for job in waiting { job(nil) }
        await withCheckedContinuation { continuation in
            let isDone = condition.withLock {
                if runningThreads > 0 { onClosed.append { continuation.resume() } }
                return runningThreads == 0
            }
            if isDone { continuation.resume() }
        }
    }

    private func nextJob() -> Job? {
        condition.withLock {
            while jobs.isEmpty, !isClosed { condition.wait() }
            return jobs.popFirst()
        }
    }

    private func runJobs(with reader: any StorageReader) {
        while let job = nextJob() { job(reader) }
    }

    /// - Returns: who waits for the last thread to end, if this was it.
    private func threadEnded() -> [@Sendable () -> Void] {
        condition.withLock {
            runningThreads -= 1
            guard runningThreads == 0 else { return [] }
            defer { onClosed = [] }
            return onClosed
        }
    }
}
