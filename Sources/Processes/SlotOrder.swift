import MartletClient
import MartletModel

/// The order in which a worker handles the events of one slot, so that appends with a checkpoint lose none: one after the
/// other, none of a key that waits for a rejected one, and none at all until a rejection is stored.
struct SlotOrder {
    enum Next: Equatable {
        case handle(ConsumedEvent)
        /// It comes again, or somebody else has it.
        case passOver(ConsumedEvent)
    }

    private var waiting: ArraySlice<ConsumedEvent> = []
    /// What is known to be stored.
    private var committed: Position
    /// A rejection up to which the slot must be stored first.
    private var rejected: Position?
    /// Keys with a rejected event: until that comes again, later ones are passed over.
    private var failed: [ConsumerKey: Position] = [:]
    private var isLost = false

    /// - Parameter checkpoint: how far the slot is when it is assigned.
    init(checkpoint: Position) { committed = checkpoint }

    mutating func add(_ events: [ConsumedEvent]) { waiting += events }

    mutating func note(committed position: Position) {
        committed = max(committed, position)
        if let rejected, committed >= rejected { self.rejected = nil }
    }

    /// The slot has stopped: what was delivered comes again when it goes on.
    /// - Returns: the events that were still waiting.
    mutating func stop() -> [ConsumedEvent] {
        defer { (waiting, rejected, failed) = ([], nil, [:]) }
        return Array(waiting)
    }

    /// Another worker has the slot.
    mutating func lose() { isLost = true }

    /// The next event; nil if there is none, or none yet.
    mutating func next() -> Next? {
        guard isLost || rejected == nil, let event = waiting.popFirst() else { return nil }
        guard !isLost else { return .passOver(event) }
        if let position = failed[event.key] {
            guard event.event.position <= position else { return .passOver(event) }
            failed[event.key] = nil
        }
        return .handle(event)
    }

    /// An event is rejected.
    mutating func reject(_ event: ConsumedEvent) {
        failed[event.key] = event.event.position
        // Below what is stored, its key is stored as blocked already.
        if event.event.position > committed { rejected = event.event.position }
    }
}
