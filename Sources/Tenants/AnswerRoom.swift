import DequeModule
public import MartletModel
public import NIOCore

/// How much one connection's calls read at once: what is being read for it, and not sent yet. Bound to an event loop.
///
/// One call may always read. Further ones wait their turn while that is beyond the window: a connection that has
/// thousand calls open has no use of a thousand answers at once.
public final class ReadWindow {
    /// The window.
    package static let bytesMax = 2 << 20

    /// One who waits.
    package final class Waiting {
        fileprivate let bytes: Int
        fileprivate var wake: (() -> Void)?

        fileprivate init(_ bytes: Int, _ wake: @escaping () -> Void) {
            self.bytes = bytes
            self.wake = wake
        }
    }

    private var bytes = 0
    private var queue: Deque<Waiting> = []
    private var leftCount = 0
    private var isWaking = false

    /// The window of a connection that reads nothing yet.
    public init() {}

    private func fits(_ bytes: Int) -> Bool { self.bytes == 0 || self.bytes + bytes <= Self.bytesMax }

    /// Enters with this many bytes; nil where it does, otherwise who waits, and is woken to try again.
    package func enter(_ bytes: Int, wake: @escaping () -> Void) -> Waiting? {
        if isWaking || queue.count == leftCount, fits(bytes) {
            self.bytes += bytes
            return nil
        }
        let waiting = Waiting(bytes, wake)
        queue.append(waiting)
        return waiting
    }

    /// Leaves with this many bytes; those who waited for them enter in turn.
    package func leave(_ bytes: Int) {
        self.bytes -= bytes
        // Whoever is woken may leave again at once: the loop that wakes goes on.
        guard !isWaking else { return }
        isWaking = true
        defer { isWaking = false }
        while let next = queue.first {
            guard let wake = next.wake else {
                queue.removeFirst()
                leftCount -= 1
                continue
            }
            guard fits(next.bytes) else { return }
            queue.removeFirst()
            next.wake = nil
            wake()
        }
    }

    /// Waits no longer.
    package func stop(_ waiting: Waiting) {
        guard waiting.wake != nil else { return }
        waiting.wake = nil
        leftCount += 1
        if leftCount * 2 > queue.count + 16 {
            queue.removeAll { $0.wake == nil }
            leftCount = 0
        }
    }
}

/// Room for an answer, taken before storage is read for it: in the connection's window, and in the pool of outbound bytes.
/// Bound to an event loop.
public final class AnswerRoom {
    private enum State {
        case none
        case waitsForWindow(ReadWindow.Waiting)
        case waitsForPool(FairPool.WaitID)
        case held
    }

    private let pool: FairPool
    private let window: ReadWindow
    private let holder: FairPool.Holder
    private let eventLoop: any EventLoop
    private var state = State.none
    private var bytes = 0
    private var extraBytes = 0
    private var granted: (() -> Void)?
    /// Requests that were given up while their grant was on its way, the latest first.
    private var abandoned: [Int] = []

    /// Room on a tenant's account, for a connection with that window on that event loop.
    public init(pool: FairPool, window: ReadWindow, tenant: TenantID, eventLoop: any EventLoop) {
        self.pool = pool
        self.window = window
        holder = .tenant(tenant)
        self.eventLoop = eventLoop
    }

    /// Whether nothing is held or waited for.
    public var isFree: Bool { if case .none = state { true } else { false } }

    /// What a storage thread takes more room by, where an answer is larger than was thought.
    public var extra: ExtraRoom { ExtraRoom(pool: pool, holder: holder, heldBytes: bytes) }

    /// Takes room for this many bytes, at most half of the pool.
    ///
    /// - Parameter granted: called on the event loop when there is room, if there is none now.
    /// - Returns: whether it is held already.
    public func take(_ bytes: Int, granted: @escaping () -> Void) -> Bool {
        guard case .none = state else { preconditionFailure("room is taken once before it is given back") }
        self.bytes = min(bytes, pool.bytesMax / 2)
        return enter(granted)
    }

    private func enter(_ granted: @escaping () -> Void) -> Bool {
        let waiting = window.enter(bytes, wake: { [weak self] in self?.windowIsOpen() })
        if let waiting {
            state = .waitsForWindow(waiting)
            self.granted = granted
            return false
        }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        switch pool.take(bytes, for: holder, granted: { bound.eventLoop.execute { bound.value.poolHasRoom() } }) {
        case .taken:
            state = .held
            return true
        case .waits(let id):
            state = .waitsForPool(id)
            self.granted = granted
            return false
        }
    }

    private func windowIsOpen() {
        guard case .waitsForWindow = state, let granted else { return }
        state = .none
        self.granted = nil
        if enter(granted) { granted() }
    }

    private func poolHasRoom() {
        if let bytes = abandoned.popLast() { return pool.give(bytes, for: holder) }
        guard case .waitsForPool = state else { preconditionFailure("room is granted to one who waits") }
        state = .held
        let granted = granted
        self.granted = nil
        granted?()
    }

    /// A storage thread took more: it is given back with the rest.
    public func adopt(_ bytes: Int) { extraBytes += bytes }

    /// Gives the room back, or waits for none any longer.
    public func give() {
        let given = state
        state = .none
        granted = nil
        switch given {
        case .none: return
        case .waitsForWindow(let waiting): return window.stop(waiting)
        case .held:
            pool.give(bytes + extraBytes, for: holder)
            extraBytes = 0
        case .waitsForPool(let id):
            // Where it was granted at this moment, the grant finds that nobody waits and gives back.
            if !pool.stopWaiting(id) { abandoned.insert(bytes, at: 0) }
        }
        window.leave(bytes)
    }
}

/// Takes more room for an answer, on a storage thread.
public struct ExtraRoom: Sendable {
    fileprivate let pool: FairPool
    fileprivate let holder: FairPool.Holder
    fileprivate let heldBytes: Int

    /// Takes what an answer of so many bytes needs beyond what is held.
    /// - Returns: how much that was; nil where there is no room: the answer is to be dropped.
    public func take(for bytes: Int) -> Int? {
        guard bytes > heldBytes else { return 0 }
        return pool.take(bytes - heldBytes, for: holder) ? bytes - heldBytes : nil
    }
}
