public import FoundationEssentials
public import MartletClient
public import MartletModel
import NIOCore

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
    private let kindsByType: [EventType: Schema<A>.Kind]
    private let kindsByMark: [Schema<A>.Kind.Mark: Schema<A>.Kind]
    private let chains: EventChains
    private let unknown: UnknownEvents
    let snapshots: SnapshotChain

    /// Checks the schema.
    /// - Throws: the first defect of the schema.
    public init(_ schema: Schema<A> = A.schema) throws(SchemaError) {
        var byType: [EventType: Schema<A>.Kind] = [:]
        var byMark: [Schema<A>.Kind.Mark: Schema<A>.Kind] = [:]
        for kind in schema.kinds {
            guard kind.version >= 1 else {
                throw SchemaError(.invalid, "\(kind.type) is in version \(kind.version): versions start at 1")
            }
            guard byType.updateValue(kind, forKey: kind.type) == nil else {
                throw SchemaError(.duplicate, "the event type \(kind.type) is declared twice")
            }
            guard byMark.updateValue(kind, forKey: kind.mark) == nil else {
                throw SchemaError(.duplicate, "the event that is stored as \(kind.type) is declared twice")
            }
        }
        kindsByType = byType
        kindsByMark = byMark
        unknown = schema.unknown
        snapshots = try SnapshotChain(schema.snapshotSteps, current: schema.snapshotVersion)
        chains = try EventChains(schema.steps) { name in EventType(name).flatMap { byType[$0] }?.version }
    }

    /// Upcasters in the server are not to go beyond what this program knows.
    var upcasting: UpcastingOptions {
        var options = UpcastingOptions.latest
        for kind in kindsByType.values.prefix(Limits().filterValuesMax) { options.stopAt[kind.type] = kind.version }
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
        guard let parts = Schema<A>.Kind.parts(of: event) else {
            throw EventUnencodable(
                description:
                    "an event of \(A.type) is not a case that holds one EventPayload without a label, or nothing")
        }
        guard let kind = kindsByMark[parts.mark] else {
            throw EventUnencodable(description: "an event of \(A.type) is not in its schema: add event(…) for its case")
        }
        let stored =
            if let payload = parts.payload {
                try Self.encode(payload, id: id, metadata: metadata)
            } else {
                NewEvent(id: id, type: kind.type, metadata: metadata, payload: ByteBuffer(string: "{}"))
            }
        do { return (stored, try kind.read(stored.payload)) } catch {
            throw EventUnencodable(description: "a \(kind.type) cannot be decoded again: \(codingFault(error))")
        }
    }

    private static func encode<Payload: EventPayload>(
        _ payload: Payload, id: UUID, metadata: EventMetadata
    ) throws(EventUnencodable) -> NewEvent { try NewEvent(payload, id: id, metadata: metadata) }

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
            guard let kind = EventType(at.name).flatMap({ kindsByType[$0] }) else {
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
                    ? "this program reads \(kind.type) up to schema version \(kind.version): update it"
                    : "there is no upcaster for \(kind.type) from schema version \(at.version)")
        }
        do { return try kind.read(payload) } catch {
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
