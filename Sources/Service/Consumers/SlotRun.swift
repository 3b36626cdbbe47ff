import MartletConsumers
import MartletModel
import MartletRecordCodec
import NIOCore

/// Goes through a consumer's events for several slots of a worker. Used on the worker's event loop.
final class SlotRun {
    /// An event that is to be taken next.
    struct Next {
        var slot: WorkerSlot
        var position: Position
        var bytes: Int
    }

    private let key: ReadingKey
    private let handle: CallHandle
    private let readings: ConsumerReadings
    private var reading: SharedReading?
    /// Which of its reading's members it is.
    var memberIndex = 0
    /// The page of its reading that it is on.
    var pageNumber = 0
    /// Its events.
    private var page: SlottedEntries?
    /// All of ``slots`` before it was taken.
    private var index = 0
    private var choice: SlotChoice
    /// Those that are chosen, by number.
    private var chosen: [WorkerSlot?] = []
    /// Slots have come or gone since events were chosen.
    private var hasOtherSlots = false
    /// Up to there everything was taken by all of ``slots``, or is not theirs.
    private(set) var position: Position
    /// Up to there all of ``slots`` have read on; they are told when they need to know.
    private(set) var readTo: Checkpoint?
    /// Since when the next event waits for its slot.
    var waitingSince: NIODeadline?
    /// The slots that take part, by number. Each has taken what is its own up to ``position``, or has read further.
    private(set) var slots: [Int: WorkerSlot] = [:]
    /// Something came.
    let onPage: () -> Void
    private let onEnd: (MartletError?) -> Void

    /// - Parameters:
    ///   - onPage: something came.
    ///   - onEnd: it is over, for that reason, or (nil) because there was no room for what came.
    init(
        after: Position, by key: ReadingKey, _ handle: CallHandle, onPage: @escaping () -> Void,
        onEnd: @escaping (MartletError?) -> Void
    ) {
        position = after
        self.key = key
        self.handle = handle
        self.onPage = onPage
        self.onEnd = onEnd
        readings = handle.service.readings(of: handle.eventLoop)
        choice = SlotChoice([], of: key.slotCount)
    }

    func start() { join(readings.reading(after: position, by: key, handle.service, on: handle.eventLoop)) }

    /// Ends it; nothing is called any more.
    func end() {
        reading?.leave(self)
        reading = nil
        page = nil
    }

    /// Its reading is over.
    func readingEnded(_ error: MartletError?) {
        reading = nil
        page = nil
        onEnd(error)
    }

    private func join(_ reading: SharedReading) {
        self.reading = reading
        reading.join(self)
        enterPage()
    }

    /// Goes on with another reading, which has begun at ``position`` or before.
    func goOn(with other: SharedReading) {
        reading?.leave(self)
        join(other)
        onPage()
    }

    // MARK: Who takes part

    /// A slot that has read up to ``position``, or further, takes part in this reading and in no other.
    func join(_ slot: WorkerSlot) {
        slot.leaveRun()
        slots[slot.number] = slot
        slot.run = self
        hasOtherSlots = true
    }

    /// See ``WorkerSlot/leaveRun()``.
    func leave(_ slot: WorkerSlot) {
        guard slots[slot.number] === slot else { return }
        slots[slot.number] = nil
        hasOtherSlots = true
    }

    // MARK: What was read

    /// The next event of its slots; nil where a page ends, or nothing is there.
    var next: Next? {
        if page == nil { enterPage() }
        guard let page else { return nil }
        if hasOtherSlots { chooseAgain(page) }
        index = page.index(from: index, in: choice)
        guard index < page.count, let slot = chosen[page.slot(of: index)] else { return nil }
        return Next(slot: slot, position: page.position(of: index), bytes: page.bytes(of: index))
    }

    private func enterPage() {
        page = reading?.events(ofPage: pageNumber)
        index = page?.index(after: position) ?? 0
    }

    private func chooseAgain(_ page: SlottedEntries) {
        hasOtherSlots = false
        choice = SlotChoice(slots.keys, of: key.slotCount)
        chosen = Array(repeating: nil, count: key.slotCount)
        for (number, slot) in slots { chosen[number] = slot }
        // What was passed over may be of a slot that has come since.
        index = page.index(after: position)
    }

    /// The next event, with its entry.
    func nextEvent() -> (event: KeyedEntry, entry: ByteBuffer)? {
        guard let page, index < page.count else { return nil }
        do throws(RecordFault) { return (try page.event(index), page.entry(index)) } catch {
            end()
            onEnd(.unreadableRecord)
            return nil
        }
    }

    /// The next event was taken, or is nobody's.
    func advance() {
        guard let page, index < page.count else { return }
        position = page.position(of: index)
        index += 1
        waitingSince = nil
    }

    /// Leaves a page whose events were all taken.
    /// - Returns: whether there was one.
    func leavePage() -> Bool {
        guard let page, let reading else { return false }
        guard index == page.count else { return false }
        self.page = nil
        if let end = reading.leavePage(self), end.position >= position {
            position = end.position
            readTo = end
        }
        guard let larger = readings.larger(than: reading, after: position) else {
            enterPage()
            return true
        }
        reading.leave(self)
        join(larger)
        return true
    }

    /// All that is there was taken, and more is wanted.
    func wait() { if page == nil { reading?.waits(self) } }
}
