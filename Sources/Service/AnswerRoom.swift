import MartletModel
import MartletTenants
import NIOCore

/// Room for an answer in the pool of outbound bytes, taken before storage is read for it. Bound to an event loop.
final class AnswerRoom {
    private enum State {
        case none
        case waits(FairPool.WaitID)
        case held
    }

    private let pool: FairPool
    private let holder: FairPool.Holder
    private let eventLoop: any EventLoop
    private var state = State.none
    private var bytes = 0
    private var granted: (() -> Void)?
    /// Requests that were given up while their grant was on its way, the latest first.
    private var abandoned: [Int] = []

    init(pool: FairPool, tenant: TenantID, eventLoop: any EventLoop) {
        self.pool = pool
        holder = .tenant(tenant)
        self.eventLoop = eventLoop
    }

    /// Whether nothing is held or waited for.
    var isFree: Bool { if case .none = state { true } else { false } }

    /// Takes room for so many bytes.
    ///
    /// - Parameter granted: called on the event loop when there is room, if there is none now.
    /// - Returns: whether it is held already.
    func take(_ bytes: Int, granted: @escaping () -> Void) -> Bool {
        guard case .none = state else { preconditionFailure("room is taken once before it is given back") }
        self.bytes = min(bytes, pool.bytesMax / 2)
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        switch pool.take(self.bytes, for: holder, granted: { bound.eventLoop.execute { bound.value.wasGranted() } }) {
        case .taken:
            state = .held
            return true
        case .waits(let id):
            state = .waits(id)
            self.granted = granted
            return false
        }
    }

    private func wasGranted() {
        if abandoned.popLast().map({ pool.give($0, for: holder) }) != nil { return }
        guard case .waits = state else { preconditionFailure("room is granted to one who waits") }
        state = .held
        let granted = granted
        self.granted = nil
        granted?()
    }

    /// Gives the room back, or waits for none any longer.
    func give() {
        switch state {
        case .none: return
        case .held: pool.give(bytes, for: holder)
        case .waits(let id):
            // Where it was granted at this moment, the grant finds that nobody waits and gives back.
            if !pool.stopWaiting(id) { abandoned.insert(bytes, at: 0) }
        }
        state = .none
        granted = nil
    }
}
