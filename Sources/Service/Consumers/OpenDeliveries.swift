import MartletCollections
import MartletConsumers
import MartletModel

/// The deliveries of a worker's stream that the worker has said nothing of yet, by their numbers. Used on its event loop.
struct OpenDeliveries {
    private struct Open {
        let slot: WorkerSlot
        /// Of the slot's machine.
        let number: UInt64
    }

    /// What one takes in memory, about.
    static let entryBytes = 64
    private static let idleRepliesMax: UInt64 = 10_000

    private var open = NumberedQueue<Open>()
    /// All up to it were settled at once, by the last such reply.
    private var settledTo: UInt64 = 0
    private var lastNumber: UInt64 = 0
    /// Replies that changed nothing: no more than there were deliveries, and some.
    private var idleReplies: UInt64 = 0

    /// Numbers a delivery of a slot.
    mutating func add(_ number: UInt64, of slot: WorkerSlot) -> UInt64 {
        lastNumber += 1
        open.append(Open(slot: slot, number: number), number: lastNumber)
        slot.openCount += 1
        return lastNumber
    }

    /// Forgets the deliveries of a slot that the worker no longer has.
    mutating func forget(_ slot: WorkerSlot) {
        guard slot.openCount > 0 else { return }
        open.removeAll { $1.slot === slot }
        slot.openCount = 0
    }

    /// Forgets the deliveries of all those slots.
    mutating func forget(_ slots: WorkerSlots) {
        guard slots.all.values.contains(where: { $0.openCount > 0 }) else { return }
        open.removeAll { $1.slot.owner === slots }
    }

    /// Forgets deliveries that were taken back: whatever the worker still says of them comes too late.
    mutating func forgetTakenBack(of slot: WorkerSlot) {
        open.removeAll { $1.slot === slot && !slot.machine.isUnderWay($1.number) }
        slot.openCount = slot.machine.underWayCount
    }

    /// Takes off one delivery, or all up to that number.
    ///
    /// - Parameter body: called with each that was open: its slot, and its number in the slot's machine.
    /// - Throws: `NEVER_DELIVERED` for what was not delivered, or where the worker says the same too often.
    mutating func takeOff(
        _ number: UInt64, upTo: Bool = false, _ body: (WorkerSlot, UInt64) -> Void
    ) throws(MartletError) {
        try check(number)
        guard upTo else {
            guard let delivery = open.remove(number) else { return try countIdle() }
            return settle(delivery, body)
        }
        guard number > settledTo else { return try countIdle() }
        settledTo = number
        while let first = open.firstNumber, first <= number, let delivery = open.popFirst() { settle(delivery, body) }
    }

    private func settle(_ delivery: Open, _ body: (WorkerSlot, UInt64) -> Void) {
        delivery.slot.openCount -= 1
        body(delivery.slot, delivery.number)
    }

    private func check(_ number: UInt64) throws(MartletError) {
        guard number >= 1, number <= lastNumber else {
            throw MartletError(
                .invalidArgument, reason: .neverDelivered,
                message: "delivery \(number) was never made on this stream: its last one is \(lastNumber)")
        }
    }

    private mutating func countIdle() throws(MartletError) {
        idleReplies += 1
        guard idleReplies > lastNumber + Self.idleRepliesMax else { return }
        throw MartletError(
            .invalidArgument, reason: .neverDelivered,
            message: "\(idleReplies) replies on this stream were about deliveries that are settled: say of each "
                + "delivery once what became of it")
    }
}
