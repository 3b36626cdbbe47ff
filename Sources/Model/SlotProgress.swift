public import FoundationEssentials

/// A place in a tenant's events: everything up to it is settled.
public struct Checkpoint: Hashable, Sendable {
    /// The position; 0 is before the first event.
    public var position: Position
    /// The id of the event there; nil at position 0.
    public var eventID: UUID?

    /// Before the first event.
    public static let start = Checkpoint(position: .start, eventID: nil)

    /// The place of that event.
    public init(position: Position, eventID: UUID?) {
        self.position = position
        self.eventID = eventID
    }
}

/// A key whose events are not handled right now: the first of them failed.
public struct BlockedKey: Hashable, Sendable {
    /// Until when.
    public enum Until: Hashable, Sendable {
        /// It is tried again by itself at that time.
        case retry(at: Timestamp)
        /// Somebody retries or skips it.
        case asked
    }

    /// Length of the longest reason, in bytes of UTF-8.
    public static let reasonBytesMax = 1_024

    /// The first event that is not handled; everything of the key before it is.
    public var first: Checkpoint
    /// ``first`` was handled after all, or skipped: the key goes on behind it.
    public var isFirstHandled = false
    /// When it is tried again.
    public var until: Until
    /// Why the last try failed, in the worker's words, at most ``reasonBytesMax`` bytes.
    public private(set) var reason: String
    /// How often the first event was tried.
    public var tries: UInt32
    /// When the first of these tries failed.
    public var since: Timestamp

    /// A blocked key of those parts; a longer reason is cut at a character.
    public init(first: Checkpoint, until: Until, reason: String, tries: UInt32, since: Timestamp) {
        self.first = first
        self.until = until
        self.tries = tries
        self.since = since
        self.reason = Self.plain(reason)
    }

    /// Gives another reason; a longer one is cut at a character.
    public mutating func setReason(_ reason: String) { self.reason = Self.plain(reason) }

    /// Without U+0000, for which PostgreSQL's text has no place.
    private static func plain(_ reason: String) -> String {
        cut(reason.contains("\0") ? reason.split(separator: "\0").joined(separator: " ") : reason)
    }

    /// The beginning of a reason that is not longer than ``reasonBytesMax``, cut at a character.
    public static func cut(_ reason: String) -> String {
        guard reason.utf8.count > reasonBytesMax else { return reason }
        var end = reason.utf8.index(reason.utf8.startIndex, offsetBy: reasonBytesMax)
        while end.samePosition(in: reason) == nil { end = reason.utf8.index(before: end) }
        return String(reason[..<end])
    }
}

/// What is stored of a slot.
public struct SlotProgress: Hashable, Sendable {
    /// Everything up to here is acknowledged, or skipped, or belongs to a blocked key.
    public var floor: Checkpoint
    /// The keys that are blocked.
    public var blocked: [ConsumerKey: BlockedKey]

    /// Progress of those parts.
    public init(floor: Checkpoint = .start, blocked: [ConsumerKey: BlockedKey] = [:]) {
        self.floor = floor
        self.blocked = blocked
    }
}

/// A change of what is stored of a slot; all of it or none, and only while the slot has that epoch.
public struct SlotChange: Hashable, Sendable {
    /// The epoch under which it was made.
    public var epoch: UInt64
    /// The floor that is stored.
    public var from: Checkpoint
    /// The floor afterwards, not below `from`.
    public var to: Checkpoint
    /// Blocked keys as they are afterwards; nil for keys that are no longer blocked.
    public var blocked: [ConsumerKey: BlockedKey?]

    /// A change of those parts.
    public init(epoch: UInt64, from: Checkpoint, to: Checkpoint, blocked: [ConsumerKey: BlockedKey?]) {
        self.epoch = epoch
        self.from = from
        self.to = to
        self.blocked = blocked
    }
}
