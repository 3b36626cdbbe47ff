import MartletModel
public import NIOCore

/// How a consumer's slots deliver.
public struct SlotSettings: Hashable, Sendable {
    /// Events that may be read ahead of the oldest one that is not settled.
    public var windowEventsMax = 4_096
    /// Events that are under way at a time.
    public var inFlightMax = 256
    /// Keys that may be blocked at a time; one more stops the slot.
    public var blockedKeysMax = 1_000
    /// Blocked keys that are tried at a time.
    public var retriedKeysMax = 8
    /// Tries of an event, after which its key is parked.
    public var triesMax: UInt32 = 5
    /// Time within which a delivery is acknowledged.
    public var acknowledgementTimeout = TimeAmount.seconds(30)
    /// Wait before the second try; it doubles with each.
    public var backoffMin = TimeAmount.milliseconds(500)
    /// The longest wait before a try.
    public var backoffMax = TimeAmount.seconds(60)

    /// The defaults.
    public init() {}

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
