import MartletModel
import DequeModule

/// What a slot knows of a blocked key.
struct KeyState {
    /// Why its events are not delivered as they come.
    var blocked: BlockedKey
    /// The last event that was passed over; where nobody knows, what is above it.
    var passedTo: Position
    /// Up to here, its events were delivered before, and may have been handled.
    var repeatedTo = Position.start
    /// While it is being tried.
    var catchUp: KeyCatchUp?
}

/// A blocked key while its events are tried again, one after the other as they were passed over.
struct KeyCatchUp {
    private struct Delivered {
        let event: SlotMachine.Event
        let number: UInt64
        let attempt: UInt32
        var isSettled = false
    }

    /// What the key's events were read up to.
    private(set) var readTo: Position
    /// How often the first one was tried.
    private var tries: UInt32
    private var waiting: Deque<SlotMachine.Event> = []
    private var delivered: Deque<Delivered> = []
    /// Where the last event is that was delivered.
    private(set) var deliveredTo = Position.start
    /// The last event that is handled with all before it.
    private(set) var lastHandled: Checkpoint?

    init(after: Position, tries: UInt32) {
        readTo = after
        self.tries = tries
    }

    func wantsMore(to last: Position) -> Bool { waiting.isEmpty && readTo < last }

    mutating func take(_ events: [SlotMachine.Event], readTo: Position) {
        waiting.append(contentsOf: events)
        self.readTo = readTo
    }

    /// What is to be delivered next, and how often it was tried with that; nil where it is above that floor.
    func next(upTo floor: Position) -> (SlotMachine.Event, attempt: UInt32)? {
        guard let first = waiting.first, first.place.position <= floor else { return nil }
        return (first, tries + 1)
    }

    /// It is.
    mutating func deliver(_ event: SlotMachine.Event, number: UInt64) {
        waiting.removeFirst()
        deliveredTo = event.place.position
        delivered.append(Delivered(event: event, number: number, attempt: tries + 1))
        tries = 0
    }

    func delivered(_ number: UInt64) -> (SlotMachine.Event, attempt: UInt32)? {
        delivered.first { $0.number == number }.map { ($0.event, $0.attempt) }
    }

    var numbersUnderWay: [UInt64] { delivered.filter { !$0.isSettled }.map(\.number) }

    mutating func settle(_ number: UInt64) {
        if let index = delivered.firstIndex(where: { $0.number == number }) { delivered[index].isSettled = true }
        while let first = delivered.first, first.isSettled {
            lastHandled = first.event.place
            delivered.removeFirst()
        }
    }

    /// The first event that is not handled, as far as they were read.
    var firstUnsettled: SlotMachine.Event? { delivered.first?.event ?? waiting.first }
}
