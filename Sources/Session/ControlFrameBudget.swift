public import MartletModel
public import NIOCore

/// What a peer may send that opens no call: pings, pongs, credit, and calls that are refused. A bucket of
/// `controlFramesMax` frames, which `controlFramesPerSecondMax` fill, and each answer that the server sends.
public struct ControlFrameBudget {
    private let capacity: Int
    private let perSecond: Int
    private var left: Int
    private var filledAt: NIODeadline

    /// A full bucket.
    public init(_ limits: Limits, now: NIODeadline) {
        capacity = limits.controlFramesMax
        perSecond = limits.controlFramesPerSecondMax
        left = limits.controlFramesMax
        filledAt = now
    }

    /// A frame has come.
    /// - Returns: whether it may be looked at.
    public mutating func spend(now: NIODeadline) -> Bool {
        if left == 0 { fill(now: now) }
        guard left > 0 else { return false }
        left -= 1
        return true
    }

    /// The server has sent so many bytes of events, and with them leave for a frame, and for one more in 64 bytes: a client
    /// may grant credit for each event.
    public mutating func earn(bytes: UInt64) {
        left = min(capacity, left + 1 + Int(clamping: bytes / 64))
    }

    private mutating func fill(now: NIODeadline) {
        let frameTime = max(1, 1_000_000_000 / Int64(perSecond))
        let earned = max(0, (now - filledAt).nanoseconds) / frameTime
        guard earned < capacity else {
            left = capacity
            filledAt = now
            return
        }
        // What is left of a frame's time counts next time.
        left += Int(earned)
        filledAt = filledAt + .nanoseconds(earned * frameTime)
    }
}
