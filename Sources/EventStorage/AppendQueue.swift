import DequeModule
import EventModel

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

    private struct Lane {
        var waiting: Deque<Waiting> = []
        var bytes = 0
        var isTaken = false
    }

    private let bytesMax: Int
    private var lanes: [TenantID: Lane] = [:]
    /// Tenants that have something waiting and are in no batch, in the order of their turn.
    private var turn: Deque<TenantID> = []
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
        var lane = lanes[request.tenant] ?? Lane()
        guard lane.bytes + cost <= bytesMax - bytes || (bytes == 0 && cost <= bytesMax) else { return false }
        if lane.waiting.isEmpty, !lane.isTaken { turn.append(request.tenant) }
        lane.waiting.append(Waiting(request: request, bytes: cost, ticket: ticket))
        lane.bytes += cost
        bytes += cost
        lanes[request.tenant] = lane
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
        var passed: Deque<TenantID> = []
        while let tenant = ring.popFirst() {
            guard var lane = lanes[tenant], let next = lane.waiting.first else { continue }
            let isFull = events + next.request.eventCount > eventsMax || bytes + next.bytes > bytesMax
            if isFull, !batch.isEmpty {
                if !lane.isTaken { passed.append(tenant) }
                continue
            }
            lane.waiting.removeFirst()
            lane.isTaken = true
            lanes[tenant] = lane
            events += next.request.eventCount
            bytes += next.bytes
            batch.append(next)
            if !lane.waiting.isEmpty { ring.append(tenant) }
        }
        turn = passed
        return batch
    }

    /// A batch has been dealt with.
    mutating func finish(_ batch: [Waiting]) {
        for waiting in batch {
            let tenant = waiting.request.tenant
            bytes -= waiting.bytes
            lanes[tenant]?.bytes -= waiting.bytes
        }
        for tenant in Set(batch.map(\.request.tenant)) {
            guard let lane = lanes[tenant] else { continue }
            if lane.waiting.isEmpty {
                lanes[tenant] = nil
            } else {
                lanes[tenant]?.isTaken = false
                turn.append(tenant)
            }
        }
    }
}
