public import FoundationEssentials

/// What a consumer orders events by: those of one key are handled one after the other, those of different keys at the
/// same time.
///
/// Keys are made of what is stored, so that no upcaster moves an event to another key.
public enum KeyRule: Hashable, Sendable {
    /// The event's aggregate.
    case aggregate
    /// The type of the event's aggregate.
    case aggregateType
    /// The value of that tag in the event's metadata; where the event has no such tag, its aggregate.
    case tag(String)

    /// Whether they are the same; tags are, where their bytes are, as everywhere.
    public static func == (a: KeyRule, b: KeyRule) -> Bool {
        switch (a, b) {
        case (.aggregate, .aggregate), (.aggregateType, .aggregateType): true
        case (.tag(let a), .tag(let b)): a.utf8.elementsEqual(b.utf8)
        default: false
        }
    }

    /// Hashes what is compared.
    public func hash(into hasher: inout Hasher) {
        switch self {
        case .aggregate: hasher.combine(0)
        case .aggregateType: hasher.combine(1)
        case .tag(let name):
            hasher.combine(2)
            name.hashBytes(into: &hasher)
        }
    }
}

/// The key of an event.
///
/// As bytes: `a:`, the aggregate's type, `/` and its id in lower-case hexadecimal with hyphens; or `t:` and the type; or
/// `g:` and the tag's value. What is longer than 256 bytes is cut there: events whose keys begin alike are then of one key,
/// and handled one after the other.
public struct ConsumerKey: Hashable, Sendable, CustomStringConvertible {
    /// Length of the longest key, in bytes.
    public static let bytesMax = 256

    /// The key, at most ``bytesMax`` bytes.
    public let bytes: [UInt8]

    /// The key of those bytes, as it was stored; what is beyond ``bytesMax`` is dropped.
    public init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes.prefix(Self.bytesMax)) }

    /// The key of an event of that aggregate and those tags.
    public init(_ rule: KeyRule, aggregate: AggregateName, tag: (String) -> String?) {
        switch rule {
        case .aggregate: self.init(bytes: "a:\(aggregate)".utf8)
        case .aggregateType: self.init(bytes: "t:\(aggregate.type)".utf8)
        case .tag(let name):
            if let value = tag(name) {
                self.init(bytes: "g:\(value)".utf8)
            } else {
                self.init(.aggregate, aggregate: aggregate, tag: tag)
            }
        }
    }

    /// The key of an aggregate.
    /// - Parameter type: the text of its type.
    public init(aggregateType type: Span<UInt8>, id: UUID) {
        let id = id.bytes
        self.init(aggregateType: type, id: id.span)
    }

    /// The key of an aggregate.
    /// - Parameters:
    ///   - type: the text of its type.
    ///   - id: its id, 16 bytes.
    public init(aggregateType type: Span<UInt8>, id: Span<UInt8>) {
        let count = min(type.count, Self.bytesMax - 2)
        // One for each event that a worker gets: made in place.
        bytes = Array(capacity: 2 + count + 37) { output in
            output.append(UInt8(ascii: "a"))
            output.append(UInt8(ascii: ":"))
            for index in 0..<count { output.append(type[index]) }
            output.append(UInt8(ascii: "/"))
            for index in id.indices {
                if index == 4 || index == 6 || index == 8 || index == 10 { output.append(UInt8(ascii: "-")) }
                output.append(Self.digit(id[index] >> 4))
                output.append(Self.digit(id[index] & 15))
            }
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") - 10 + value
    }

    /// The key of a type of aggregates.
    /// - Parameter type: its text.
    public init(aggregateType type: Span<UInt8>) { bytes = Self.start("t:", type) }

    /// The key of that value of a tag.
    public init(tagValue: Span<UInt8>) { bytes = Self.start("g:", tagValue) }

    private static func start(_ kind: String, _ text: Span<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        let count = min(text.count, bytesMax - 2)
        bytes.reserveCapacity(2 + count)
        bytes.append(contentsOf: kind.utf8)
        for index in 0..<count { bytes.append(text[index]) }
        return bytes
    }

    /// The key as text; what is no UTF-8 is replaced.
    public var description: String { String(decoding: bytes, as: UTF8.self) }

    /// The slot that the key belongs to, of so many: FNV-1a with 64 bits over the bytes (Fowler, Noll, Vo; RFC 9923), its
    /// upper half xor its lower one, modulo the count.
    ///
    /// - Parameter count: 1 or more.
    public func slot(of count: Int) -> Int {
        var hash = KeyHash()
        for byte in bytes { hash.add(byte) }
        return hash.slot(of: count)
    }

    /// The slot of the key of an aggregate, without making the key: as ``slot(of:)`` of that key.
    /// - Parameters:
    ///   - type: the text of its type.
    ///   - id: its id, 16 bytes.
    ///   - count: 1 or more.
    public static func slot(aggregateType type: Span<UInt8>, id: Span<UInt8>, of count: Int) -> Int {
        var hash = KeyHash("a", type)
        hash.add(UInt8(ascii: "/"))
        for index in id.indices {
            if index == 4 || index == 6 || index == 8 || index == 10 { hash.add(UInt8(ascii: "-")) }
            hash.add(hexadecimal: id[index] >> 4)
            hash.add(hexadecimal: id[index] & 15)
        }
        return hash.slot(of: count)
    }

    /// The slot of the key of a type of aggregates, without making the key: as ``slot(of:)`` of that key.
    public static func slot(aggregateType type: Span<UInt8>, of count: Int) -> Int {
        KeyHash("t", type).slot(of: count)
    }

    /// The slot of the key of a tag's value, without making the key: as ``slot(of:)`` of that key.
    public static func slot(tagValue: Span<UInt8>, of count: Int) -> Int { KeyHash("g", tagValue).slot(of: count) }

    /// Hashes the bytes, all at once.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(bytes.count)
        unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    }
}

/// The hash that keys are divided by: see ``ConsumerKey/slot(of:)``.
private struct KeyHash {
    private var value: UInt64 = 0xcbf2_9ce4_8422_2325

    init() {}

    /// Of the beginning of a key of that kind, cut as the key is.
    init(_ kind: Unicode.Scalar, _ text: Span<UInt8>) {
        add(UInt8(ascii: kind))
        add(UInt8(ascii: ":"))
        for index in 0..<min(text.count, ConsumerKey.bytesMax - 2) { add(text[index]) }
    }

    @inline(__always) mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }

    @inline(__always) mutating func add(hexadecimal digit: UInt8) {
        add(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") - 10 + digit)
    }

    func slot(of count: Int) -> Int { Int((value >> 32 ^ value & 0xffff_ffff) % UInt64(count)) }
}
