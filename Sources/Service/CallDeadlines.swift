import MartletSession
import NIOCore

/// When the open calls of a connection must have ended. One timer serves all of them: it is set for the earliest
/// deadline, and not moved when that call ends in time, which nearly all do.
struct CallDeadlines {
    private var timer: Scheduled<Void>?
    private var timerAt = NIODeadline.distantFuture

    /// Sees to it that `onDue` is called at `deadline`, or before.
    mutating func add(_ deadline: NIODeadline, on eventLoop: any EventLoop, _ onDue: @escaping @Sendable () -> Void) {
        guard deadline < timerAt else { return }
        timer?.cancel()
        timerAt = deadline
        timer = eventLoop.scheduleTask(deadline: deadline, onDue)
    }

    /// The timer has gone off.
    mutating func due() {
        timer = nil
        timerAt = .distantFuture
    }

    mutating func cancel() {
        timer?.cancel()
        due()
    }
}
