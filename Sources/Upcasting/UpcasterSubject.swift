public import MartletModel

/// What a step is about.
public enum UpcasterSubject: Hashable, Sendable, CustomStringConvertible {
    /// Events of a type.
    case event(EventType)
    /// Snapshots of the aggregates of a type.
    case snapshot(AggregateType)

    /// `event OrderPlaced` or `snapshot order`.
    public var description: String {
        switch self {
        case .event(let type): "event \(type)"
        case .snapshot(let type): "snapshot \(type)"
        }
    }

    /// The event type or aggregate type.
    public var text: String {
        switch self {
        case .event(let type): type.text
        case .snapshot(let type): type.text
        }
    }

    var isEvent: Bool {
        switch self {
        case .event: true
        case .snapshot: false
        }
    }
}

/// One step of a set: from one schema version to the next.
public struct UpcasterStepSummary: Hashable, Sendable {
    /// The event type or aggregate type whose payloads it changes.
    public var subject: UpcasterSubject
    /// The schema version that it takes; it gives this one plus 1.
    public var fromVersion: UInt32
    /// How many operations it has.
    public var operationCount: Int
    /// The event type after the step; nil where it stays.
    public var newType: EventType?

    /// A summary of those parts.
    public init(subject: UpcasterSubject, fromVersion: UInt32, operationCount: Int, newType: EventType?) {
        self.subject = subject
        self.fromVersion = fromVersion
        self.operationCount = operationCount
        self.newType = newType
    }
}
