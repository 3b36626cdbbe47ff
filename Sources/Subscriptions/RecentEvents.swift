import DequeModule
import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// A tenant's head, and its recent events as far as memory is granted: what a ``TenantFeed`` guards.
struct RecentEvents {
    /// A run in memory.
    struct Held {
        let run: RecordedRun
        let sequence: UInt64
        let bytes: Int
    }

    /// What a lock is held for; pages are made of it outside.
    enum Found {
        case nothing(TenantHead)
        case inStorage(to: Position, TenantHead, isBehind: Bool)
        case runs([RecordedRun], TenantHead)
        case page(EventPage, TenantHead)
        /// Another event is at the position than the one that was asked for.
        case otherPast
        /// The past that the reader knows is over.
        case historyChanged(comparable: Position, past: UInt64)
    }

    /// The number of marks kept.
    private static let marksMax = 64

    /// The last position known.
    private(set) var head = TenantHead.empty
    /// Heads that the tenant has had, the newest last: many of late, few of old.
    private(set) var marks: Deque<EventMark> = []
    /// What the runs held take in memory.
    private(set) var bytes = 0
    /// Runs without a gap between them. Between the last one and `head` there may be events that are only in
    /// storage.
    private var runs: Deque<Held> = []
    /// Position of the last event that had to make room.
    private var droppedTo = Position.start
    /// Takes in no run any more.
    private let isClosed: Bool

    init(isClosed: Bool = false) { self.isClosed = isClosed }

    /// The number of the oldest run held.
    var oldestSequence: UInt64? { runs.first?.sequence }

    /// Whether the event after a position is here.
    func holds(after: Position) -> Bool {
        guard let first = runs.first?.run.firstPosition, let last = runs.last?.run.lastPosition else { return false }
        return first <= after.next && after < last
    }

    /// How a run does not follow the head.
    enum Misfit {
        /// Something is in between that only storage has.
        case leavesGap
        /// Both cannot be of one past.
        case contradicts
    }

    /// How a run does not follow the head; nil where it does, is known already, or nothing is known.
    func fit(of run: RecordedRun) -> Misfit? {
        guard let id = head.eventID, let previous = run.previous.eventID ?? (run.previous == .empty ? id : nil) else {
            return nil
        }
        if run.previous.position == head.position { return previous == id ? nil : .contradicts }
        if run.previous.position > head.position { return .leavesGap }
        if run.lastPosition > head.position { return .contradicts }
        if run.lastPosition == head.position {
            return run.lastEventID != id || run.recordedAt != head.recordedAt ? .contradicts : nil
        }
        // It was known before, unless another event is in its place.
        guard holds(after: Position(run.lastPosition.rawValue - 1)) else { return nil }
        let known = runs[indexOfRun(holding: run.lastPosition)].run
        let index = Int(run.lastPosition.rawValue - known.firstPosition.rawValue)
        return known.events[index].id == run.lastEventID ? nil : .contradicts
    }

    /// Takes a run into the tail, without ever leaving a gap in it.
    /// - Returns: what had to leave.
    mutating func keep(_ run: RecordedRun, sequence: UInt64, bytesMax: Int) -> [Held] {
        // A run that came before is known already, or is of another past than the head.
        guard !isClosed, run.firstPosition > head.position else { return [] }
        var dropped: [Held] = []
        if let last = runs.last?.run, !run.follows(last) {
            // Another server committed in between: what is here ends before what only storage has. Or the storage came
            // back with another past.
            dropped = Array(runs)
            runs.removeAll()
            bytes = 0
        }
        let held = Held(run: run, sequence: sequence, bytes: run.memoryBytes)
        runs.append(held)
        bytes += held.bytes
        while bytes > bytesMax, let oldest = dropOldest() { dropped.append(oldest) }
        return dropped
    }

    /// Whether a stretch of the past that is not here would have a place: others committed it just before or after what is
    /// here, and it had not to make room.
    func hasPlace(for range: PageRange<Position>) -> Bool {
        guard !isClosed, range.after >= droppedTo else { return false }
        guard let first = runs.first?.run.firstPosition, let last = runs.last?.run.lastPosition else { return true }
        return range.after == last || range.to.next == first
    }

    /// Takes in a stretch that others committed, as storage has it: before the first run, or after the last one. One that has
    /// no place there changes nothing.
    mutating func fill(_ run: RecordedRun, sequence: UInt64, bytesMax: Int) {
        let held = Held(run: run, sequence: sequence, bytes: run.memoryBytes)
        guard !isClosed, run.lastPosition <= head.position, bytes + held.bytes <= bytesMax else { return }
        if runs.last.map({ run.follows($0.run) }) ?? true {
            runs.append(held)
        } else if let first = runs.first, first.run.follows(run) {
            // As old as what it comes before.
            runs.prepend(Held(run: run, sequence: first.sequence, bytes: held.bytes))
        } else {
            return
        }
        bytes += held.bytes
    }

    mutating func dropOldest() -> Held? {
        guard let oldest = runs.popFirst() else { return nil }
        bytes -= oldest.bytes
        droppedTo = max(droppedTo, oldest.run.lastPosition)
        return oldest
    }

    /// Takes in a head; false when it is no news.
    mutating func moveHead(to head: TenantHead) -> Bool {
        guard head.position > self.head.position else { return false }
        self.head = head
        guard let id = head.eventID else { return true }
        marks.append(EventMark(position: head.position, eventID: id))
        if marks.count > Self.marksMax {
            // Every other one of the older half leaves.
            marks = Deque(
                marks.enumerated().filter { $0.offset >= Self.marksMax / 2 || $0.offset % 2 == 0 }.map(\.element))
        }
        return true
    }

    /// Forgets all but where the tenant is now.
    mutating func begin(at head: TenantHead) -> [Held] {
        let dropped = Array(runs)
        self = RecentEvents(isClosed: isClosed)
        _ = moveHead(to: head)
        return dropped
    }

    /// Events in memory above a position and up to another one, at most this many.
    func marks(after: Position, to: Position, max: Int) -> [EventMark] {
        var marks: [EventMark] = []
        for held in runs where held.run.lastPosition > after && held.run.firstPosition <= to {
            for (index, event) in held.run.events.enumerated() {
                let position = Position(held.run.firstPosition.rawValue + UInt64(index))
                guard position > after, position <= to else { continue }
                guard marks.count < max else { return marks }
                marks.append(EventMark(position: position, eventID: event.id))
            }
        }
        return marks
    }

    /// Where the events are that follow a position.
    ///
    /// - Parameter following: the id of the event at that position; nil where it is not known.
    func find(after: Position, following: UUID?, filter: EventFilter, bytesMax: Int, scanMax: Int) -> Found {
        guard after < head.position else {
            if after == head.position, let following, let id = head.eventID, id != following { return .otherPast }
            return .nothing(head)
        }
        guard let first = runs.first?.run.firstPosition, let last = runs.last?.run.lastPosition, after < last else {
            return .inStorage(to: head.position, head, isBehind: after < droppedTo)
        }
        guard first <= after.next else {
            return .inStorage(to: Position(first.rawValue - 1), head, isBehind: after < droppedTo)
        }
        // At most 256 runs, so that the lock is held for moments only.
        var found: [RecordedRun] = []
        var room = filter.isEmpty ? bytesMax : scanMax
        var index = indexOfRun(holding: after.next)
        if let following, let id = runs[index].run.eventID(before: after.next), id != following { return .otherPast }
        while index < runs.count, room > 0, found.count < 256 {
            let run = runs[index].run
            let skipped = found.isEmpty ? Int(after.rawValue + 1 - run.firstPosition.rawValue) : 0
            found.append(run)
            room -= filter.isEmpty ? run.entryBytes(from: skipped) : run.events.count - skipped
            index += 1
        }
        return .runs(found, head)
    }

    /// - Precondition: the tail holds the position.
    private func indexOfRun(holding position: Position) -> Int {
        var low = 0
        var high = runs.count - 1
        while low < high {
            let middle = (low + high + 1) / 2
            if runs[middle].run.firstPosition <= position { low = middle } else { high = middle - 1 }
        }
        return low
    }
}

extension RecordedRun {
    /// Whether its first event comes right after the other run's last one.
    fileprivate func follows(_ other: RecordedRun) -> Bool {
        guard firstPosition == other.lastPosition.next else { return false }
        return previous.eventID == nil || previous.eventID == other.lastEventID
    }

    /// Id of the event before that position; nil where it is not known.
    ///
    /// - Precondition: the position is one of the run's.
    fileprivate func eventID(before position: Position) -> UUID? {
        position == firstPosition
            ? previous.eventID : events[Int(position.rawValue - firstPosition.rawValue) - 1].id
    }

    /// What it takes in memory, about.
    fileprivate var memoryBytes: Int {
        var bytes = 256 + max(entries.readableBytes, entries.storageCapacity)
        for event in events {
            bytes += MemoryLayout<Event>.stride + event.type.text.memoryBytes
            bytes += event.aggregate.type.text.memoryBytes + event.contentType.memoryBytes
        }
        return bytes
    }
}

extension String {
    /// What it takes in memory beside its 16 bytes: nothing up to 15 bytes of text.
    fileprivate var memoryBytes: Int { utf8.count > 15 ? utf8.count + 32 : 0 }
}
