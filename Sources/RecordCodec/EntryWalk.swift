import FoundationEssentials
public import MartletModel

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
        var fields = unsafe StrictFields(bytes, start..<bytes.count)
        guard fields.take(1 << 3 | 2), let record = fields.content() else {
            isBroken = true
            return nil
        }
        offset = record.upperBound
        return (start..<offset, record)
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
    public let position: Position
    /// Version of the event within its aggregate.
    public let version: Version
    /// When it was committed.
    public let recordedAt: Timestamp
    /// Text of its aggregate's type. Ranges count from the first of the bytes that the head was found in.
    public let aggregateType: Range<Int>
    /// Its aggregate's id.
    public let aggregateID: Range<Int>
    /// Its own id.
    public let eventID: Range<Int>
    /// Text of its type.
    public let eventType: Range<Int>

    /// The head of the record at `record` in `bytes`, in the form that it is stored in; nil where it is none.
    @unsafe public init?(_ bytes: UnsafeRawBufferPointer, record: Range<Int>) {
        var fields = unsafe StrictFields(bytes, record)
        guard let position = Self.number(&fields, 1), let version = Self.number(&fields, 2),
            let recordedAt = Self.number(&fields, 3), fields.take(4 << 3 | 2), let aggregateType = fields.content(),
            fields.take(5 << 3 | 2), let aggregateID = fields.content(), aggregateID.count == 16,
            fields.take(6 << 3 | 2), let event = fields.content()
        else { return nil }
        var inside = unsafe StrictFields(bytes, event)
        guard inside.take(1 << 3 | 2), let eventID = inside.content(), eventID.count == 16,
            inside.take(2 << 3 | 2), let eventType = inside.content()
        else { return nil }
        self.position = Position(position)
        self.version = Version(version)
        self.recordedAt = Timestamp(microseconds: Int64(bitPattern: recordedAt))
        self.aggregateType = aggregateType
        self.aggregateID = aggregateID
        self.eventID = eventID
        self.eventType = eventType
    }

    /// A number, which is left out where it is 0; nil where it is broken.
    private static func number(_ fields: inout StrictFields, _ field: UInt8) -> UInt64? {
        fields.take(field << 3) ? fields.varint() : 0
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
