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
        var waiting: Deque<Waiting> = []
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
    private(set) var bytes = 0

    /// What a call costs beside its events: its place in the queue and in the batch.
    private static var overheadBytes: Int { 512 }

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Whether something waits that a batch may take now.
    var hasWork: Bool { !turn.isEmpty }

    /// Whether nothing waits and nothing is taken.
    var isEmpty: Bool { lanes.isEmpty }

    /// Adds a call; false where there is no room for it.
    mutating func add(_ request: AppendRequest, ticket: Ticket) -> Bool {
        let cost = request.contentBytes + Self.overheadBytes * (1 + request.eventCount)
        let known = lanes[request.tenant]
        guard (known?.bytes ?? 0) + cost <= bytesMax - bytes || (bytes == 0 && cost <= bytesMax) else { return false }
        let lane: Lane
        if let known {
            lane = known
        } else {
            lane = Lane(request.tenant)
            lanes[request.tenant] = lane
        }
        if lane.waiting.isEmpty, !lane.isTaken { turn.append(lane) }
        lane.waiting.append(Waiting(request: request, bytes: cost, ticket: ticket))
        lane.bytes += cost
        bytes += cost
        return true
    }

    /// Takes a batch: a call of each tenant in turn, then the next of each, until the bounds; at least one.
    /// Those of one tenant are in order.
    mutating func take(eventsMax: Int, bytesMax: Int) -> [Waiting] {
        var batch: [Waiting] = []
        var events = 0
        var bytes = 0
        var ring = turn
        turn.removeAll(keepingCapacity: true)
        var passed: Deque<Lane> = []
        while let lane = ring.popFirst() {
            guard let next = lane.waiting.first else { continue }
            let count = next.request.eventCount
            let isFull = events + count > eventsMax || bytes + next.bytes > bytesMax
            if isFull, !batch.isEmpty {
                if !lane.isTaken { passed.append(lane) }
                continue
            }
            lane.waiting.removeFirst()
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
