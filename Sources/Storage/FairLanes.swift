import MartletCollections
import MartletModel

/// Work of many tenants, served tenant by tenant by what it costs: a lane for each tenant, in which work keeps its
/// order.
///
/// Each lane has a time of its own, which moves on by what its work costs; the lane that is furthest behind goes next.
/// A tenant that comes anew starts at the common time, which moves on by the cost of all work over the number of lanes
/// that share in it. So a tenant that did much waits for those that did little, nobody saves up turns while away, and
/// no stream of newcomers keeps anybody waiting for ever.
///
/// Bounded in size over all tenants, with a dynamic share for each: a tenant may have as much as is still free, so that
/// one alone gets half of the room, and a newcomer finds some. What is taken stays on the account until it is finished.
struct FairLanes<Element> {
    fileprivate struct Waiting {
        var element: Element
        var size: Int
    }

    /// Work that was taken, to be given back to ``FairLanes/finish(_:cost:)``.
    struct Taken {
        let element: Element
        fileprivate let lane: Lane
        fileprivate let size: Int
    }

    /// What one tenant has here. A class, so that it is changed in place wherever it is held.
    fileprivate final class Lane {
        let tenant: TenantID
        var waiting = NumberedQueue<Waiting>()
        /// Of what waits and what was taken.
        var size = 0
        var takenCount = 0
        /// Its work so far, in units of cost.
        var time: UInt64 = 0
        /// Among lanes of one time, who came first goes first.
        var turn: UInt64 = 0
        /// Its place in the heap that it is in; -1 for none.
        var place = -1

        init(_ tenant: TenantID) { self.tenant = tenant }
    }

    /// Lanes without work that are remembered, so that leaving is no way to start over, and that nothing is allocated for
    /// work that comes alone.
    private static var restingMax: Int { 1_024 }

    private let sizeMax: Int
    private let takenPerTenantMax: Int
    private let costMin: UInt64
    private var lanes: [TenantID: Lane] = [:]
    /// Lanes with work that may be taken now.
    private var ready = LaneHeap()
    /// Lanes without any work.
    private var resting = LaneHeap()
    /// The common time, and the furthest that any lane is.
    private var time: UInt64 = 0
    private var timeMax: UInt64 = 0
    private var lastNumber: UInt64 = 0
    private var lastTurn: UInt64 = 0
    /// Of all that waits and was taken.
    private(set) var size = 0

    /// - Parameters:
    ///   - sizeMax: over all tenants.
    ///   - takenPerTenantMax: so much work of one tenant is under way at a time.
    ///   - costMin: what any work costs at least; 1 or more.
    init(sizeMax: Int, takenPerTenantMax: Int, costMin: UInt64) {
        self.sizeMax = sizeMax
        self.takenPerTenantMax = takenPerTenantMax
        self.costMin = costMin
    }

    /// Whether something may be taken now.
    var hasWork: Bool { !ready.isEmpty }

    /// Whether nothing waits and nothing is taken.
    var isEmpty: Bool { size == 0 }

    /// How much of the room a tenant has.
    func size(of tenant: TenantID) -> Int { lanes[tenant]?.size ?? 0 }

    /// Tenants that it knows, and places that it holds for work, those among them that were left.
    var laneCount: Int { lanes.count }
    var placeCount: Int { lanes.values.reduce(0) { $0 + $1.waiting.placeCount } }

    /// Adds work; O(log n) in the number of tenants.
    /// - Parameter size: 1 or more.
    /// - Returns: the work's number, larger than all before it; nil where there is no room for it.
    mutating func add(_ element: Element, of tenant: TenantID, size: Int = 1) -> UInt64? {
        let known = lanes[tenant]
        guard (known?.size ?? 0) + size <= sizeMax - self.size else { return nil }
        let lane: Lane
        if let known {
            lane = known
            resting.remove(lane)
        } else {
            lane = Lane(tenant)
            lanes[tenant] = lane
        }
        let isNew = lane.size == 0
        if isNew { lane.time = max(lane.time, time) }
        lastNumber += 1
        lane.waiting.append(Waiting(element: element, size: size), number: lastNumber)
        lane.size += size
        self.size += size
        place(lane, isNew: isNew)
        return lastNumber
    }

    /// Takes out work that was not taken yet; nil where it was.
    mutating func remove(_ number: UInt64, of tenant: TenantID) -> Element? {
        guard let lane = lanes[tenant], let waiting = lane.waiting.remove(number) else { return nil }
        lane.size -= waiting.size
        size -= waiting.size
        if lane.waiting.isEmpty { ready.remove(lane) }
        restIfDone(lane)
        return waiting.element
    }

    /// Takes the next work.
    mutating func take() -> Taken? {
        guard let lane = ready.popFirst(), let waiting = lane.waiting.popFirst() else { return nil }
        lane.takenCount += 1
        // The rest comes when it is known: until then, those who are as far behind have their turns.
        spend(costMin, lane)
        place(lane)
        return Taken(element: waiting.element, lane: lane, size: waiting.size)
    }

    /// Work is done.
    mutating func finish(_ taken: Taken, cost: UInt64) {
        let lane = taken.lane
        let cost = max(cost, costMin)
        let sharing = UInt64(lanes.count - resting.count)
        time += (cost + sharing - 1) / max(1, sharing)
        lane.takenCount -= 1
        lane.size -= taken.size
        size -= taken.size
        ready.remove(lane)
        spend(cost - costMin, lane)
        place(lane)
        restIfDone(lane)
    }

    /// Takes out all that waits: a tenant's in order.
    mutating func removeAll() -> [Element] {
        var all: [Element] = []
        for lane in lanes.values.sorted(by: { $0.turn < $1.turn }) where !lane.waiting.isEmpty {
            ready.remove(lane)
            for waiting in lane.waiting.removeAll() {
                lane.size -= waiting.size
                size -= waiting.size
                all.append(waiting.element)
            }
            restIfDone(lane)
        }
        return all
    }

    /// Puts a lane among the ready ones, if it is to be there: at the end of those of its time, but a new one before
    /// those that were served already.
    private mutating func place(_ lane: Lane, isNew: Bool = false) {
        guard lane.place < 0, !lane.waiting.isEmpty, lane.takenCount < takenPerTenantMax else { return }
        lastTurn += 1
        lane.turn = isNew ? lastTurn : lastTurn | 1 << 63
        ready.insert(lane)
    }

    private mutating func spend(_ cost: UInt64, _ lane: Lane) {
        lane.time += cost
        timeMax = max(timeMax, lane.time)
    }

    private mutating func restIfDone(_ lane: Lane) {
        guard lane.size == 0 else { return }
        lane.waiting.trim()
        resting.insert(lane)
        // Where nobody has work, nobody is ahead of anybody.
        if size == 0 { time = timeMax }
        while resting.count > Self.restingMax, let first = resting.popFirst() { lanes[first.tenant] = nil }
    }

    /// Lanes by their time, then by their turn: a binary heap in which each lane knows its place.
    private struct LaneHeap {
        private var lanes: [Lane] = []

        var isEmpty: Bool { lanes.isEmpty }
        var count: Int { lanes.count }
        var first: Lane? { lanes.first }

        mutating func insert(_ lane: Lane) {
            lanes.append(lane)
            lane.place = lanes.count - 1
            moveUp(lanes.count - 1)
        }

        mutating func popFirst() -> Lane? {
            guard let first = lanes.first else { return nil }
            remove(first)
            return first
        }

        /// Does nothing where the lane is not in this heap.
        mutating func remove(_ lane: Lane) {
            let place = lane.place
            guard lanes.indices.contains(place), lanes[place] === lane else { return }
            lane.place = -1
            let last = lanes.removeLast()
            guard last !== lane else { return }
            lanes[place] = last
            last.place = place
            moveUp(place)
            moveDown(last.place)
        }

        private func isBefore(_ a: Lane, _ b: Lane) -> Bool { (a.time, a.turn) < (b.time, b.turn) }

        private mutating func swap(_ a: Int, _ b: Int) {
            lanes.swapAt(a, b)
            lanes[a].place = a
            lanes[b].place = b
        }

        private mutating func moveUp(_ start: Int) {
            var place = start
            while place > 0, isBefore(lanes[place], lanes[(place - 1) / 2]) {
                swap(place, (place - 1) / 2)
                place = (place - 1) / 2
            }
        }

        private mutating func moveDown(_ start: Int) {
            var place = start
            while true {
                var least = place
                for child in [2 * place + 1, 2 * place + 2]
                where child < lanes.count && isBefore(lanes[child], lanes[least]) { least = child }
                guard least != place else { return }
                swap(place, least)
                place = least
            }
        }
    }
}
