public import FoundationEssentials

/// An event's number within its aggregate: 1, 2, 3 … without a gap; 0 stands for "no events".
public struct Version: RawRepresentable, Hashable, Comparable, Sendable, ExpressibleByIntegerLiteral,
    CustomStringConvertible
{
    /// The number.
    public var rawValue: UInt64

    /// That version.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// That version.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// That version.
    public init(integerLiteral rawValue: UInt64) { self.rawValue = rawValue }

    /// The version of an aggregate without events.
    public static let none = Version(0)

    /// Above every version; SQL engines count in signed 64 bits.
    public static let max = Version(UInt64(Int64.max))

    /// The version that follows; the highest number is followed by itself.
    public var next: Version { Version(rawValue == .max ? .max : rawValue + 1) }

    /// The number as text.
    public var description: String { String(rawValue) }

    /// Versions sort by number.
    public static func < (a: Version, b: Version) -> Bool { a.rawValue < b.rawValue }
}

/// An event's number within its tenant: 1, 2, 3 … without a gap, in commit order; 0 stands for
/// "before the first".
public struct Position: RawRepresentable, Hashable, Comparable, Sendable, ExpressibleByIntegerLiteral,
    CustomStringConvertible
{
    /// The number.
    public var rawValue: UInt64

    /// That position.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// That position.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// That position.
    public init(integerLiteral rawValue: UInt64) { self.rawValue = rawValue }

    /// Before the first event.
    public static let start = Position(0)

    /// Above every position; SQL engines count in signed 64 bits.
    public static let max = Position(UInt64(Int64.max))

    /// The position that follows; the highest number is followed by itself.
    public var next: Position { Position(rawValue == .max ? .max : rawValue + 1) }

    /// The number as text.
    public var description: String { String(rawValue) }

    /// Positions sort by number.
    public static func < (a: Position, b: Position) -> Bool { a.rawValue < b.rawValue }
}

/// A moment in microseconds since 1970 UTC.
public struct Timestamp: Hashable, Comparable, Sendable {
    /// Microseconds since 1970 UTC.
    public var microseconds: Int64

    /// That moment.
    public init(microseconds: Int64) { self.microseconds = microseconds }

    /// The moment by the system's clock.
    public static func now() -> Timestamp {
        Timestamp(microseconds: Int64((Date().timeIntervalSince1970 * 1_000_000).rounded(.down)))
    }

    /// Moments sort by time.
    public static func < (a: Timestamp, b: Timestamp) -> Bool { a.microseconds < b.microseconds }
}

/// The end of a tenant's events.
public struct TenantHead: Hashable, Sendable {
    /// The last position; ``Position/start`` without events.
    public var position: Position
    /// Commit time of the last event; 0 without events.
    public var recordedAt: Timestamp
    /// Id of the last event: two heads of one tenant with the same id and commit time have the same past. Nil without events,
    /// and in what clients get.
    public var eventID: UUID?

    /// A head at that position.
    public init(position: Position, recordedAt: Timestamp, eventID: UUID? = nil) {
        self.position = position
        self.recordedAt = recordedAt
        self.eventID = eventID
    }

    /// The head of a tenant without events.
    public static let empty = TenantHead(position: .start, recordedAt: Timestamp(microseconds: 0))
}

/// An event of a tenant by its place and its name: only where both still go together, the past is the same up to it.
public struct EventMark: Hashable, Sendable {
    /// Its position.
    public var position: Position
    /// Its id.
    public var eventID: UUID

    /// A mark of those parts.
    public init(position: Position, eventID: UUID) {
        self.position = position
        self.eventID = eventID
    }
}

/// Tells the time. Injected wherever time matters, so that a test can hold it still.
public typealias Clock = @Sendable () -> Timestamp
