import FoundationEssentials
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
        guard unsafe bytes.withUnsafeBytes({ unsafe takeStraight($0) }) || takeAll(bytes) else { return nil }
    }

    /// The same as ``init(_:record:)``, by the lenient reader alone.
    init?(lenient bytes: Span<UInt8>, record: Range<Int>) {
        self.record = record
        guard takeAll(bytes) else { return nil }
    }

    /// Takes the record in any order and form.
    /// - Returns: false where it is none.
    private mutating func takeAll(_ bytes: Span<UInt8>) -> Bool {
        var fields = LenientFields(record)
        var last: UInt32 = 0
        while let field = fields.next(in: bytes) {
            guard take(field, end: fields.offset) else { return false }
            // The checksum stands before the event.
            let place = field.number == 10 ? 11 : 2 * field.number
            if field.number > 10 || 7...9 ~= field.number || place <= last { isAsStored = false }
            last = place
        }
        return !fields.isBroken && aggregateID.count == 16 && !eventField.isEmpty
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

    /// Takes the record as servers write it, which nearly all are.
    /// - Returns: false, with nothing changed, where it is written in another way, or is none.
    @inline(__always)
    @unsafe private mutating func takeStraight(_ bytes: UnsafeRawBufferPointer) -> Bool {
        precondition(record.lowerBound >= 0 && record.upperBound <= bytes.count, "a record lies within its bytes")
        guard let start = bytes.baseAddress, let straight = unsafe StraightRecord(start, record) else { return false }
        position = Position(straight.position)
        version = Version(straight.version)
        recordedAt = Timestamp(microseconds: Int64(bitPattern: straight.recordedAt))
        aggregateType = straight.aggregateType
        aggregateID = straight.aggregateID
        checksum = straight.checksum
        if checksum != nil { checksumField = straight.headEnd..<straight.eventStart }
        event = straight.event
        eventField = straight.eventStart..<event.upperBound
        return true
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
        let head = record.lowerBound..<eventField.lowerBound
        if checksumField.upperBound == head.upperBound {
            let sum = CRC32C.checksum(of: event, tenant, record.lowerBound..<checksumField.lowerBound, in: bytes)
            return sum == checksum ? .intact : .damaged
        }
        var sum = CRC32C.extend(0, by: event, of: bytes)
        sum = CRC32C.extend(sum, by: tenant)
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
