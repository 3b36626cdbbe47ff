import NIOCore

/// Lets one line of a kind into the log in a while, however often there is a reason for one.
struct LogThrottle {
    /// The time between two lines.
    static let interval = TimeAmount.seconds(10)

    private var next: NIODeadline?
    private var suppressed = 0

    /// A line is due.
    /// - Returns: how many were left out since the last one that was written; nil: leave this one out too.
    mutating func admit(now: NIODeadline) -> Int? {
        if let next, now < next {
            suppressed += 1
            return nil
        }
        next = now + Self.interval
        defer { suppressed = 0 }
        return suppressed
    }
}
