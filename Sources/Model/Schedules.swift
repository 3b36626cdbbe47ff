public import FoundationEssentials
import NIOCore

/// Names a schedule within its tenant: 1 to 128 bytes of `[A-Za-z0-9_.:-]`.
public struct ScheduleKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The text.
    public let text: String

    /// The key of that text; nil if the text is not allowed.
    public init?(_ text: String) {
        guard PlainName.allows(text) else { return nil }
        self.text = text
    }

    /// The text.
    public var description: String { text }

    /// Keys sort by their text.
    public static func < (a: ScheduleKey, b: ScheduleKey) -> Bool { a.text < b.text }
}

/// An event that is appended when its time has come: once, whatever restarts, and never before.
public struct NewSchedule: Hashable, Sendable {
    /// Names the schedule: a schedule that has the same one is moved.
    public var key: ScheduleKey
    /// When the event is appended: at once where that is past. From 1970 to ``Timestamp/latest``.
    public var due: Timestamp
    /// What it is appended to, whatever version that has then.
    public var aggregate: AggregateName
    /// The event. Its id is the schedule's own: once it is stored, setting the schedule again changes nothing.
    public var event: EncodedEvent
    /// It is not appended at all where it would be later than that, in milliseconds, 1 or more; nil is however late.
    public var latenessMillisMax: UInt64?

    /// A schedule of those parts.
    public init(
        _ key: ScheduleKey, due: Timestamp, aggregate: AggregateName, event: EncodedEvent,
        latenessMillisMax: UInt64? = nil
    ) {
        self.key = key
        self.due = due
        self.aggregate = aggregate
        self.event = event
        self.latenessMillisMax = latenessMillisMax
    }

    /// The most that ``latenessMillisMax`` may be: about 285 years.
    public static let latenessMillisLimit: UInt64 = 9_000_000_000_000

    /// Bytes that it takes as it is stored, about.
    public var contentBytes: Int { event.body.readableBytes + 256 }
}

/// A schedule whose time has come, as it was read.
public struct ScheduleFiring: Hashable, Sendable {
    /// Its key.
    public var key: ScheduleKey
    /// When its event was to be appended.
    public var due: Timestamp
    /// ``NewSchedule/latenessMillisMax``.
    public var latenessMillisMax: UInt64?

    /// A firing of those parts.
    public init(_ key: ScheduleKey, due: Timestamp, latenessMillisMax: UInt64?) {
        self.key = key
        self.due = due
        self.latenessMillisMax = latenessMillisMax
    }

    /// Whether it is too late for the event to be appended.
    public func isMissed(at now: Timestamp) -> Bool {
        guard let latenessMillisMax, now > due else { return false }
        return UInt64(now.microseconds - due.microseconds) / 1_000 > latenessMillisMax
    }
}

/// A change of one schedule.
public enum ScheduleChange: Hashable, Sendable {
    /// Sets it: makes it, or replaces the one of its key.
    case set(NewSchedule)
    /// Deletes it.
    case cancel(ScheduleKey)

    /// The schedule.
    public var key: ScheduleKey {
        switch self {
        case .set(let schedule): schedule.key
        case .cancel(let key): key
        }
    }

    /// At most so many changes in one call, each of another schedule.
    public static let countMax = 100

    /// Bytes that it carries, about.
    public var contentBytes: Int {
        switch self {
        case .set(let schedule): schedule.contentBytes
        case .cancel: 128
        }
    }
}

/// Sets and cancels schedules of a tenant: all of it or nothing.
public struct ChangeSchedulesRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// 1 to ``ScheduleChange/countMax`` changes, each of another schedule.
    public var changes: [ScheduleChange]

    /// A request of those parts.
    public init(tenant: TenantID, _ changes: [ScheduleChange]) {
        self.tenant = tenant
        self.changes = changes
    }
}

/// What became of a change of a schedule.
public enum ScheduleChanged: Hashable, Sendable {
    /// It is set; no schedule had its key.
    case set
    /// It is set, in the place of one that had its key.
    case moved
    /// It is deleted.
    case cancelled
    /// There is none of that key, or none any more: nothing was deleted.
    case absent
    /// Its event is stored already: nothing was set.
    case fired
}

/// Lists schedules of a tenant, in the order of their keys.
public struct ListSchedulesRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// Only those above this key; nil begins with the first.
    public var after: ScheduleKey?
    /// Only those that are parked.
    public var isParkedOnly: Bool
    /// At most so many, 1 to ``countMax``.
    public var count: Int

    /// A request of those parts.
    public init(
        tenant: TenantID, after: ScheduleKey? = nil, isParkedOnly: Bool = false, count: Int = countMax
    ) {
        self.tenant = tenant
        self.after = after
        self.isParkedOnly = isParkedOnly
        self.count = count
    }

    /// An answer has at most so many.
    public static let countMax = 500
}

/// A schedule that is still to be appended, or could not be.
public struct ListedSchedule: Hashable, Sendable {
    /// Its key.
    public var key: ScheduleKey
    /// When its event is appended.
    public var due: Timestamp
    /// What it is appended to.
    public var aggregate: AggregateName
    /// The event's id.
    public var eventID: UUID
    /// The event's type.
    public var eventType: EventType
    /// Bytes of the event's payload.
    public var payloadBytes: Int
    /// ``NewSchedule/latenessMillisMax``.
    public var latenessMillisMax: UInt64?
    /// Why its event could not be appended when it was due: it is parked until it is set again, or cancelled. Nil where it
    /// is still to come.
    public var parked: String?

    /// A schedule of those parts.
    public init(
        _ key: ScheduleKey, due: Timestamp, aggregate: AggregateName, eventID: UUID, eventType: EventType,
        payloadBytes: Int, latenessMillisMax: UInt64? = nil, parked: String? = nil
    ) {
        self.key = key
        self.due = due
        self.aggregate = aggregate
        self.eventID = eventID
        self.eventType = eventType
        self.payloadBytes = payloadBytes
        self.latenessMillisMax = latenessMillisMax
        self.parked = parked
    }
}
