import DequeModule
import MartletModel

/// What waits to be written: a queue a tenant, served in turn.
///
/// Bounded in bytes over all tenants, appends and changes each, with a dynamic share for each tenant: it may wait with as
/// many bytes as are still free, so that one alone gets half of the room, many busy ones share it, and a newcomer always
/// finds some. What is taken stays on the account until it is finished, so that the bound is one on memory.
///
/// A tenant is in one batch at a time: its commands commit in the order in which they came. One that is not complete holds up
/// those behind it, until ``complete(_:_:)``.
struct WriteQueue<Ticket> {
    struct Waiting {
        var command: WriteCommand
        var bytes: Int
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
        var isTaken = false
        /// It is among those whose turn it may be.
        var isInTurn = false
        /// What completes its commands is on its way.
        var isAsked = false
        /// It is among the lanes that a finished batch was taken from.
        var isListed = false

        init(_ tenant: TenantID) { self.tenant = tenant }
    }

    private let appendBytesMax: Int
    private let changeBytesMax: Int
    private var lanes: [TenantID: Lane] = [:]
    /// Tenants that have something waiting that is complete, and are in no batch, in the order of their turn.
    private var turn: Deque<Lane> = []
    /// How many lanes in `turn` have nothing waiting any more.
    private var staleTurns = 0
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
    var placeCount: Int { lanes.values.reduce(turn.count) { $0 + $1.waiting.placeCount } }

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
        var cost = command.contentBytes + Self.overheadBytes * (1 + command.rowCount)
        // The largest change goes in where nothing else is.
        if !isAppend { cost = min(cost, changeBytesMax) }
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
        let waiting = Waiting(command: command, bytes: cost, ticket: ticket, isComplete: isComplete)
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
        turn.append(lane)
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
        var ring = turn
        turn.removeAll(keepingCapacity: true)
        staleTurns = 0
        var passed: Deque<Lane> = []
        while let lane = ring.popFirst() {
            lane.isInTurn = false
            guard let next = lane.waiting.first, next.isComplete else { continue }
            let count = next.command.rowCount
            let isFull = rows + count > rowsMax || bytes + next.bytes > bytesMax
            if isFull, !batch.isEmpty {
                if !lane.isTaken {
                    lane.isInTurn = true
                    passed.append(lane)
                }
                continue
            }
            _ = lane.waiting.popFirst()
            lane.isTaken = true
            rows += count
            bytes += next.bytes
            batch.append(next)
            if !lane.waiting.isEmpty { ring.append(lane) }
        }
        turn = passed
        return batch
    }

    /// A batch has been dealt with.
    mutating func finish(_ batch: [Waiting]) {
        var touched: [Lane] = []
        var last: Lane?
        for waiting in batch {
            if last?.tenant != waiting.command.tenant { last = lanes[waiting.command.tenant] }
            count(waiting, -1, last)
            guard let lane = last else { continue }
            if !lane.isListed {
                lane.isListed = true
                touched.append(lane)
            }
        }
        for lane in touched {
            lane.isListed = false
            lane.isTaken = false
            if lane.waiting.isEmpty { lanes[lane.tenant] = nil } else { lineUp(lane) }
        }
    }
}

extension WriteCommand {
    fileprivate var isAppend: Bool { if case .append = self { true } else { false } }
}
