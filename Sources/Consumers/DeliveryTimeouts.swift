import DequeModule
import NIOCore

/// When the deliveries of a slot are to be acknowledged; those of about the same time have one entry together.
struct DeliveryTimeouts {
    private let timeout: TimeAmount
    /// Of deliveries up to a number.
    private var entries: Deque<(at: NIODeadline, number: UInt64)> = []

    init(_ timeout: TimeAmount) { self.timeout = timeout }

    /// Notes a delivery, which is later than all before: found at most a sixteenth of the time-out too late.
    mutating func add(_ number: UInt64, now: NIODeadline) {
        if let last = entries.last, now + timeout <= last.at {
            entries[entries.count - 1].number = number
        } else {
            entries.append((now + timeout + .nanoseconds(timeout.nanoseconds / 16), number))
        }
    }

    /// A number up to which the time of all deliveries is over; nil where there is no more.
    mutating func nextDue(now: NIODeadline) -> UInt64? {
        guard let first = entries.first, first.at <= now else { return nil }
        return entries.removeFirst().number
    }
}
