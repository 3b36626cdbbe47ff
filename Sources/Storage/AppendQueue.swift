import DequeModule
import MartletModel

/// The appends that wait for their commit: a queue a tenant, served in turn.
///
/// Bounded in bytes over all tenants, with a dynamic share for each: a tenant may wait with as many bytes
/// as are still free, so that one alone gets half of the room, many busy ones share it, and a newcomer always
/// finds some. What is taken stays on the account until it is finished, so that the bound is one on memory.
///
/// A tenant is in one batch at a time: its appends commit in the order in which they came.
struct AppendQueue<Ticket> {
    struct Waiting {
        var request: AppendRequest
        var bytes: Int
        var ticket: Ticket
    }

    /// What one tenant has waiting. A class, so that it is changed in place wherever it is held.
    private final class Lane {
        let tenant: TenantID
        var waiting = NumberedQueue<Waiting>()
        var bytes = 0
        var isTaken = false
        /// It is among the lanes that a finished batch was taken from.
        var isListed = false

        init(_ tenant: TenantID) { self.tenant = tenant }
    }

    private let bytesMax: Int
    private var lanes: [TenantID: Lane] = [:]
    /// Tenants that have something waiting and are in no batch, in the order of their turn.
    private var turn: Deque<Lane> = []
    /// How many lanes in `turn` have nothing waiting any more.
    private var staleTurns = 0
    private var lastNumber: UInt64 = 0
    private(set) var bytes = 0

    /// What a call costs beside its events: its place in the queue and in the batch.
    private static var overheadBytes: Int { 512 }

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Whether something waits that a batch may take now.
    var hasWork: Bool { turn.count > staleTurns }

    /// Whether nothing waits and nothing is taken.
    var isEmpty: Bool { lanes.isEmpty }

    /// Places that it holds for calls and for turns, those among them that were left.
    var placeCount: Int { lanes.values.reduce(turn.count) { $0 + $1.waiting.placeCount } }

    /// Adds a call.
    /// - Returns: its number, larger than all before it; nil where there is no room for it.
    mutating func add(_ request: AppendRequest, ticket: Ticket) -> UInt64? {
        let cost = request.contentBytes + Self.overheadBytes * (1 + request.eventCount)
        let known = lanes[request.tenant]
        guard (known?.bytes ?? 0) + cost <= bytesMax - bytes || (bytes == 0 && cost <= bytesMax) else { return nil }
        let lane: Lane
        if let known {
            lane = known
        } else {
            lane = Lane(request.tenant)
            lanes[request.tenant] = lane
        }
        if lane.waiting.isEmpty, !lane.isTaken { turn.append(lane) }
        lastNumber += 1
        lane.waiting.append(Waiting(request: request, bytes: cost, ticket: ticket), number: lastNumber)
        lane.bytes += cost
        bytes += cost
        return lastNumber
    }

    /// Takes out a call that is in no batch yet; nil where it is, or was. What it took is free at once.
    mutating func remove(_ number: UInt64, of tenant: TenantID) -> Waiting? {
        guard let lane = lanes[tenant], let waiting = lane.waiting.remove(number) else { return nil }
        lane.bytes -= waiting.bytes
        bytes -= waiting.bytes
        guard lane.waiting.isEmpty, !lane.isTaken else { return waiting }
        // Its place in turn is passed over; a tenant that comes again gets a new one.
        lanes[tenant] = nil
        staleTurns += 1
        if turn.count > 2 * (turn.count - staleTurns) + 16 {
            turn.removeAll { $0.waiting.isEmpty }
            staleTurns = 0
        }
        return waiting
    }

    /// Takes a batch: a call of each tenant in turn, then the next of each, until the bounds; at least one.
    /// Those of one tenant are in order.
    mutating func take(eventsMax: Int, bytesMax: Int) -> [Waiting] {
        var batch: [Waiting] = []
        var events = 0
        var bytes = 0
        var ring = turn
        turn.removeAll(keepingCapacity: true)
        staleTurns = 0
        var passed: Deque<Lane> = []
        while let lane = ring.popFirst() {
            guard let next = lane.waiting.first else { continue }
            let count = next.request.eventCount
            let isFull = events + count > eventsMax || bytes + next.bytes > bytesMax
            if isFull, !batch.isEmpty {
                if !lane.isTaken { passed.append(lane) }
                continue
            }
            _ = lane.waiting.popFirst()
            lane.isTaken = true
            events += count
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
            bytes -= waiting.bytes
            if last?.tenant != waiting.request.tenant { last = lanes[waiting.request.tenant] }
            guard let lane = last else { continue }
            lane.bytes -= waiting.bytes
            if !lane.isListed {
                lane.isListed = true
                touched.append(lane)
            }
        }
        for lane in touched {
            lane.isListed = false
            lane.isTaken = false
            if lane.waiting.isEmpty { lanes[lane.tenant] = nil } else { turn.append(lane) }
        }
    }
}
