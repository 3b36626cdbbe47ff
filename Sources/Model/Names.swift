public import FoundationEssentials

/// The type of an aggregate: 1 to 128 bytes of `[A-Za-z0-9_.:-]`.
public struct AggregateType: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The text.
    public let text: String

    /// The type of that text; nil if the text is not allowed.
    public init?(_ text: String) {
        guard PlainName.allows(text) else { return nil }
        self.text = text
    }

    /// The type whose text these bytes are; nil if they are not allowed. The bytes are not kept.
    @unsafe public init?(utf8 bytes: UnsafeRawBufferPointer) {
        guard (1...128).contains(bytes.count) else { return nil }
        for index in 0..<bytes.count where unsafe !PlainName.allows(bytes[index]) { return nil }
        text = unsafe String(decoding: bytes, as: UTF8.self)
    }

    /// The text.
    public var description: String { text }

    /// Types sort by their text.
    public static func < (a: AggregateType, b: AggregateType) -> Bool { a.text < b.text }
}

extension AggregateType: ExpressibleByStringLiteral {
    /// The type of a literal. One that is not allowed is a defect of the program, and traps.
    public init(stringLiteral text: String) {
        guard let type = Self.init(text) else {
            preconditionFailure(
                "an aggregate type is 1 to 128 bytes of [A-Za-z0-9_.:-]: \"\(PrintableText.escape(text))\" is not")
        }
        self = type
    }
}

/// The rule for names that people choose: 1 to 128 bytes of `[A-Za-z0-9_.:-]`.
enum PlainName {
    static func allows(_ text: String) -> Bool {
        (1...128).contains(text.utf8.count) && text.utf8.allSatisfy { allows($0) }
    }

    static func allows(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: ":"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }
}

/// The name of an aggregate within its tenant.
public struct AggregateName: Hashable, Sendable, CustomStringConvertible {
    /// Its type.
    public var type: AggregateType
    /// Its id, unique within the tenant and type.
    public var id: UUID

    /// The aggregate of that type and id.
    public init(type: AggregateType, id: UUID) {
        self.type = type
        self.id = id
    }

    /// `type/id`.
    public var description: String { "\(type)/\(id.uuidString.lowercased())" }
}

/// The type of an event: 1 to 256 bytes of UTF-8 without control characters (U+0000 to U+001F, U+007F
/// to U+009F). Types are the same when their bytes are, as in storage.
public struct EventType: Hashable, Sendable, CustomStringConvertible {
    /// The text.
    public let text: String

    /// The type of that text; nil if the text is not allowed.
    public init?(_ text: String) {
        guard (1...256).contains(text.utf8.count) else { return nil }
        guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }) else {
            return nil
        }
        self.text = text
    }

    /// The type whose text these bytes are; nil if they are not allowed. The bytes are not kept.
    @unsafe public init?(utf8 bytes: UnsafeRawBufferPointer) {
        guard (1...256).contains(bytes.count) else { return nil }
        guard unsafe !ByteText.isPrintableASCII(bytes) else {
            text = unsafe String(decoding: bytes, as: UTF8.self)
            return
        }
        guard let text = unsafe String(utf8: bytes), let type = EventType(text) else { return nil }
        self.text = type.text
    }

    /// Whether the bytes are the same: texts are equal to Swift also where only their composition differs.
    public static func == (a: EventType, b: EventType) -> Bool {
        a.text == b.text && a.text.utf8.elementsEqual(b.text.utf8)
    }

    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) { text.hashBytes(into: &hasher) }

    /// The text.
    public var description: String { text }
}

extension EventType: ExpressibleByStringLiteral {
    /// The type of a literal. One that is not allowed is a defect of the program, and traps.
    public init(stringLiteral text: String) {
        guard let type = Self.init(text) else {
            preconditionFailure(
                "an event type is 1 to 256 bytes of UTF-8 without control characters: "
                    + "\"\(PrintableText.escape(text))\" is not")
        }
        self = type
    }
}

/// The condition on an aggregate's version under which an append is accepted.
public enum ExpectedVersion: Hashable, Sendable, CustomStringConvertible {
    /// Any version will do.
    case any
    /// The aggregate has no events yet.
    case none
    /// The aggregate has at least one event.
    case exists
    /// The aggregate has exactly this version; 0 means the same as ``none``.
    case exact(Version)

    /// Whether the condition holds at that version.
    public func holds(at actual: Version) -> Bool {
        switch self {
        case .any: true
        case .none: actual == .none
        case .exists: actual > .none
        case .exact(let version): actual == version
        }
    }

    /// `any`, `none`, `exists` or the number.
    public var description: String {
        switch self {
        case .any: "any"
        case .none: "none"
        case .exists: "exists"
        case .exact(let version): version.description
        }
    }
}

/// Which events of a tenant are meant: the fields combine with AND, the values inside one with OR, and
/// an empty field means all.
public struct EventFilter: Hashable, Sendable {
    /// Types of aggregates.
    public var aggregateTypes: Set<AggregateType>
    /// Types of events.
    public var eventTypes: Set<EventType>
    /// Ids of aggregates.
    public var aggregateIDs: Set<UUID>

    /// A filter of those values.
    public init(
        aggregateTypes: Set<AggregateType> = [], eventTypes: Set<EventType> = [], aggregateIDs: Set<UUID> = []
    ) {
        self.aggregateTypes = aggregateTypes
        self.eventTypes = eventTypes
        self.aggregateIDs = aggregateIDs
    }

    /// Every event.
    public static let all = EventFilter()

    /// Whether the filter lets everything through.
    public var isEmpty: Bool { aggregateTypes.isEmpty && eventTypes.isEmpty && aggregateIDs.isEmpty }

    /// How many values it holds; bounded by ``Limits/filterValuesMax``.
    public var valueCount: Int { aggregateTypes.count + eventTypes.count + aggregateIDs.count }

    /// Whether an event of that aggregate and type is meant.
    public func matches(_ aggregate: AggregateName, _ type: EventType) -> Bool {
        (aggregateTypes.isEmpty || aggregateTypes.contains(aggregate.type))
            && (aggregateIDs.isEmpty || aggregateIDs.contains(aggregate.id))
            && (eventTypes.isEmpty || eventTypes.contains(type))
    }
}
