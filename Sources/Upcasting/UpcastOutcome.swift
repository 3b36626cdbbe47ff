public import MartletModel

/// What became of an event or a snapshot.
public enum UpcastOutcome: Hashable, Sendable {
    /// No step concerns it: it is delivered as stored, and nothing was written.
    case unchanged
    /// The steps were applied and the new payload was written.
    case upcast(Upcast)
    /// A step could not be applied; nothing was written.
    case failed(UpcastFailure)
}

/// What an upcast payload is delivered as.
public struct Upcast: Hashable, Sendable {
    /// The event type, after renames, or the aggregate type, which stays.
    public var subject: UpcasterSubject
    /// The schema version of the new payload.
    public var schemaVersion: UInt32

    /// An upcast of those parts.
    public init(subject: UpcasterSubject, schemaVersion: UInt32) {
        self.subject = subject
        self.schemaVersion = schemaVersion
    }

    /// The event type; nil for a snapshot.
    public var eventType: EventType? {
        switch subject {
        case .event(let type): type
        case .snapshot: nil
        }
    }
}

/// Why a payload could not be upcast. It holds no text of the payload.
public struct UpcastFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// The subject of the step that failed: an event type as it was named by then.
    public var subject: UpcasterSubject
    /// The schema version from which the step goes.
    public var fromVersion: UInt32
    /// Index of the operation in its step, from 0; nil where the payload as a whole is to blame.
    public var operation: Int?
    /// The operation's JSON Pointer; a `*` that stood for an element of an array is replaced by its index.
    public var pointer: String
    /// What is wrong, for a person.
    public var complaint: String

    /// A failure of those parts.
    public init(
        subject: UpcasterSubject, fromVersion: UInt32, operation: Int?, pointer: String, complaint: String
    ) {
        self.subject = subject
        self.fromVersion = fromVersion
        self.operation = operation
        self.pointer = pointer
        self.complaint = complaint
    }

    /// As in `event OrderPlaced from 1, operations[2] at /items/3/price: …`.
    public var description: String {
        var text = "\(subject) from \(fromVersion)"
        if let operation { text += ", operations[\(operation)] at \(pointer.isEmpty ? "the whole payload" : pointer)" }
        return text + ": " + complaint
    }
}
