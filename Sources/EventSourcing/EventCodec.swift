public import FoundationEssentials
public import MartletModel
import NIOCore

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
    /// No case of the program's events has the type.
    public var isUnknownType: Bool
    /// What is wrong, for a person.
    public var complaint: String

    init(_ event: RecordedEvent, isUnknownType: Bool = false, _ complaint: String) {
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
    public var description: String
}

/// A stored event, as the program knows it.
public enum DecodedEvent<Event: Sendable>: Sendable {
    /// An event of today.
    case event(Event)
    /// An event of an unknown type, as it is stored; by ``UnknownEvents/keep``.
    case unknown(RecordedEvent)
}

/// Turns an aggregate's events into stored ones and back, with its upcasters. For events that come from a read or a
/// subscription; a ``Repository`` has one of its own.
public struct EventCodec<A: Aggregate>: Sendable {
    private let kindsByName: [ExactText: Schema<A>.Kind]
    private let kindsByCase: [ExactText: Schema<A>.Kind]
    private let whole: Schema<A>.Kind?
    private let chains: EventChains
    private let cases = CaseCoding<A.Event>()
    private let unknown: UnknownEvents
    let snapshots: SnapshotChain

    /// Checks the schema.
    /// - Throws: the first defect of the schema.
    public init(_ schema: Schema<A> = A.schema) throws(SchemaError) {
        var byName: [ExactText: Schema<A>.Kind] = [:]
        var byCase: [ExactText: Schema<A>.Kind] = [:]
        var whole: Schema<A>.Kind?
        for kind in schema.kinds {
            guard EventType(kind.name) != nil, kind.version >= 1 else {
                throw SchemaError(
                    .invalid,
                    "'\(kind.name)' \(kind.version): a type has 1 to 256 bytes without control characters, and "
                        + "versions start at 1")
            }
            guard byName.updateValue(kind, forKey: ExactText(kind.name)) == nil else {
                throw SchemaError(.duplicate, "the event type \(kind.name) is declared twice")
            }
            guard let caseName = kind.caseName else {
                whole = kind
                continue
            }
            guard byCase.updateValue(kind, forKey: ExactText(caseName)) == nil else {
                throw SchemaError(.duplicate, "the case \(caseName) is declared twice")
            }
            if case .noSuchCase = cases.shape(of: caseName) {
                throw SchemaError(.noSuchCase, "\(A.Event.self) has no case with the coding key '\(caseName)'")
            }
        }
        if let whole, byName.count > 1 {
            throw SchemaError(.duplicate, "\(whole.name) is the whole event, so no other type can be declared")
        }
        kindsByName = byName
        kindsByCase = byCase
        self.whole = whole
        unknown = schema.unknown
        snapshots = try SnapshotChain(schema.snapshotSteps, current: schema.snapshotVersion)
        let cases = cases
        chains = try EventChains(schema.steps) { name in
            Self.kind(name, byName, byCase, isWhole: whole != nil, cases)?.version
        }
    }

    /// Today's event type of that name; a case that nothing was said about is one in version 1.
    private static func kind(
        _ name: String, _ byName: [ExactText: Schema<A>.Kind], _ byCase: [ExactText: Schema<A>.Kind], isWhole: Bool,
        _ cases: CaseCoding<A.Event>
    ) -> Schema<A>.Kind? {
        if let kind = byName[ExactText(name)] { return kind }
        // A case that has another name in the store is not known by its own.
        guard byCase[ExactText(name)] == nil, !isWhole else { return nil }
        if case .noSuchCase = cases.shape(of: name) { return nil }
        return Schema<A>.Kind(name: name, version: 1, caseName: name)
    }

    /// Upcasters in the server are not to go beyond what this program knows.
    var upcasting: UpcastingOptions {
        var options = UpcastingOptions.latest
        for kind in kindsByName.values.prefix(Limits().filterValuesMax) {
            if let type = EventType(kind.name) { options.stopAt[type] = kind.version }
        }
        return options
    }

    /// The event as it is stored, in today's version. It is read back first: what could not be read is not stored.
    /// - Throws: ``EventUnencodable``.
    public func encode(
        _ event: A.Event, id: UUID = .v7(), metadata: EventMetadata = .empty
    ) throws(EventUnencodable) -> NewEvent { try encodeAndReadBack(event, id: id, metadata: metadata).stored }

    /// The event as it is stored, and as every later reader gets it.
    package func encodeAndReadBack(
        _ event: A.Event, id: UUID, metadata: EventMetadata
    ) throws(EventUnencodable) -> (stored: NewEvent, event: A.Event) {
        do {
            let kind: Schema<A>.Kind
            let payload: ByteBuffer
            let readBack: A.Event
            if let whole {
                kind = whole
                payload = try EventJSON.encode(event)
                readBack = try EventJSON.decode(A.Event.self, from: payload)
            } else {
                guard let parts = try cases.split(event) else {
                    throw EventUnencodable(
                        description: "\(A.Event.self) is not an enum with synthesized Codable: declare wholeEvent(_:)")
                }
                kind =
                    kindsByCase[ExactText(parts.name)]
                    ?? Schema<A>.Kind(name: parts.name, version: 1, caseName: parts.name)
                payload = parts.payload
                readBack = try cases.join(parts.name, payload)
            }
            guard let type = EventType(kind.name) else {
                throw EventUnencodable(description: "'\(kind.name)' is not an event type: a type has 1 to 256 bytes")
            }
            return (
                NewEvent(id: id, type: type, schemaVersion: kind.version, metadata: metadata, payload: payload),
                readBack
            )
        } catch let error as EventUnencodable {
            throw error
        } catch {
            throw EventUnencodable(
                description: "an event of \(A.type) cannot be encoded and decoded again: \(codingFault(error))")
        }
    }

    /// What a stored event is today: one event, several or none.
    /// - Throws: ``EventUndecodable``.
    public func decode(_ event: RecordedEvent) throws(EventUndecodable) -> [DecodedEvent<A.Event>] {
        try decode(event, unknown: unknown)
    }

    func decode(
        _ event: RecordedEvent, unknown: UnknownEvents
    ) throws(EventUndecodable) -> [DecodedEvent<A.Event>] {
        if let failure = event.upcastFailure {
            throw EventUndecodable(event, "an upcaster in the server failed on it: \(failure)")
        }
        var decoded: [DecodedEvent<A.Event>] = []
        // The last is the next; chains have no circle, so this ends.
        var waiting = [
            (EventVersion(name: event.event.type.text, version: event.event.schemaVersion), event.event.payload)
        ]
        while let (at, payload) = waiting.popLast() {
            if let step = chains.steps[at] {
                waiting += try run(step, on: payload, of: event).reversed()
                continue
            }
            guard
                let kind = Self.kind(at.name, kindsByName, kindsByCase, isWhole: whole != nil, cases)
            else {
                switch unknown {
                case .fail: throw EventUndecodable(event, isUnknownType: true, "no event of \(A.type) has the type")
                case .skip: continue
                case .keep:
                    decoded.append(.unknown(event))
                    continue
                }
            }
            decoded.append(.event(try read(kind, at, payload, of: event)))
        }
        return decoded
    }

    private func read(
        _ kind: Schema<A>.Kind, _ at: EventVersion, _ payload: ByteBuffer, of event: RecordedEvent
    ) throws(EventUndecodable) -> A.Event {
        guard at.version == kind.version else {
            throw EventUndecodable(
                event,
                at.version > kind.version
                    ? "this program reads \(kind.name) up to schema version \(kind.version): update it"
                    : "there is no upcaster for \(kind.name) from schema version \(at.version)")
        }
        do {
            // Cases are read by writing JSON around the payload, which therefore must be JSON itself.
            _ = unsafe try payload.withUnsafeReadableBytes { bytes in unsafe try JSONText.check(bytes) }
            guard let caseName = kind.caseName else { return try EventJSON.decode(A.Event.self, from: payload) }
            return try cases.join(caseName, payload)
        } catch {
            throw EventUndecodable(event, "its payload cannot be decoded as \(at): \(codingFault(error))")
        }
    }

    private func run(
        _ step: EventStep, on payload: ByteBuffer, of event: RecordedEvent
    ) throws(EventUndecodable) -> [(EventVersion, ByteBuffer)] {
        do {
            return try step.transform(payload).map { output in
                guard let version = step.outputs[ExactText(output.name)] else {
                    throw EventUndecodable(
                        event,
                        "its upcaster from \(step.name) \(step.from) returned a \(output.name), "
                            + "which into: does not declare")
                }
                return (EventVersion(name: output.name, version: version), try output.payload())
            }
        } catch let error as EventUndecodable {
            throw error
        } catch {
            throw EventUndecodable(
                event, "its upcaster from \(step.name) \(step.from) failed: \(codingFault(error))")
        }
    }
}

/// What a coder complains about and where, without any of the values.
func codingFault(_ error: any Error) -> String {
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
