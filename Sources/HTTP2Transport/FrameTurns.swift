import NIOCore
import Synchronization

/// The connections of each event loop whose frames wait for a turn. One has its turn at a time, and between two turns the
/// loop looks after its sockets: it carries out tasks that are due before that, and the turns of two connections could keep
/// one another due for ever.
enum FrameTurns {
    private struct Queue {
        weak var eventLoop: (any EventLoop)?
        var waiting: CircularBuffer<NIOLoopBound<HTTP2FrameGuard>> = []
    }

    private static let pauseTime = TimeAmount.microseconds(50)
    /// Of event loops that have some.
    private static let queues = Mutex<[ObjectIdentifier: Queue]>([:])

    /// Calls ``HTTP2FrameGuard/takeTurn()`` when those that wait already have had their turns. On the event loop.
    static func await(_ frameGuard: HTTP2FrameGuard, on eventLoop: any EventLoop) {
        let bound = NIOLoopBound(frameGuard, eventLoop: eventLoop)
        let id = ObjectIdentifier(eventLoop)
        let isFirst = queues.withLock { queues in
            if queues[id]?.eventLoop != nil {
                queues[id]?.waiting.append(bound)
                return false
            }
            queues[id] = Queue(eventLoop: eventLoop, waiting: [bound])
            return true
        }
        if isFirst { schedule(eventLoop) }
    }

    private static func schedule(_ eventLoop: any EventLoop) {
        let id = ObjectIdentifier(eventLoop)
        eventLoop.scheduleTask(in: pauseTime) {
            let next = queues.withLock { queues in
                queues[id]?.waiting.isEmpty == false ? queues[id]?.waiting.removeFirst() : nil
            }
            next?.value.takeTurn()
            let isOver = queues.withLock { queues in
                guard queues[id]?.waiting.isEmpty != false else { return false }
                queues[id] = nil
                return true
            }
            if !isOver { schedule(eventLoop) }
        }
    }
}
