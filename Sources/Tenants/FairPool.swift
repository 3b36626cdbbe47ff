import DequeModule
public import MartletModel
import NIOConcurrencyHelpers

/// Memory that many share, in bytes, with a dynamic fair share for each holder.
///
/// A holder may have as much as is still free after it takes: one alone gets at most half of the pool, many busy ones
/// share it, and a newcomer finds room. Who finds none waits: holders are served in turn, and the requests of one in
/// the order in which they came.
public final class FairPool: Sendable {
    /// On whose account bytes are.
    public enum Holder: Hashable, Sendable {
        /// A tenant, over all its connections.
        case tenant(TenantID)
        /// One connection of a server without identities.
        case connection(ObjectIdentifier)
    }

    /// Names somebody who waits for room.
    public struct WaitID: Hashable, Sendable {
        fileprivate let holder: Holder
        fileprivate let number: UInt64
    }

    /// What became of a request for bytes.
    public enum Admission: Hashable, Sendable {
        /// They are taken.
        case taken
        /// They will be taken when there is room, and the given closure is called then.
        case waits(WaitID)
    }

    private struct Waiting {
        let number: UInt64
        let bytes: Int
        /// Nil for one who left.
        var granted: (@Sendable () -> Void)?
    }

    /// Who waits of one holder. It stands among the turns exactly as long as it exists.
    private struct Lane {
        var queue: Deque<Waiting> = []
        /// How many of the queue have not left.
        var waitingCount = 0

        /// Where a request waits; numbers grow.
        func index(of number: UInt64) -> Int? {
            var low = 0
            var high = queue.count
            while low < high {
                let middle = (low + high) / 2
                if queue[middle].number < number { low = middle + 1 } else { high = middle }
            }
            return low < queue.count && queue[low].number == number && queue[low].granted != nil ? low : nil
        }

        /// Takes a request out; the places of those who left are given back when they are most of the queue.
        mutating func leave(at index: Int) -> (@Sendable () -> Void)? {
            defer {
                queue[index].granted = nil
                waitingCount -= 1
                if queue.count > 2 * waitingCount + 16 { queue.removeAll { $0.granted == nil } }
            }
            return queue[index].granted
        }

        /// The first who has not left.
        mutating func first() -> Waiting? {
            while let first = queue.first, first.granted == nil { queue.removeFirst() }
            return queue.first
        }

        mutating func removeFirst() {
            queue.removeFirst()
            waitingCount -= 1
        }
    }

    private struct State {
        var held: [Holder: Int] = [:]
        var bytes = 0
        var lanes: [Holder: Lane] = [:]
        /// Holders that have a lane, in the order of their turn.
        var turn: Deque<Holder> = []
        var nextNumber: UInt64 = 1

        /// Whether a request may be taken now, before all of its holder that wait.
        func fits(_ bytes: Int, _ holder: Holder, _ bytesMax: Int) -> Bool {
            let held = held[holder] ?? 0
            let free = bytesMax - self.bytes
            return bytes <= free && (held == 0 || held + bytes <= free)
        }

        mutating func take(_ bytes: Int, _ holder: Holder) {
            held[holder, default: 0] += bytes
            self.bytes += bytes
        }

        func hasWaiting(_ holder: Holder) -> Bool { (lanes[holder]?.waitingCount ?? 0) > 0 }
    }

    /// How many turns one call of ``give(_:for:)`` takes; the next call goes on with those after them.
    private static let turnsAtOnce = 64

    /// The pool's size.
    public let bytesMax: Int
    private let state = NIOLockedValueBox(State())

    /// An empty pool of that size.
    public init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Bytes that are held.
    public var bytes: Int { state.withLockedValue { $0.bytes } }

    /// Bytes that one holder has.
    public func bytes(of holder: Holder) -> Int { state.withLockedValue { $0.held[holder] ?? 0 } }

    /// Takes bytes; false where the holder has its share, or earlier requests of it wait.
    public func take(_ bytes: Int, for holder: Holder) -> Bool {
        state.withLockedValue { state in
            guard !state.hasWaiting(holder), state.fits(bytes, holder, bytesMax) else { return false }
            state.take(bytes, holder)
            return true
        }
    }

    /// Takes bytes, now or when there is room.
    ///
    /// - Precondition: the bytes are at most half of the pool.
    /// - Parameter granted: called once, from any thread, when bytes that were waited for are taken; whoever does not
    ///   need them any more gives them back.
    public func take(_ bytes: Int, for holder: Holder, granted: @escaping @Sendable () -> Void) -> Admission {
        precondition(bytes <= bytesMax / 2, "a request that is never granted")
        return state.withLockedValue { state in
            if !state.hasWaiting(holder), state.fits(bytes, holder, bytesMax) {
                state.take(bytes, holder)
                return .taken
            }
            let number = state.nextNumber
            state.nextNumber += 1
            if state.lanes[holder] == nil { state.turn.append(holder) }
            state.lanes[holder, default: Lane()].queue.append(Waiting(number: number, bytes: bytes, granted: granted))
            state.lanes[holder]?.waitingCount += 1
            return .waits(WaitID(holder: holder, number: number))
        }
    }

    /// Takes bytes that are there already, even beyond the share.
    /// - Returns: whether they were within it.
    public func takeAlways(_ bytes: Int, for holder: Holder) -> Bool {
        state.withLockedValue { state in
            defer { state.take(bytes, holder) }
            return state.fits(bytes, holder, bytesMax)
        }
    }

    /// Gives bytes back; those who waited for them take them.
    public func give(_ bytes: Int, for holder: Holder) {
        guard bytes > 0 else { return }
        let granted = state.withLockedValue { state -> [@Sendable () -> Void] in
            let held = state.held[holder] ?? 0
            precondition(held >= bytes && state.bytes >= bytes, "what is given back was taken before")
            state.held[holder] = held == bytes ? nil : held - bytes
            state.bytes -= bytes
            return grant(&state)
        }
        for tell in granted { tell() }
    }

    /// Waits no longer.
    /// - Returns: false where the bytes are granted already: `granted` is called, or was.
    @discardableResult
    public func stopWaiting(_ id: WaitID) -> Bool {
        let dropped = state.withLockedValue { state -> (@Sendable () -> Void)? in
            guard let index = state.lanes[id.holder]?.index(of: id.number) else { return nil }
            return state.lanes[id.holder]?.leave(at: index)
        }
        // Freed outside the lock.
        return dropped != nil
    }

    private func grant(_ state: inout State) -> [@Sendable () -> Void] {
        var granted: [@Sendable () -> Void] = []
        // Holders that found no room in a row: when all did, there is none for anybody.
        var refusals = 0
        for _ in 0..<Self.turnsAtOnce where refusals < state.turn.count {
            guard let holder = state.turn.popFirst() else { break }
            guard let first = state.lanes[holder]?.first() else {
                state.lanes[holder] = nil
                continue
            }
            state.turn.append(holder)
            guard state.fits(first.bytes, holder, bytesMax), let tell = first.granted else {
                refusals += 1
                continue
            }
            refusals = 0
            state.take(first.bytes, holder)
            state.lanes[holder]?.removeFirst()
            granted.append(tell)
        }
        return granted
    }
}
