import Foundation

/// A few threads for tasks that block, so that they do not hold up the even fewer threads that all tasks share.
///
/// `@unchecked Sendable`: the condition guards the jobs.
public final class BlockingExecutor: TaskExecutor, @unchecked Sendable {
    /// That of all tests which drive an engine by hand.
    public static let shared = BlockingExecutor(threads: 3)

    private let condition = NSCondition()
    private var jobs: [UnownedJob] = []

    private init(threads: Int) {
        for _ in 0..<threads {
            let thread = Thread { [self] in
                while true { unsafe next().runSynchronously(on: asUnownedTaskExecutor()) }
            }
            thread.stackSize = 2 << 20
            thread.start()
        }
    }

    /// Adds a job to those that wait.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        condition.withLock {
            jobs.append(job)
            condition.signal()
        }
    }

    private func next() -> UnownedJob {
        condition.withLock {
            while jobs.isEmpty { condition.wait() }
            return jobs.removeFirst()
        }
    }
}
