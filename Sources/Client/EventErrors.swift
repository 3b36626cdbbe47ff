public import FoundationEssentials
public import MartletModel

/// An event that the program cannot read. It never holds the payload.
public struct EventUndecodable: Error, Hashable, Sendable, CustomStringConvertible {
    /// The event's id.
    public var eventID: UUID
    /// The aggregate that it belongs to.
    public var aggregate: AggregateName
    /// Its version there.
    public var version: MartletModel.Version
    /// Its position.
    public var position: Position
    /// Its type, as it was delivered.
    public var type: EventType
    /// Its schema version, as it was delivered.
    public var schemaVersion: UInt32
    /// The program has no payload of the type.
    public var isUnknownType: Bool
    /// What is wrong, for a person.
    public var complaint: String

    package init(_ event: RecordedEvent, isUnknownType: Bool = false, _ complaint: String) {
        eventID = event.event.id
        aggregate = event.aggregate
        version = event.version
        position = event.position
        type = event.event.type
        schemaVersion = event.event.schemaVersion
        self.isUnknownType = isUnknownType
        self.complaint = complaint
    }

    /// Which event, and what is wrong.
    public var description: String {
        "event \(eventID) (\(type) \(schemaVersion), version \(version) of \(aggregate), position \(position)): "
            + complaint
    }
}

/// An event that cannot be stored, as it could not be read again. It never holds the payload.
public struct EventUnencodable: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, for a person.
    public let description: String

    package init(description: String) { self.description = description }
}

/// What a coder complains about and where, without any of the values.
package func codingFault(_ error: any Error) -> String {
    func path(_ context: [any CodingKey]) -> String {
        context.isEmpty ? "at the top level" : "at " + context.map(\.stringValue).joined(separator: ".")
    }
    switch error {
    case DecodingError.keyNotFound(let key, let context):
        return "'\(key.stringValue)' is missing \(path(context.codingPath))"
    case DecodingError.typeMismatch(let type, let context): return "not of type \(type) \(path(context.codingPath))"
    case DecodingError.valueNotFound(let type, let context): return "null for \(type) \(path(context.codingPath))"
    case DecodingError.dataCorrupted(let context): return "malformed \(path(context.codingPath))"
    case EncodingError.invalidValue(_, let context): return "not encodable \(path(context.codingPath))"
    case let fault as JSONText.Fault: return "not JSON at byte \(fault.offset)"
    default: return "\(type(of: error))"
    }
}
