import MartletModel
import NIOCore

extension SlotSettings {
    /// Events of blocked keys that are under way at a time: a part of all, so that live ones go on.
    var retriedInFlightMax: Int { max(1, inFlightMax / 4) }

    /// Until when a key is blocked whose first event failed in that try.
    func until(_ rejection: SlotMachine.Rejection, tries: UInt32, now: Timestamp) -> BlockedKey.Until {
        guard case .retry(let after) = rejection, tries < triesMax else { return .asked }
        let delay = max(.zero, after ?? backoff(tries: tries)).nanoseconds / 1_000
        let (micros, isTooFar) = now.microseconds.addingReportingOverflow(delay)
        return .retry(at: Timestamp(microseconds: isTooFar ? .max : micros))
    }

    private func backoff(tries: UInt32) -> TimeAmount {
        let (nanos, isTooLong) = backoffMin.nanoseconds.multipliedReportingOverflow(by: 1 << min(tries - 1, 62))
        return isTooLong ? backoffMax : min(backoffMax, .nanoseconds(nanos))
    }
}

extension BlockedKey {
    /// When it is tried by itself; nil where somebody has to ask for it.
    var due: Timestamp? { if case .retry(let at) = until { at } else { nil } }
}
