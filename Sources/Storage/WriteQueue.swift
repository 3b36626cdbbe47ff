import DequeModule
import MartletCollections
import MartletModel

/// What waits to be written: a queue a tenant, served in turn.
///
/// Bounded in bytes over all tenants, appends and changes each, with a dynamic share for each tenant: it may wait with as
/// many bytes as are still free, so that one alone gets half of the room, many busy ones share it, and a newcomer always
/// finds some. What is taken stays on the account until it is finished, so that the bound is one on memory.
///
/// A tenant is in one batch at a time: its commands commit in the order in which they came. A batch may be finished in parts;
/// what the tenant has waiting is taken after the last of them. One that is not complete holds up those behind it, until ``complete(_:_:)``. A tenant that another program has locked is set aside with all that it has
/// waiting, and is taken by ``takeLocked(_:rowsMax:bytesMax:at:)`` and ``takeLook(rowsMax:bytesMax:at:)`` alone until it has
/// committed.
struct WriteQueue<Ticket> {
    struct Waiting {
        fileprivate(set) var number: UInt64
        var command: WriteCommand
        /// What it takes of the queue's account: memory that it keeps.
        var bytes: Int
        /// What it takes of a batch: bytes that are written.
        var batchBytes: Int
        var ticket: Ticket
        /// It may be decided as it is.
        var isComplete: Bool
    }

    /// What one tenant has waiting. A class, so that it is changed in place wherever it is held.
    private final class Lane {
        let tenant: TenantID
        var waiting = NumberedQueue<Waiting>()
        var appendBytes = 0
        var changeBytes = 0
        /// How many of its commands are in a batch.
        var takenCount = 0
        /// It is among those whose turn it may be, or among those that are set aside.
        var isInTurn = false
        /// Nil where it is not set aside.
        var lock: LockedTenant?
        /// What completes its commands is on its way.
        var isAsked = false
        /// It is among the lanes that a finished batch was taken from.
        var isListed = false

        init(_ tenant: TenantID) { self.tenant = tenant }

        var isTaken: Bool { takenCount > 0 }
    }

    private let appendBytesMax: Int
    private let changeBytesMax: Int
    private var lanes: [TenantID: Lane] = [:]
    /// Tenants that have something waiting that is complete, and are in no batch, in the order of their turn.
    private var turn: Deque<Lane> = []
    /// How many lanes in `turn` have nothing waiting any more.
    private var staleTurns = 0
    /// Tenants that are set aside, in the order in which they are due; those among them that have nothing waiting any more.
    private var locked: [LockPhase: Deque<Lane>] = [:]
    /// When the look at those that are waited for one by one began; nil where all have been looked at.
    private var lookBegan: ContinuousClock.Instant?
    /// When the next one may begin; nil for at once.
    private var nextLook: ContinuousClock.Instant?
    private var lastNumber: UInt64 = 0
    private var appendBytes = 0
    private var changeBytes = 0

    /// What a command costs beside what it carries: its place in the queue and in the batch.
    private static var overheadBytes: Int { 512 }

    init(appendBytesMax: Int, changeBytesMax: Int) {
        self.appendBytesMax = appendBytesMax
        self.changeBytesMax = changeBytesMax
    }

    /// What all that waits, and all that is taken, takes.
    var bytes: Int { appendBytes + changeBytes }

    /// Whether something waits that a batch may take now.
    var hasWork: Bool { turn.count > staleTurns }

    /// Whether nothing waits and nothing is taken.
    var isEmpty: Bool { lanes.isEmpty }

    /// Places that it holds for calls and for turns, those among them that were left.
    var placeCount: Int {
        lanes.values.reduce(turn.count + locked.values.reduce(0) { $0 + $1.count }) { $0 + $1.waiting.placeCount }
    }

    /// Adds a command.
    /// - Returns: its number, larger than all before it, and whether what completes its tenant's commands is to be asked for;
    ///   nil where there is no room for it.
    mutating func add(
        _ command: WriteCommand, isComplete: Bool = true, ticket: Ticket
    ) -> (number: UInt64, asks: Bool)? {
        let isAppend = command.isAppend
        let known = lanes[command.tenant]
        let room = isAppend ? appendBytesMax - appendBytes : changeBytesMax - changeBytes
        let own = isAppend ? known?.appendBytes ?? 0 : known?.changeBytes ?? 0
        let overhead = Self.overheadBytes * (1 + command.rowCount)
        let batchBytes = command.contentBytes + overhead
        // The largest change goes in where nothing else is, and so does an append in the largest buffer.
        let cost =
            isAppend
            ? max(batchBytes, min(command.heldBytes + overhead, appendBytesMax)) : min(batchBytes, changeBytesMax)
        let isEmpty = room == (isAppend ? appendBytesMax : changeBytesMax)
        guard own + cost <= room || (isEmpty && cost <= room) else { return nil }
        let lane: Lane
        if let known {
            lane = known
        } else {
            lane = Lane(command.tenant)
            lanes[command.tenant] = lane
        }
        lastNumber += 1
        let waiting = Waiting(
            number: lastNumber, command: command, bytes: cost, batchBytes: batchBytes, ticket: ticket,
            isComplete: isComplete)
        lane.waiting.append(waiting, number: lastNumber)
        count(waiting, 1, lane)
        lineUp(lane)
        let asks = !isComplete && !lane.isAsked
        if asks { lane.isAsked = true }
        return (lastNumber, asks)
    }

    /// Gives a tenant its place in turn, where it has something that may be taken and no place yet.
    private mutating func lineUp(_ lane: Lane) {
        guard !lane.isTaken, !lane.isInTurn, lane.waiting.first?.isComplete == true else { return }
        lane.isInTurn = true
        guard let lock = lane.lock else { return turn.append(lane) }
        // Most often it is the last.
        let before = locked[lock.phase]?.lastIndex { $0.lock.map { $0.due <= lock.due } ?? true }
        locked[lock.phase, default: []].insert(lane, at: before.map { $0 + 1 } ?? 0)
    }

    /// Completes the commands of a tenant that wait for that.
    /// - Parameter body: what becomes of one; nil where it cannot be completed, and leaves.
    /// - Returns: those that leave.
    mutating func complete(_ tenant: TenantID, _ body: (WriteCommand) -> WriteCommand?) -> [Waiting] {
        guard let lane = lanes[tenant], lane.isAsked else { return [] }
        lane.isAsked = false
        var leaving: [UInt64] = []
        lane.waiting.updateAll { number, waiting in
            guard !waiting.isComplete else { return }
            guard let command = body(waiting.command) else { return leaving.append(number) }
            waiting.command = command
            waiting.isComplete = true
        }
        let left = leaving.compactMap { remove($0, of: tenant) }
        lineUp(lane)
        return left
    }

    /// Puts a command on the accounts (1), or takes it off (-1).
    private mutating func count(_ waiting: Waiting, _ sign: Int, _ lane: Lane?) {
        if waiting.command.isAppend {
            appendBytes += sign * waiting.bytes
            lane?.appendBytes += sign * waiting.bytes
        } else {
            changeBytes += sign * waiting.bytes
            lane?.changeBytes += sign * waiting.bytes
        }
    }

    /// Takes out a command that is in no batch yet; nil where it is, or was. What it took is free at once.
    mutating func remove(_ number: UInt64, of tenant: TenantID) -> Waiting? {
        guard let lane = lanes[tenant], let waiting = lane.waiting.remove(number) else { return nil }
        count(waiting, -1, lane)
        guard lane.waiting.isEmpty else {
            lineUp(lane)
            return waiting
        }
        guard !lane.isTaken else { return waiting }
        // Its place in turn is passed over; a tenant that comes again gets a new one.
        lanes[tenant] = nil
        guard lane.isInTurn else { return waiting }
        if let lock = lane.lock {
            tidyLocked(lock.phase)
            return waiting
        }
        staleTurns += 1
        if turn.count > 2 * (turn.count - staleTurns) + 16 {
            turn.removeAll { $0.waiting.isEmpty }
            staleTurns = 0
        }
        return waiting
    }

    /// Takes a batch: a command of each tenant in turn, then the next of each, until the bounds; at least one, where any may
    /// be taken. Those of one tenant are in order.
    mutating func take(rowsMax: Int, bytesMax: Int) -> [Waiting] {
        var batch: [Waiting] = []
        var rows = 0
        var bytes = 0
        staleTurns = 0
        var passed: Deque<Lane> = []
        while let lane = turn.popFirst() {
            lane.isInTurn = false
            guard let next = lane.waiting.first, next.isComplete else { continue }
            let count = next.command.rowCount
            let isFull = rows + count > rowsMax || bytes + next.batchBytes > bytesMax
            if isFull, !batch.isEmpty {
                if !lane.isTaken {
                    lane.isInTurn = true
                    passed.append(lane)
                }
                continue
            }
            _ = lane.waiting.popFirst()
            lane.takenCount += 1
            rows += count
            bytes += next.batchBytes
            batch.append(next)
            if !lane.waiting.isEmpty { turn.append(lane) }
        }
        // Its room is kept where nobody was passed over.
        if !passed.isEmpty { turn = passed }
        return batch
    }

    /// A batch, or a part of one, has been dealt with: none of its tenants is locked any more.
    mutating func finish(_ batch: [Waiting]) {
        end(batch) { lane, _ in
            lane.lock = nil
            return false
        }
    }

    /// Ends that a batch, or a part of one, is taken, and says of each of its commands whether it waits on.
    private mutating func end(_ batch: [Waiting], waitsOn: (Lane, Waiting) -> Bool) {
        var touched: [Lane] = []
        var last: Lane?
        // Backwards: what waits on is put back one before the other.
        for waiting in batch.reversed() {
            if last?.tenant != waiting.command.tenant { last = lanes[waiting.command.tenant] }
            guard let lane = last else {
                count(waiting, -1, nil)
                continue
            }
            if !lane.isListed {
                lane.isListed = true
                touched.append(lane)
            }
            lane.takenCount -= 1
            if waitsOn(lane, waiting) {
                lane.waiting.putBack(waiting, number: waiting.number)
            } else {
                count(waiting, -1, lane)
            }
        }
        for lane in touched.reversed() {
            lane.isListed = false
            guard !lane.isTaken else { continue }
            if lane.waiting.isEmpty { lanes[lane.tenant] = nil } else { lineUp(lane) }
        }
    }

    // MARK: Locked tenants

    /// Sets the tenants of a batch aside: another program has locked them.
    /// - Parameter isLook: they were looked at, and not waited for.
    /// - Returns: all commands that wait of tenants that have been locked for too long; they leave.
    mutating func setAside(_ batch: [Waiting], at now: ContinuousClock.Instant, isLook: Bool = false) -> [Waiting] {
        var rest: [Waiting] = []
        for tenant in Set(batch.map(\.command.tenant)) {
            guard let lane = lanes[tenant] else { continue }
            if isLook, lane.lock != nil {
                lane.lock?.note(seenAt: now)
            } else {
                lane.lock = LockedTenant(after: lane.lock, at: now)
            }
            guard lane.lock?.isOverdue(at: now) == true else { continue }
            while let next = lane.waiting.first, next.isComplete {
                _ = lane.waiting.popFirst()
                count(next, -1, lane)
                rest.append(next)
            }
        }
        var leaving: [Waiting] = []
        end(batch) { lane, waiting in
            guard lane.lock?.isOverdue(at: now) != false else { return true }
            leaving.append(waiting)
            return false
        }
        return leaving.reversed() + rest
    }

    /// Whether a tenant is set aside and not taken.
    var hasLocked: Bool { locked.values.contains { !$0.isEmpty } }

    /// When the next tenant that is set aside may be taken; nil where none is in that phase.
    func nextDue(_ phase: LockPhase) -> ContinuousClock.Instant? { locked[phase]?.first?.lock?.due }

    /// When ``takeLook(rowsMax:bytesMax:at:)`` may find something; nil where nothing is to be looked at.
    var nextLookDue: ContinuousClock.Instant? {
        let due = Self.lookedAt.compactMap { nextDue($0) }.min()
        return due.map { due in nextLook.map { max($0, due) } ?? due }
    }

    /// Those that are waited for one by one: it may take long until it is their turn.
    private static var lookedAt: [LockPhase] { [.again, .lasting] }

    /// Takes the first command of each tenant that is due and is waited for alone, so that all are looked at together: those
    /// whose lock has gone go on, and those that have been locked for too long are found. Each is looked at once, then none
    /// for ``LockWait/lookEvery``: meanwhile they are waited for.
    /// - Returns: a batch, whose commit is not to wait; empty where none is to be looked at now.
    mutating func takeLook(rowsMax: Int, bytesMax: Int, at now: ContinuousClock.Instant) -> [Waiting] {
        if lookBegan == nil {
            guard Self.lookedAt.contains(where: { locked[$0]?.isEmpty == false }) else { return [] }
            if let nextLook, now < nextLook { return [] }
        }
        let began = lookBegan ?? now
        lookBegan = began
        var batch: [Waiting] = []
        var (rows, bytes) = (0, 0)
        for phase in Self.lookedAt {
            var others: Deque<Lane> = []
            for lane in locked[phase] ?? [] {
                guard let lock = lane.lock, lock.due <= now, lock.seenAt + LockWait.lookEvery <= began,
                    let next = lane.waiting.first, next.isComplete,
                    batch.isEmpty || (rows + next.command.rowCount <= rowsMax && bytes + next.batchBytes <= bytesMax)
                else {
                    others.append(lane)
                    continue
                }
                _ = lane.waiting.popFirst()
                lane.isInTurn = false
                lane.takenCount += 1
                rows += next.command.rowCount
                bytes += next.batchBytes
                batch.append(next)
            }
            locked[phase] = others
        }
        if batch.isEmpty {
            lookBegan = nil
            nextLook = now + LockWait.lookEvery
        }
        return batch
    }

    /// Takes what tenants that were set aside have waiting: of all that were so together just now, or of one.
    /// - Returns: the batch, and how long the commit may wait for it; nil where none is due.
    mutating func takeLocked(
        _ phase: LockPhase, rowsMax: Int, bytesMax: Int, at now: ContinuousClock.Instant
    ) -> (batch: [Waiting], lockWait: Duration)? {
        tidyLocked(phase)
        guard let first = locked[phase]?.first?.lock, first.due <= now else { return nil }
        var batch: [Waiting] = []
        var (rows, bytes) = (0, 0)
        while let lane = locked[phase]?.first, let lock = lane.lock, lock.due <= now {
            guard lane.waiting.first?.isComplete == true else {
                locked[phase]?.removeFirst()
                lane.isInTurn = false
                continue
            }
            guard batch.isEmpty || (phase == .new && rows < rowsMax && bytes < bytesMax) else { break }
            locked[phase]?.removeFirst()
            lane.isInTurn = false
            while let next = lane.waiting.first, next.isComplete,
                !lane.isListed || (rows + next.command.rowCount <= rowsMax && bytes + next.batchBytes <= bytesMax)
            {
                lane.isListed = true
                lane.takenCount += 1
                _ = lane.waiting.popFirst()
                rows += next.command.rowCount
                bytes += next.batchBytes
                batch.append(next)
            }
            lane.isListed = false
        }
        return batch.isEmpty ? nil : (batch, LockWait.duration(first.waits))
    }

    /// Drops places of tenants that have nothing waiting any more: those at the front, and the others once they are many.
    private mutating func tidyLocked(_ phase: LockPhase) {
        while let lane = locked[phase]?.first, lane.waiting.isEmpty { locked[phase]?.removeFirst() }
        let stale = locked[phase].map { $0.count > 2 * lanes.count + 16 } ?? false
        if stale { locked[phase]?.removeAll { $0.waiting.isEmpty } }
    }
}

extension WriteCommand {
    fileprivate var isAppend: Bool { if case .append = self { true } else { false } }
}
