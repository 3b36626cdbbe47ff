import MartletModel
import Synchronization

/// When each position was acknowledged, for as many positions as the ring holds: written by those who append, read at
/// each delivery, by all threads without a lock.
final class AcknowledgementTimes: Sendable {
    /// What is known of a position.
    enum Time: Equatable {
        /// It is not acknowledged yet.
        case notYet
        /// It was acknowledged so many microseconds after ``start``.
        case at(UInt64)
        /// Later positions have taken its place.
        case forgotten
    }

    private static let timeBits: UInt64 = 44
    private static let timeMask: UInt64 = 1 << timeBits - 1
    private static let roundMask: UInt64 = 1 << (64 - timeBits) - 1

    /// What times count from.
    let start: Moment
    private let ring: AtomicNumbers
    private let highest = Atomic<UInt64>(0)

    /// - Parameter capacity: positions that are known at a time.
    init(from start: Moment, capacity: Int = 1 << 22) {
        self.start = start
        ring = AtomicNumbers(count: capacity)
    }

    /// The last position that was acknowledged.
    var lastPosition: UInt64 { highest.load(ordering: .relaxed) }

    /// Positions were acknowledged.
    func acknowledged(from first: Position, to last: Position, at now: Moment) {
        guard first <= last else { return }
        // 0 is what an untouched place holds.
        let time = min(now.micros(since: start) + 1, Self.timeMask)
        for position in first.rawValue...last.rawValue {
            let (round, place) = place(position)
            ring[place] = round << Self.timeBits | time
        }
        highest.max(last.rawValue, ordering: .relaxed)
    }

    /// When that position was acknowledged.
    func time(of position: UInt64) -> Time {
        let (round, place) = place(position)
        let value = ring[place]
        if value & Self.timeMask == 0 { return .notYet }
        let stored = value >> Self.timeBits
        if stored == round { return .at(value & Self.timeMask - 1) }
        // Rounds count in a circle: half of it lies ahead, half behind.
        return (stored &- round) & Self.roundMask <= Self.roundMask / 2 ? .forgotten : .notYet
    }

    private func place(_ position: UInt64) -> (round: UInt64, place: Int) {
        let (round, place) = position.quotientAndRemainder(dividingBy: UInt64(ring.count))
        return (round & Self.roundMask, Int(place))
    }
}
