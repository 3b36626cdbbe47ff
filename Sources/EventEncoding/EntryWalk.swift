public import EventModel
import FoundationEssentials

/// Walks over concatenated entries (``RecordedEntries``) where they lie, without decoding or copying them.
@safe public struct EntryWalk {
    @unsafe private let bytes: UnsafeRawBufferPointer
    /// Where the next entry begins.
    public private(set) var offset = 0
    /// The walk ended at bytes that are no entry.
    public private(set) var isBroken = false

    /// The bytes must outlive the walk.
    @unsafe public init(_ bytes: UnsafeRawBufferPointer) { unsafe self.bytes = bytes }

    /// Where the next entry and its record lie; nil at the end, and where the bytes are no entry.
    public mutating func next() -> (entry: Range<Int>, record: Range<Int>)? {
        guard !isBroken, unsafe bytes.count > offset else { return nil }
        let start = offset
        var scan = unsafe FieldScan(bytes, from: start, to: bytes.count)
        guard let field = scan.next(), field.key == 0x0A else {
            isBroken = true
            return nil
        }
        offset = field.value.upperBound
        return (start..<offset, field.value)
    }

    /// Steps over so many entries; false where there are fewer.
    public mutating func skip(_ count: Int) -> Bool {
        for _ in 0..<count where next() == nil { return false }
        return true
    }
}

/// What stands at the beginning of an encoded RecordedEvent: all that reads and filters go by, found without decoding.
public struct RecordHead: Hashable, Sendable {
    /// Position of the event.
    public private(set) var position = Position.start
    /// Version of the event within its aggregate.
    public private(set) var version = Version.none
    /// When it was committed.
    public private(set) var recordedAt = Timestamp(microseconds: 0)
    /// Text of its aggregate's type. Ranges count from the first of the bytes that the head was found in.
    public private(set) var aggregateType = 0..<0
    /// Its aggregate's id.
    public private(set) var aggregateID = 0..<0
    /// Its own id.
    public private(set) var eventID = 0..<0
    /// Text of its type.
    public private(set) var eventType = 0..<0

    /// The head of the record at `record` in `bytes`; nil where there is none.
    @unsafe public init?(_ bytes: UnsafeRawBufferPointer, record: Range<Int>) {
        var scan = unsafe FieldScan(bytes, from: record.lowerBound, to: record.upperBound)
        var event: Range<Int>?
        while let field = scan.next() {
            switch field.key {
            case 1 << 3: position = Position(field.number)
            case 2 << 3: version = Version(field.number)
            case 3 << 3: recordedAt = Timestamp(microseconds: Int64(bitPattern: field.number))
            case 4 << 3 | 2: aggregateType = field.value
            case 5 << 3 | 2: aggregateID = field.value
            case 6 << 3 | 2: event = field.value
            default: break
            }
            // Fields stand in the order of their numbers; what follows the event is not of the head.
            if event != nil { break }
        }
        guard let event else { return nil }
        var inner = unsafe FieldScan(bytes, from: event.lowerBound, to: event.upperBound)
        while let field = inner.next() {
            switch field.key {
            case 1 << 3 | 2: eventID = field.value
            case 2 << 3 | 2: eventType = field.value
            default: break
            }
            if !eventType.isEmpty { break }
        }
        guard aggregateID.count == 16, eventID.count == 16, !eventType.isEmpty, !aggregateType.isEmpty else {
            return nil
        }
    }
}

/// A filter as it is held against encoded events.
public struct EntryFilter: Sendable {
    private let aggregateTypes: [[UInt8]]
    private let eventTypes: [[UInt8]]
    private let aggregateIDs: [[UInt8]]

    /// What the filter lets through.
    public init(_ filter: EventFilter) {
        aggregateTypes = filter.aggregateTypes.map { Array($0.text.utf8) }
        eventTypes = filter.eventTypes.map { Array($0.text.utf8) }
        aggregateIDs = filter.aggregateIDs.map(\.bytes)
    }

    /// Whether the event of that head, found in `bytes`, is meant.
    @unsafe public func matches(_ head: RecordHead, in bytes: UnsafeRawBufferPointer) -> Bool {
        unsafe Self.holds(aggregateTypes, head.aggregateType, bytes)
            && Self.holds(eventTypes, head.eventType, bytes) && Self.holds(aggregateIDs, head.aggregateID, bytes)
    }

    @unsafe private static func holds(
        _ values: [[UInt8]], _ range: Range<Int>, _ bytes: UnsafeRawBufferPointer
    ) -> Bool {
        guard !values.isEmpty else { return true }
        let found = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
        for value in values where value.count == found.count {
            if unsafe found.elementsEqual(value) { return true }
        }
        return false
    }
}

/// Reads fields of a protobuf message one after the other.
@safe struct FieldScan {
    /// A field: its key, and its value as a number or as the range of its bytes.
    struct Field {
        var key: UInt64
        var number: UInt64
        var value: Range<Int>
    }

    @unsafe private let bytes: UnsafeRawBufferPointer
    private let end: Int
    private var at: Int

    /// The bytes must outlive the scan.
    @unsafe init(_ bytes: UnsafeRawBufferPointer, from start: Int, to end: Int) {
        unsafe self.bytes = bytes
        at = start
        self.end = end
    }

    /// The next field; nil at the end, and where the bytes are none.
    mutating func next() -> Field? {
        guard at < end, let key = varint() else { return nil }
        switch key & 7 {
        case 0:
            guard let number = varint() else { return nil }
            return Field(key: key, number: number, value: 0..<0)
        case 2:
            guard let length = varint(), length <= UInt64(end - at) else { return nil }
            let start = at
            at += Int(length)
            return Field(key: key, number: 0, value: start..<at)
        case 1: return fixed(8, key)
        case 5: return fixed(4, key)
        default: return nil
        }
    }

    private mutating func fixed(_ count: Int, _ key: UInt64) -> Field? {
        guard end - at >= count else { return nil }
        at += count
        return Field(key: key, number: 0, value: at - count..<at)
    }

    private mutating func varint() -> UInt64? {
        guard at < end else { return nil }
        let first = unsafe bytes[at]
        if first < 0x80 {
            at += 1
            return UInt64(first)
        }
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while at < end, shift < 70 {
            let byte = unsafe bytes[at]
            at += 1
            if shift == 63, byte > 1 { return nil }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        return nil
    }
}
