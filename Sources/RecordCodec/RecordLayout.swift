public import FoundationEssentials
public import MartletModel
public import NIOCore

/// A range of offsets below 4 GiB: half the size of a `Range<Int>`, since what holds many is copied often.
@propertyWrapper struct Extent: Hashable, Sendable {
    private var lowerBound: UInt32
    private var upperBound: UInt32

    init(wrappedValue: Range<Int>) {
        lowerBound = UInt32(wrappedValue.lowerBound)
        upperBound = UInt32(wrappedValue.upperBound)
    }

    var wrappedValue: Range<Int> {
        get { unsafe Range(uncheckedBounds: (Int(lowerBound), Int(upperBound))) }
        set { self = Extent(wrappedValue: newValue) }
    }
}

/// Where the outer parts of an encoded RecordedEvent lie, and its numbers: all that a server adds to an event. What is inside
/// of the event is not looked at: see ``RecordLayout``.
///
/// Ranges count from the first of the bytes that it was found in. A part that is missing is an empty range, a number that is
/// missing is 0.
public struct RecordOutline: Hashable, Sendable {
    /// All of the record.
    @Extent public private(set) var record = 0..<0
    /// Position of the event.
    public private(set) var position = Position(0)
    /// Version of the event within its aggregate.
    public private(set) var version = Version(0)
    /// When it was committed.
    public private(set) var recordedAt = Timestamp(microseconds: 0)
    /// Text of its aggregate's type.
    @Extent public private(set) var aggregateType = 0..<0
    /// Its aggregate's id.
    @Extent public private(set) var aggregateID = 0..<0
    /// What its author wrote: the encoded Event.
    @Extent public private(set) var event = 0..<0
    /// The field of its event, with its key.
    @Extent private(set) var eventField = 0..<0
    /// The field of its checksum, with its key.
    @Extent private(set) var checksumField = 0..<0
    /// Text of the type that is stored, where an upcaster changed it.
    @Extent private(set) var storedType = 0..<0
    /// Text of why an upcaster failed on it.
    @Extent private(set) var upcastFailure = 0..<0
    /// Its checksum; nil where it has none.
    public private(set) var checksum: UInt32?
    /// The schema version that is stored, where it was upcast.
    private(set) var storedSchemaVersion: UInt32 = 0
    /// Nothing but what a server stores, in the order in which it does.
    private(set) var isAsStored = true

    /// The outline of the record at `record` in `bytes`; nil where there is none.
    public init?(_ bytes: Span<UInt8>, record: Range<Int>) {
        guard bytes.count <= Int(UInt32.max) else { return nil }
        self.record = record
        var fields = LenientFields(record)
        var last: UInt32 = 0
        while let field = fields.next(in: bytes) {
            guard take(field, end: fields.offset) else { return nil }
            // The checksum stands before the event.
            let place = field.number == 10 ? 11 : 2 * field.number
            if field.number > 10 || 7...9 ~= field.number || place <= last { isAsStored = false }
            last = place
        }
        guard !fields.isBroken, aggregateID.count == 16, !eventField.isEmpty else { return nil }
    }

    /// The outline of the record at `record` in `bytes`; nil where there is none.
    @unsafe public init?(_ bytes: UnsafeRawBufferPointer, record: Range<Int>) {
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        unsafe self.init(typed.span, record: record)
    }

    /// The outline of a record, which counts from its first byte; nil where the bytes are none.
    public init?(_ record: ByteBuffer) {
        self.init(record.readableBytesUInt8Span, record: 0..<record.readableBytes)
    }

    /// - Returns: false where a field that is known holds something of another kind.
    @inline(__always)
    private mutating func take(_ field: LenientFields.Field, end: Int) -> Bool {
        switch field.number {
        case 1: return field.varint.map { position = Position($0) } != nil
        case 2: return field.varint.map { version = Version($0) } != nil
        case 3:
            return field.varint.map { recordedAt = Timestamp(microseconds: Int64(bitPattern: $0)) } != nil
        case 4: return field.content.map { aggregateType = $0 } != nil
        case 5: return field.content.map { aggregateID = $0 } != nil
        case 6:
            // One in two parts is none of ours.
            guard eventField.isEmpty, let content = field.content else { return false }
            event = content
            eventField = field.start..<end
        case 7:
            return field.varint.map { storedSchemaVersion = UInt32(truncatingIfNeeded: $0) } != nil
        case 8: return field.content.map { storedType = $0 } != nil
        case 9: return field.content.map { upcastFailure = $0 } != nil
        case 10:
            guard case .fixed32(let value) = field.value else { return false }
            checksum = value
            checksumField = field.start..<end
        default: break
        }
        return true
    }
}

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

// MARK: The checksum

/// What a record's checksum says.
public enum ChecksumVerdict: Hashable, Sendable {
    /// The record is what was stored of an event of that tenant.
    case intact
    /// The record has no checksum: it was stored by a server of before there were any, or an upcaster changed it.
    case missing
    /// The record is not what was stored, or is one of another tenant.
    case damaged
}

extension RecordOutline {
    /// What the checksum of the record, which was found in these bytes, says.
    public func verdict(in bytes: Span<UInt8>, tenant: TenantID) -> ChecksumVerdict {
        guard let checksum else { return .missing }
        var sum = CRC32C.extend(0, by: event, of: bytes)
        sum = CRC32C.extend(sum, by: tenant)
        // Most often the checksum is the last of them.
        let head = record.lowerBound..<eventField.lowerBound
        let own = checksumField.clamped(to: head)
        sum = CRC32C.extend(sum, by: head.lowerBound..<own.lowerBound, of: bytes)
        sum = CRC32C.extend(sum, by: own.upperBound..<head.upperBound, of: bytes)
        return sum == checksum ? .intact : .damaged
    }

    /// What the checksum of a record that comes from storage says, where it holds nothing but what is stored.
    public func storedVerdict(in bytes: Span<UInt8>, tenant: TenantID) -> ChecksumVerdict {
        isAsStored ? verdict(in: bytes, tenant: tenant) : .damaged
    }
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
            if unsafe found.elementsEqual(value) { return true }
        }
        return false
    }
}
