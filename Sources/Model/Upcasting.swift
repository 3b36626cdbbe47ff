public import FoundationEssentials

/// In which schema events and snapshots are delivered.
public struct UpcastingOptions: Hashable, Sendable {
    /// What becomes of an event that an upcaster fails on.
    public enum FailurePolicy: Hashable, Sendable {
        /// The call ends with `UPCAST_FAILED`, which names the event.
        case fail
        /// The event is delivered as it is stored, with ``RecordedEvent/upcastFailure`` set.
        case raw
    }

    /// Everything is delivered as it is stored.
    public var isRaw: Bool
    /// What becomes of an event that an upcaster fails on.
    public var onFailure: FailurePolicy
    /// Chains stop at these schema versions instead of the latest: a chain that has come to the type goes
    /// no further than that version. At most ``Limits/filterValuesMax``.
    public var stopAt: [EventType: UInt32]

    /// Options of those parts.
    public init(isRaw: Bool = false, onFailure: FailurePolicy = .fail, stopAt: [EventType: UInt32] = [:]) {
        self.isRaw = isRaw
        self.onFailure = onFailure
        self.stopAt = stopAt
    }

    /// Everything in the latest schema that the tenant's upcasters lead to.
    public static let latest = UpcastingOptions()
    /// Everything as it is stored.
    public static let raw = UpcastingOptions(isRaw: true)
}

/// An event that an upcaster failed on.
public struct FailedUpcast: Hashable, Sendable, CustomStringConvertible {
    /// The event's position.
    public var position: Position
    /// The event's id.
    public var eventID: UUID
    /// The type that the failing step is registered for.
    public var eventType: String
    /// The schema version that the failing step starts from.
    public var fromVersion: UInt32
    /// Index of the failing operation in its step.
    public var operation: Int
    /// The JSON Pointer at which it failed.
    public var path: String
    /// What is wrong, for a person.
    public var complaint: String

    /// A failure of those parts.
    public init(
        position: Position, eventID: UUID, eventType: String, fromVersion: UInt32, operation: Int, path: String,
        complaint: String
    ) {
        self.position = position
        self.eventID = eventID
        self.eventType = eventType
        self.fromVersion = fromVersion
        self.operation = operation
        self.path = path
        self.complaint = complaint
    }

    /// The step, the operation, the path and what is wrong.
    public var description: String {
        "\(eventType) \(fromVersion) to \(fromVersion + 1), operation \(operation)"
            + (path.isEmpty ? "" : ", at \(path)") + ": \(complaint)"
    }
}
