import FoundationEssentials
public import MartletModel
public import NIOCore

/// Some of a consumer's slots.
public struct SlotChoice: Hashable, Sendable {
    fileprivate var chosen: [Bool]

    /// Those of that many slots.
    public init(_ numbers: some Sequence<Int>, of count: Int) {
        chosen = Array(repeating: false, count: count)
        for number in numbers where chosen.indices.contains(number) { chosen[number] = true }
    }
}

/// Events of a page, each with the slot that its key belongs to.
///
/// They are looked through once, for whoever has slots: of an event no more is read than its slot is determined by. Its
/// key is made when it is asked for.
public final class SlottedEntries: Sendable {
    /// The entries, as they came.
    public let entries: ByteBuffer
    /// The last event; nil where there is none.
    public let last: Checkpoint?
    private let rule: KeyRule
    private let slots: [UInt16]
    private let positions: [Position]
    /// Where each entry ends; the next one begins there.
    private let ends: [Int32]

    /// - Parameters:
    ///   - entries: at most 2 GiB.
    ///   - rule: makes keys.
    ///   - slotCount: into so many slots keys are divided, 1 to ``MartletModel/ConsumerDefinition/slotsMax``.
    /// - Throws: where an event cannot be read.
    public init(_ entries: ByteBuffer, by rule: KeyRule, slotCount: Int) throws(RecordFault) {
        self.entries = entries
        self.rule = rule
        var slots: [UInt16] = []
        var positions: [Position] = []
        var ends: [Int32] = []
        var last: RecordOutline?
        try RecordedEntries.forEachRecord(in: entries) { bytes, entry, outline throws(RecordFault) in
            guard let slot = RecordedEntries.slot(bytes, outline, by: rule, of: slotCount) else { throw .noEvent }
            last = outline
            slots.append(UInt16(truncatingIfNeeded: slot))
            positions.append(outline.position)
            ends.append(Int32(truncatingIfNeeded: entry.upperBound))
        }
        self.slots = slots
        self.positions = positions
        self.ends = ends
        guard let last else {
            self.last = nil
            return
        }
        let bytes = entries.readableBytesUInt8Span
        guard let layout = RecordLayout(bytes, last), let id = UUID(bytes: bytes.extracting(layout.eventID)) else {
            throw .noEvent
        }
        self.last = Checkpoint(position: last.position, eventID: id)
    }

    /// How many events there are.
    public var count: Int { slots.count }

    /// About the memory that it holds.
    public var heldBytes: Int {
        entries.storageCapacity + slots.capacity * MemoryLayout<UInt16>.stride
            + positions.capacity * MemoryLayout<Position>.stride + ends.capacity * MemoryLayout<Int32>.stride
    }

    /// The slot of an event.
    public func slot(of index: Int) -> Int { Int(slots[index]) }

    /// The position of an event.
    public func position(of index: Int) -> Position { positions[index] }

    /// The first event from an index on whose slot is one of them; ``count`` where there is none.
    public func index(from index: Int, in choice: SlotChoice) -> Int {
        var index = index
        while index < slots.count, !choice.chosen[Int(slots[index])] { index += 1 }
        return index
    }

    /// The first event after a position; ``count`` where there is none.
    public func index(after position: Position) -> Int {
        var (low, high) = (0, positions.count)
        while low < high {
            let middle = (low + high) / 2
            if positions[middle] > position { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Where an event's entry lies.
    private func range(of index: Int) -> Range<Int> {
        (index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])
    }

    /// The bytes of an event's entry.
    public func bytes(of index: Int) -> Int { range(of: index).count }

    /// An event's entry.
    public func entry(_ index: Int) -> ByteBuffer {
        let range = range(of: index)
        return entries.getSlice(at: entries.readerIndex + range.lowerBound, length: range.count) ?? ByteBuffer()
    }

    /// An event with its key.
    public func event(_ index: Int) throws(RecordFault) -> KeyedEntry {
        let (entries, range) = (entries, range(of: index))
        let bytes = entries.readableBytesUInt8Span
        var fields = LenientFields(range)
        guard let record = fields.next(in: bytes)?.content, let outline = RecordOutline(bytes, record: record) else {
            throw .noEvent
        }
        return try RecordedEntries.keyed(bytes, range, outline, by: rule)
    }
}
