import NIOCore

/// The connections of one event loop whose frames wait for a turn. One has its turn at a time, and between two turns the loop
/// looks after its sockets: it carries out tasks that are due before that, and the turns of two connections could keep
/// one another due for ever.
public final class FrameTurns: Sendable {
    private static let pauseTime = TimeAmount.microseconds(50)

    private let eventLoop: any EventLoop
    private let waiting: NIOLoopBoundBox<CircularBuffer<() -> Void>>

    /// Those of the event loop that this is called on.
    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        waiting = NIOLoopBoundBox([], eventLoop: eventLoop)
    }

    /// Calls `turn` when those that wait already have had their turns. On the event loop; a connection waits for one turn at
    /// a time.
    public func await(_ turn: @escaping () -> Void) {
        waiting.value.append(turn)
        if waiting.value.count == 1 { schedule() }
    }

    private func schedule() {
        eventLoop.scheduleTask(in: Self.pauseTime) {
            // It stays there while it has its turn, so that nobody schedules another.
            self.waiting.value.first?()
            self.waiting.value.removeFirst()
            if !self.waiting.value.isEmpty { self.schedule() }
        }
    }
}
