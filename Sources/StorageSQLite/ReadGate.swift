import Foundation

/// Holds reads of a file back for a moment, so that none is under way while the log is moved to its end.
///
/// `@unchecked Sendable`: `condition` guards everything mutable.
final class ReadGate: @unchecked Sendable {
    private let condition = NSCondition()
    private var isClosed = false
    private var underWay = 0

    /// Whether reads that want to begin wait at this moment.
    var holdsReadsBack: Bool { condition.withLock { isClosed } }

    /// Begins a read, when the gate is open: whoever closes it opens it again in bounded time.
    func enter() {
        condition.withLock {
            while isClosed { condition.wait() }
            underWay += 1
        }
    }

    /// Ends a read.
    func leave() {
        condition.withLock {
            underWay -= 1
            if underWay == 0, isClosed { condition.broadcast() }
        }
    }

    /// Lets no more reads begin.
    func close() { condition.withLock { isClosed = true } }

    func open() {
        condition.withLock {
            isClosed = false
            condition.broadcast()
        }
    }

    /// Waits for the end of the reads that are under way.
    /// - Returns: whether none is.
    func waitForReads(atMost milliseconds: Int) -> Bool {
        let deadline = Date(timeIntervalSinceNow: Double(milliseconds) / 1_000)
        return condition.withLock {
            while underWay > 0 {
                guard condition.wait(until: deadline) else { return underWay == 0 }
            }
            return true
        }
    }
}
