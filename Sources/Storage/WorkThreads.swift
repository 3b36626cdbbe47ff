import Foundation
import Glibc

/// Threads that work until their work returns, and the wait for their end.
///
/// A thread lets go of what its work holds (connections, files and their locks) before it counts as ended, so that
/// whoever has waited may open the same file again.
///
/// `@unchecked Sendable`: `condition` guards everything mutable.
package final class WorkThreads: @unchecked Sendable {
    private let condition = NSCondition()
    private var running = 0
    private var onEnd: [@Sendable () -> Void] = []

    package init() {}

    /// What a thread that stands back adds to its nice value: where processors are short, it gets about half of what another
    /// one gets.
    package static let standingBackBy: CInt = 3

    /// Starts a thread, which ends when `work` returns.
    ///
    /// - Parameter standsBack: whether the process's other threads go first where processors are short.
    package func start(name: String, standsBack: Bool = false, _ work: @escaping @Sendable () -> Void) {
        condition.withLock { running += 1 }
        // The thread's closure may outlive the thread's end, so that it holds the work through this alone.
        let box = WorkBox(work)
        let thread = Thread { [self] in
            if standsBack { Self.standBack() }
            box.run()
            for callback in threadEnded() { callback() }
        }
        thread.name = name
        thread.stackSize = 1 << 20
        thread.start()
    }

    /// The nice value of the calling thread: on Linux, each thread has one of its own.
    package static var niceValue: CInt { getpriority(thread, 0) }

    /// Says that priorities are those of threads: 0 is the calling one.
    private static let thread = __priority_which_t(PRIO_PROCESS.rawValue)

    /// A thread may always stand back; only a privileged one may come forward again.
    private static func standBack() { _ = setpriority(thread, 0, niceValue + standingBackBy) }

    /// Waits until no thread runs.
    package func waitForEnd() async {
        await withCheckedContinuation { continuation in
            let isDone = condition.withLock {
                if running > 0 { onEnd.append { continuation.resume() } }
                return running == 0
            }
            if isDone { continuation.resume() }
        }
    }

    /// Blocks until no thread runs; not for tasks, nor for these threads themselves.
    package func blockUntilEnd() {
        condition.withLock {
            while running > 0 { condition.wait() }
        }
    }

    /// - Returns: who waits for the last thread to end, if this was it.
    private func threadEnded() -> [@Sendable () -> Void] {
        condition.withLock {
            running -= 1
            guard running == 0 else { return [] }
            condition.broadcast()
            defer { onEnd = [] }
            return onEnd
        }
    }
}

/// Work that is held until it has run.
///
/// `@unchecked Sendable`: its one thread alone uses it.
private final class WorkBox: @unchecked Sendable {
    private var work: (@Sendable () -> Void)?

    init(_ work: @escaping @Sendable () -> Void) { self.work = work }

    func run() {
        work?()
        work = nil
    }
}
