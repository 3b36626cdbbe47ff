import MartletStorage
import NIOCore

/// Whether a storage can be read, or written: decided by what calls find out, and by probes. Does no I/O and reads no
/// clock: whoever drives it makes the probes that it asks for, and tells it when a pause is over.
///
/// A call that failed is a reason to probe, and no more than that: one lost connection is no outage. The probe decides.
/// Only a storage that is full is believed at once, since a probe may be small enough to find room.
///
/// While storage fails, there is one probe for each pause. A pause is also how long a change lasts at least, and pauses
/// get longer while changes follow each other, so that whoever follows them is told of few.
struct StorageStanding {
    /// What is to be done.
    enum Action: Hashable {
        /// Probe, and tell ``probed(_:)``.
        case probe
        /// Wait that long, and call ``pauseEnded()``.
        case pause(TimeAmount)
    }

    /// What a probe found.
    enum Outcome: Hashable {
        case well
        case failed
        /// There was no place for it.
        case refused
    }

    private enum Phase: Hashable {
        /// All is well, and nothing is looked into.
        case quiet
        /// A probe is under way; `isFull` where storage was found to be full since it began.
        case probing(isFull: Bool)
        /// `isDoubted` where something failed since the last probe, `hasWorked` where something worked since it failed.
        case pausing(isDoubted: Bool, hasWorked: Bool)
    }

    static let pauseMin = TimeAmount.seconds(1)
    static let pauseMax = TimeAmount.seconds(16)

    /// Whether the storage can be used.
    private(set) var isWell = true
    private var phase = Phase.quiet
    private var pause = pauseMin
    private var nextPause = pauseMin

    /// Nothing that works is news.
    var isQuiet: Bool { phase == .quiet }

    /// A call failed, with what may concern the whole storage.
    mutating func failed(isFull: Bool) -> Action? {
        if isFull { fail() }
        switch phase {
        case .quiet where isFull: return rest(isDoubted: true)
        case .quiet:
            phase = .probing(isFull: false)
            return .probe
        case .probing(let wasFull): phase = .probing(isFull: wasFull || isFull)
        case .pausing: phase = .pausing(isDoubted: true, hasWorked: false)
        }
        return nil
    }

    /// A call was carried out.
    mutating func worked() {
        if case .pausing(isDoubted: true, hasWorked: false) = phase {
            phase = .pausing(isDoubted: true, hasWorked: true)
        }
    }

    /// The pause is over.
    mutating func pauseEnded() -> Action? {
        switch phase {
        case .quiet, .probing: return nil
        case .pausing(isDoubted: false, _):
            phase = .quiet
            pause = Self.pauseMin
            nextPause = Self.pauseMin
            return nil
        case .pausing(isDoubted: true, hasWorked: true):
            isWell = true
            return rest(isDoubted: false)
        case .pausing(isDoubted: true, hasWorked: false):
            phase = .probing(isFull: false)
            return .probe
        }
    }

    /// The probe is over.
    mutating func probed(_ outcome: Outcome) -> Action? {
        guard case .probing(let isFull) = phase else { return nil }
        switch outcome {
        case .well where isFull: return rest(isDoubted: true)
        case .well:
            isWell = true
            return rest(isDoubted: false)
        case .failed:
            fail()
            return rest(isDoubted: true)
        case .refused: return rest(isDoubted: true)
        }
    }

    private mutating func fail() {
        guard isWell else { return }
        isWell = false
        pause = nextPause
        nextPause = min(nextPause * 2, Self.pauseMax)
    }

    private mutating func rest(isDoubted: Bool) -> Action {
        phase = .pausing(isDoubted: isDoubted, hasWorked: false)
        return .pause(pause)
    }
}
