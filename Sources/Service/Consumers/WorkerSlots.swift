import MartletConsumers
import MartletModel
import MartletStorage
import NIOCore

/// A slot that a worker has.
final class WorkerSlot {
    let number: Int
    let epoch: UInt64
    var machine: SlotMachine
    /// Which reading of the log it takes part in; nil while it waits for one. See ``SlotRun/join(_:)``.
    weak var run: SlotRun?
    /// Since when it could take a few events that nobody reads for it.
    private var hasRoomSince: NIODeadline?
    /// A key of it is being read.
    var readingKey: StoreTicket?
    /// Events of keys that are tried again, until they are delivered.
    var retried: [ConsumerKey: [Position: RetriedEvent]] = [:]
    /// When its progress was stored last, or it was opened.
    var savedAt: NIODeadline
    /// It waits to be looked at.
    fileprivate var isTouched = false
    /// Those that it is one of; nil when it is so no longer, and what the worker still says of it comes too late.
    fileprivate(set) var owner: WorkerSlots?
    /// Deliveries that are open on the worker's stream.
    var openCount = 0
    /// What is counted of its memory.
    fileprivate var countedBytes = 0
    var isReturning = false
    /// Why it has stopped, as it is kept for who asks; nil until the worker was told.
    var stopReason: String?

    init(number: Int, epoch: UInt64, machine: consuming SlotMachine, now: NIODeadline) {
        self.number = number
        self.epoch = epoch
        self.machine = machine
        savedAt = now
    }

    /// Whether it is to take part in a reading. One that was left behind comes back when it can take more than a few, or
    /// could take a few for a while.
    func wantsRun(_ settings: SlotSettings, now: NIODeadline) -> Bool {
        guard run == nil, !isReturning, machine.hasRoom else {
            hasRoomSince = nil
            return false
        }
        guard machine.underWayCount > settings.inFlightMax / 2 else { return true }
        let since = hasRoomSince ?? now
        hasRoomSince = since
        return now - since >= SlotRuns.patience
    }

    /// Has read on as far as its reading has, over events that are not its own.
    func readOn() {
        guard let end = run?.readTo, machine.readTo.position < end.position else { return }
        machine.take([], scannedTo: end)
    }

    /// Takes part in no reading any more.
    func leaveRun() {
        readOn()
        run?.leave(self)
        run = nil
        hasRoomSince = nil
    }

    /// Forgets events of keys that are not tried any more.
    func dropRetried() {
        for key in retried.keys where !machine.isTried(key) || retried[key]?.isEmpty == true { retried[key] = nil }
    }
}

/// An event of a key that is tried again.
struct RetriedEvent {
    var entry: ByteBuffer
    /// Why an upcaster failed on it; nil where none did.
    var upcastFailure: String? = nil
}

/// The slots of one worker. Used on its event loop.
///
/// A worker may have a thousand slots, and most often one of them has something to do. Whatever happens to a slot touches
/// it, and only slots that were touched are looked at.
final class WorkerSlots {
    /// Whose slots they are.
    weak var worker: ConsumerWorker?
    /// What the worker says is being taken in, and some of it is about them.
    var hasReplies = false
    private(set) var all: [Int: WorkerSlot] = [:]
    private var touchedSlots: [WorkerSlot] = []
    /// How often a slot was looked at.
    private(set) var visits: UInt64 = 0
    private var countedBytes = 0
    private var counts = WorkerCounts()

    subscript(_ number: Int) -> WorkerSlot? { all[number] }

    func add(_ slot: WorkerSlot) {
        all[slot.number] = slot
        slot.owner = self
        counts.slotsAssigned += 1
        touch(slot)
    }

    func remove(_ number: Int) -> WorkerSlot? {
        guard let slot = all.removeValue(forKey: number) else { return nil }
        slot.owner = nil
        countedBytes -= slot.countedBytes
        slot.countedBytes = 0
        counts.slotsLost += 1
        counts.add(slot.machine.takeCounts())
        return slot
    }

    /// None of them is the worker's any more.
    func removeAll() {
        for slot in all.values { slot.owner = nil }
        all = [:]
        touchedSlots = []
    }

    /// What has happened since this was asked last.
    func takeCounts() -> WorkerCounts {
        for slot in all.values { counts.add(slot.machine.takeCounts()) }
        defer { counts = WorkerCounts() }
        return counts
    }

    // MARK: What is to be done

    /// Something happened to the slot: it is looked at in the next turn.
    func touch(_ slot: WorkerSlot) {
        guard !slot.isTouched else { return }
        slot.isTouched = true
        touchedSlots.append(slot)
    }

    /// The slots that were touched.
    var touched: [WorkerSlot] { touchedSlots.filter { all[$0.number] === $0 } }

    /// The slots that were touched, which are looked at now.
    func takeTouched() -> [WorkerSlot] {
        let taken = touched
        for slot in touchedSlots { slot.isTouched = false }
        touchedSlots = []
        visits += UInt64(taken.count)
        return taken
    }

    /// The slot of that number, which is looked at now; nil where the worker no longer has it.
    func visit(_ number: Int) -> WorkerSlot? {
        visits += 1
        return all[number]
    }

    // MARK: Memory

    /// About the memory that it holds, with each slot as it was when it was counted last.
    var bytes: Int { countedBytes }

    /// Counts what the slot holds now.
    func count(_ slot: WorkerSlot) {
        guard all[slot.number] === slot else { return }
        let bytes =
            Self.slotBytes + slot.machine.entryCount * Self.entryBytes + slot.openCount * OpenDeliveries.entryBytes
            + (slot.stopReason?.utf8.count ?? 0)
            + slot.retried.values.joined().reduce(0) { $0 + $1.value.entry.readableBytes + Self.entryBytes }
        countedBytes += bytes - slot.countedBytes
        slot.countedBytes = bytes
    }

    /// A slot without events.
    private static let slotBytes = 1_024
    /// An event in a window, with its key.
    private static let entryBytes = 320

    // MARK: Deliveries

    /// Counts a delivery that has that number on the stream.
    func deliver(
        _ delivery: SlotMachine.Delivery, of slot: WorkerSlot, as number: UInt64
    ) -> ConsumeMessage.Delivery {
        counts.delivered += 1
        if delivery.attempt > 1 { counts.redelivered += 1 }
        touch(slot)
        return ConsumeMessage.Delivery(
            number: number, slot: slot.number, attempt: delivery.attempt, mayBeRepeated: delivery.mayBeRepeated,
            key: delivery.event.key, isKeyBlocked: delivery.isKeyBlocked)
    }

    /// A delivery is settled.
    func acknowledge(_ delivery: UInt64, of slot: WorkerSlot) {
        touch(slot)
        if slot.machine.acknowledge(delivery) == .taken { counts.acknowledged += 1 }
    }

    /// A delivery has failed.
    func reject(
        _ delivery: UInt64, of slot: WorkerSlot, _ failure: WorkerReply.Failure, reason: String,
        now: SlotMachine.Moment
    ) {
        touch(slot)
        let rejection: SlotMachine.Rejection =
            switch failure {
            case .retry(let millis): .retry(after: millis.map { .milliseconds(Int64($0)) })
            case .park: .park
            case .stop: .stop
            }
        if slot.machine.reject(delivery, rejection, reason: reason, now: now) == .taken { counts.add(rejection) }
    }
}

extension WorkerCounts {
    fileprivate mutating func add(_ counts: SlotMachine.Counts) {
        timedOut += counts.timedOut
        keysParked += counts.keysParked
    }

    fileprivate mutating func add(_ rejection: SlotMachine.Rejection) {
        switch rejection {
        case .retry: rejectedToRetry += 1
        case .park: rejectedToPark += 1
        case .stop: rejectedToStop += 1
        }
    }
}

extension SlotMachine.Stop {
    /// What a worker is told; nil where it is told something else.
    var message: String? {
        switch self {
        case .asked(let reason): reason
        case .blockedKeysFull:
            "as many keys are blocked as may be: retry or skip some, or raise blocked_keys_max"
        case .fenced: nil
        }
    }
}
