import DequeModule
import MartletConsumers
import MartletModel
import NIOCore

/// A worker's stream, and what all that is delivered on it shares: its credit, the numbers of the deliveries, and the order in
/// which the workers of many tenants' consumers deliver. Used on its event loop.
///
/// Each of these gets a turn of ``turnBytes``, then it is another one's. One that finds no credit, or a socket that takes
/// nothing, keeps its place and what is left of its turn; until all that wait have had their turn, no other delivers.
final class WorkerStream {
    /// What one worker delivers before it is another one's turn.
    static let turnBytes = 64 << 10

    let handle: CallHandle
    var deliveries = OpenDeliveries()
    private var creditBytes: UInt64
    /// The peer was told that the next event needs so much.
    private var toldBytes: Int?
    private var lastHeard: NIODeadline
    /// A worker has ended, for that reason.
    private let onEnd: (ConsumerWorker, MartletError) -> Void

    /// Whether it is over many tenants.
    private let isShared: Bool
    /// Workers that have something to do.
    private var due: Deque<ConsumerWorker> = []
    /// Workers that have something to deliver, and could not.
    private var waiting: Deque<ConsumerWorker> = []
    /// The first of them needs more credit than there is.
    private var isShort = false
    private var isServing = false
    private var turnLeft = 0
    /// The socket takes more, as of the turn's begin or what was sent last: only that changes it meanwhile.
    private var isWritable = false
    /// The worker whose turn it is has more to deliver, perhaps, and that there was no credit for.
    private var isCut = false
    private var isCutByCredit = false

    init(
        _ handle: CallHandle, creditBytes: UInt64, isShared: Bool,
        onEnd: @escaping (ConsumerWorker, MartletError) -> Void
    ) {
        self.handle = handle
        self.creditBytes = creditBytes
        self.isShared = isShared
        self.onEnd = onEnd
        lastHeard = handle.eventLoop.now
    }

    // MARK: What the peer says

    /// The peer grants so much more.
    func addCredit(_ bytes: UInt64) {
        let (sum, isTooMuch) = creditBytes.addingReportingOverflow(bytes)
        creditBytes = isTooMuch ? .max : sum
        isShort = false
    }

    /// Takes in what the peer says of deliveries.
    /// - Returns: the workers whose slots it is about.
    /// - Throws: `NEVER_DELIVERED`.
    func take(_ replies: [WorkerReply], now: SlotMachine.Moment) throws(MartletError) -> [ConsumerWorker] {
        lastHeard = now.uptime
        var touched: [WorkerSlots] = []
        func slots(of slot: WorkerSlot) -> WorkerSlots? {
            guard let slots = slot.owner else { return nil }
            if !slots.hasReplies {
                slots.hasReplies = true
                touched.append(slots)
            }
            return slots
        }
        defer { for slots in touched { slots.hasReplies = false } }
        for reply in replies {
            switch reply {
            case .alive: break
            case .acknowledge(let number, let upTo):
                try deliveries.takeOff(number, upTo: upTo) { slot, delivery in
                    slots(of: slot)?.acknowledge(delivery, of: slot)
                }
            case .reject(let number, let failure, let reason):
                try deliveries.takeOff(number) { slot, delivery in
                    slots(of: slot)?.reject(delivery, of: slot, failure, reason: reason, now: now)
                }
            }
        }
        return touched.compactMap(\.worker)
    }

    /// Whether nothing was heard of the peer for as long as a worker may be silent.
    func isSilent(_ now: NIODeadline) -> Bool {
        now - lastHeard >= .milliseconds(Int64(handle.limits.consumerLeaseMillis))
    }

    // MARK: What workers send

    func send(_ message: ConsumeMessage, of tenant: TenantID) {
        handle.send(isShared ? .consumeOf(tenant, message) : .consume(message))
        isWritable = handle.isWritable
    }

    /// A worker cannot go on.
    func ended(_ worker: ConsumerWorker, _ error: MartletError) { onEnd(worker, error) }

    /// Whether the worker whose turn it is may deliver. Where it may not, it gets another turn.
    var mayDeliver: Bool {
        guard isShared else { return isWritable }
        if turnLeft > 0, isWritable { return true }
        isCut = true
        return false
    }

    /// Whether the peer has granted that much.
    func has(credit bytes: Int) -> Bool {
        if UInt64(bytes) <= creditBytes { return true }
        (isCut, isCutByCredit) = (true, true)
        return false
    }

    /// Whether the peer is to be told that the next event needs so much: once.
    func isToTell(of bytes: Int) -> Bool {
        defer { toldBytes = bytes }
        return toldBytes != bytes
    }

    /// An event of so many bytes is delivered.
    func take(_ bytes: Int) {
        creditBytes -= min(creditBytes, UInt64(bytes))
        turnLeft -= bytes
        toldBytes = nil
    }

    // MARK: Whose turn it is

    /// A worker has something to do.
    func pump(_ worker: ConsumerWorker) {
        guard isShared else {
            isWritable = handle.isWritable
            return worker.takeTurn()
        }
        if !worker.isDue {
            worker.isDue = true
            due.append(worker)
        }
        serve()
    }

    /// Lets workers go on, those that wait in their order.
    func serve() {
        guard isShared, !isServing else { return }
        isServing = true
        defer { isServing = false }
        while handle.isOpen {
            if let worker = due.popFirst() {
                worker.isDue = false
                serve(worker, mayDeliver: waiting.isEmpty)
            } else if !isShort, handle.isWritable, let worker = waiting.popFirst() {
                worker.isWaiting = false
                serve(worker, mayDeliver: true)
            } else {
                return
            }
        }
    }

    private func serve(_ worker: ConsumerWorker, mayDeliver: Bool) {
        turnLeft = mayDeliver ? worker.turnLeft ?? Self.turnBytes : 0
        (isCut, isCutByCredit) = (false, false)
        isWritable = handle.isWritable
        worker.takeTurn()
        defer { turnLeft = 0 }
        if mayDeliver { worker.turnLeft = nil }
        guard isCut, !worker.isWaiting, worker.isWorking else { return }
        worker.isWaiting = true
        guard turnLeft > 0 else { return waiting.append(worker) }
        worker.turnLeft = turnLeft
        isShort = isCutByCredit
        waiting.prepend(worker)
    }

    /// A worker has left: nobody waits behind it.
    func forget(_ worker: ConsumerWorker) {
        guard worker.isWaiting else { return }
        waiting.removeAll { $0 === worker }
        worker.isWaiting = false
        isShort = false
    }
}
