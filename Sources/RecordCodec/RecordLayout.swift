public import FoundationEssentials
public import MartletModel
public import NIOCore

/// Where all parts of an encoded RecordedEvent lie, and its numbers, found without decoding it: its outline, and what is
/// inside of the event.
public struct RecordLayout: Hashable, Sendable {
    /// All but what is inside of the event.
    public let outline: RecordOutline
    /// Its own id.
    @Extent public private(set) var eventID = 0..<0
    /// The field of its own id, with its key.
    @Extent private(set) var eventIDField = 0..<0
    /// Text of its type.
    @Extent public private(set) var eventType = 0..<0
    /// Text of its content type.
    @Extent public private(set) var contentType = 0..<0
    /// The field of its content type, with its key.
    @Extent private(set) var contentTypeField = 0..<0
    /// Its encoded Metadata.
    @Extent private(set) var metadata = 0..<0
    /// The field of its metadata, with its key.
    @Extent private(set) var metadataField = 0..<0
    /// Its payload.
    @Extent public private(set) var payload = 0..<0
    /// Schema version of its payload.
    public private(set) var schemaVersion: UInt32 = 0

    /// The layout of the record of that outline in `bytes`; nil where its event is none.
    public init?(_ bytes: Span<UInt8>, _ outline: RecordOutline) {
        self.outline = outline
        var inside = LenientFields(outline.event)
        while let field = inside.next(in: bytes) {
            guard take(field, end: inside.offset) else { return nil }
        }
        guard !inside.isBroken, eventID.count == 16 else { return nil }
    }

    /// The layout of the record at `record` in `bytes`; nil where there is none.
    public init?(_ bytes: Span<UInt8>, record: Range<Int>) {
        guard let outline = RecordOutline(bytes, record: record) else { return nil }
        self.init(bytes, outline)
    }

    /// The layout of the record at `record` in `bytes`; nil where there is none.
    @unsafe public init?(_ bytes: UnsafeRawBufferPointer, record: Range<Int>) {
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        unsafe self.init(typed.span, record: record)
    }

    /// The layout of the record of that outline in `bytes`; nil where its event is none.
    @unsafe public init?(_ bytes: UnsafeRawBufferPointer, _ outline: RecordOutline) {
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        unsafe self.init(typed.span, outline)
    }

    /// The layout of a record, which counts from its first byte; nil where the bytes are none.
    public init?(_ record: ByteBuffer) {
        self.init(record.readableBytesUInt8Span, record: 0..<record.readableBytes)
    }

    /// - Returns: false where a field that is known holds something of another kind.
    @inline(__always)
    private mutating func take(_ field: LenientFields.Field, end: Int) -> Bool {
        switch field.number {
        case 1:
            guard let content = field.content else { return false }
            eventID = content
            eventIDField = field.start..<end
        case 2: return field.content.map { eventType = $0 } != nil
        case 3:
            guard let content = field.content else { return false }
            contentType = content
            contentTypeField = field.start..<end
        case 4: return field.varint.map { schemaVersion = UInt32(truncatingIfNeeded: $0) } != nil
        case 5:
            guard metadataField.isEmpty, let content = field.content else { return false }
            metadata = content
            metadataField = field.start..<end
        case 15: return field.content.map { payload = $0 } != nil
        default: break
        }
        return true
    }
}

// Parts of the outline.
extension RecordLayout {
    /// All of the record.
    public var record: Range<Int> { outline.record }
    /// Position of the event.
    public var position: Position { outline.position }
    /// Version of the event within its aggregate.
    public var version: Version { outline.version }
    /// When it was committed.
    public var recordedAt: Timestamp { outline.recordedAt }
    /// Text of its aggregate's type.
    public var aggregateType: Range<Int> { outline.aggregateType }
    /// Its aggregate's id.
    public var aggregateID: Range<Int> { outline.aggregateID }
    /// What its author wrote: the encoded Event.
    public var event: Range<Int> { outline.event }
}

// MARK: Parts as values

extension RecordOutline {
    /// Whether the record is one of that aggregate.
    @unsafe public func isOf(_ aggregate: AggregateName, in bytes: UnsafeRawBufferPointer) -> Bool {
        guard unsafe aggregate.type.text.hasBytes(bytes.part(aggregateType)) else { return false }
        return unsafe UUID(bytes: bytes.part(aggregateID)) == aggregate.id
    }

    /// The record's aggregate; nil where its type or id is none.
    @unsafe public func aggregate(in bytes: UnsafeRawBufferPointer) -> AggregateName? {
        guard let type = unsafe AggregateType(utf8: bytes.part(aggregateType)),
            let id = unsafe UUID(bytes: bytes.part(aggregateID))
        else { return nil }
        return AggregateName(type: type, id: id)
    }
}

extension RecordLayout {
    /// The event's id; nil where there are not 16 bytes.
    public func eventID(in record: ByteBuffer) -> UUID? {
        unsafe record.withUnsafeReadableBytes { unsafe UUID(bytes: $0.part(eventID)) }
    }
}

/// The numbers that a record begins with, and where it stands: only its first few bytes are read for the most part.
public struct RecordNumbers: Hashable, Sendable {
    /// Position of the event.
    public private(set) var position: UInt64 = 0
    /// Version of the event within its aggregate.
    public private(set) var version: UInt64 = 0
    /// When it was committed, in microseconds since 1970 UTC.
    public private(set) var recordedAt: UInt64 = 0
    /// Where the record stands.
    public let record: Range<Int>

    /// The numbers of the record at `record` in `bytes`; nil where there is none.
    @inlinable public init?(_ bytes: Span<UInt8>, record: Range<Int>) {
        self.record = record
        var fields = LenientFields(record)
        while let field = fields.next(in: bytes) {
            switch field.number {
            case 1...3:
                guard let number = field.varint else { return nil }
                set(field.number, number)
            default:
                // Servers write the numbers first.
                if position > 0, version > 0 { return }
            }
        }
        guard !fields.isBroken, fields.offset > record.lowerBound else { return nil }
    }

    @usableFromInline mutating func set(_ field: UInt32, _ number: UInt64) {
        switch field {
        case 1: position = number
        case 2: version = number
        default: recordedAt = number
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

    /// Whether the event of that record, found in `bytes`, is meant; nil where the event is none.
    @unsafe public func matches(_ outline: RecordOutline, in bytes: UnsafeRawBufferPointer) -> Bool? {
        guard unsafe Self.holds(aggregateTypes, outline.aggregateType, bytes),
            unsafe Self.holds(aggregateIDs, outline.aggregateID, bytes)
        else { return false }
        if eventTypes.isEmpty { return true }
        guard let layout = unsafe RecordLayout(bytes, outline) else { return nil }
        return unsafe Self.holds(eventTypes, layout.eventType, bytes)
    }

    @unsafe private static func holds(
        _ values: [[UInt8]], _ range: Range<Int>, _ bytes: UnsafeRawBufferPointer
    ) -> Bool {
        guard !values.isEmpty else { return true }
        let found = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
        for value in values where value.count == found.count {
            if unsafe value.withUnsafeBytes({ unsafe $0.isSame(as: found) }) { return true }
        }
        return false
    }
}
