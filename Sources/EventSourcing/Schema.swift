public import MartletClient
public import MartletModel
public import NIOCore

/// What becomes of a stored event whose type the program does not know.
public enum UnknownEvents: Hashable, Sendable {
    /// The load fails with ``EventUndecodable``.
    case fail
    /// It is left out; counted in ``RepositoryFigures/unknownEventsSkipped``.
    case skip
    /// ``Aggregate/applyUnknown(_:)`` gets it as it is stored.
    case keep
}

/// How an aggregate's events and snapshots are stored: its event types with today's schema versions, and how those of old
/// versions become those of today. Stored events are never changed.
///
/// ```swift
/// static let schema = Schema<Account>()
///     .event(Event.opened)
///     .event(Event.deposited)
///     .event("Closed", Event.closed)
///     .upcast("Opened", from: 1) { (old: OpenedV1) in OpenedV2(owner: old.name) }
///     .upcast("Opened", from: 2) { (old: OpenedV2) in Opened(owner: old.owner, currency: "EUR") }
///     .snapshot(version: 2)
///     .upcastSnapshot(from: 1) { (old: StateV1) in Account(migrating: old) }
/// ```
///
/// It is a list only: ``EventCodec/init(_:)`` and ``Repository`` check it as a whole, and refuse a step that is there
/// twice, a chain with a gap, and a circle.
public struct Schema<A: Aggregate>: Sendable {
    /// An event type of today.
    struct Kind: Sendable {
        /// How an event of the type is told from the aggregate's others.
        enum Mark: Hashable, Sendable {
            /// It holds a payload of that type.
            case payload(ObjectIdentifier)
            /// It is that case, which holds nothing.
            case bare(String)
        }

        var type: EventType
        var version: UInt32
        var mark: Mark
        var read: @Sendable (ByteBuffer) throws -> A.Event
    }

    var kinds: [Kind] = []
    var steps: [EventStep] = []
    var snapshotVersion: UInt32 = 1
    var snapshotSteps: [SnapshotStep] = []
    var unknown = UnknownEvents.fail

    /// No event types, no upcasters; an event of an unknown type fails the load.
    public init() {}

    private func with(_ change: (inout Schema) -> Void) -> Schema {
        var schema = self
        change(&schema)
        return schema
    }

    /// A case of `A.Event` that holds a payload: stored as the payload says, under its type and schema version.
    /// - Parameter make: the case: `Event.opened`. If `A.Event` is itself a payload, `{ $0 }`.
    public func event<Payload: EventPayload>(_ make: @escaping @Sendable (Payload) -> A.Event) -> Schema {
        with {
            $0.kinds.append(
                Kind(
                    type: Payload.eventType, version: Payload.schemaVersion,
                    mark: .payload(ObjectIdentifier(Payload.self)),
                    read: { make(try Payload(payload: $0)) }))
        }
    }

    /// A case of `A.Event` that holds nothing: stored under that type, with `{}` as its payload.
    public func event(_ type: EventType, _ event: A.Event) -> Schema {
        with {
            $0.kinds.append(Kind(type: type, version: 1, mark: .bare(Kind.caseName(of: event)), read: { _ in event }))
        }
    }

    /// Events of that type and version become those of the next version; typed.
    public func upcast<Old: Decodable & SendableMetatype, New: Encodable & SendableMetatype>(
        _ name: String, from version: UInt32, _ transform: @escaping @Sendable (Old) throws -> New
    ) -> Schema {
        upcastBytes(name, from: version) { bytes in
            try EventJSON.encode(transform(EventJSON.decode(Old.self, from: bytes)))
        }
    }

    /// Events of that type and version become those of the next version; on payloads of any kind.
    public func upcastBytes(
        _ name: String, from version: UInt32, _ transform: @escaping @Sendable (ByteBuffer) throws -> ByteBuffer
    ) -> Schema {
        with {
            $0.steps.append(
                EventStep(name: name, from: version, outputs: [ExactText(name): version + 1]) { bytes in
                    [UpcastEvent(name, bytes: try transform(bytes))]
                })
        }
    }

    /// Each event of that type and version becomes any number of others, none included; typed.
    /// - Parameter outputs: the types that may come out, and in which version.
    public func split<Old: Decodable & SendableMetatype>(
        _ name: String, from version: UInt32, into outputs: [ExactText: UInt32],
        _ transform: @escaping @Sendable (Old) throws -> [UpcastEvent]
    ) -> Schema {
        splitBytes(name, from: version, into: outputs) { try transform(EventJSON.decode(Old.self, from: $0)) }
    }

    /// Each event of that type and version becomes any number of others, none included; on payloads of any kind.
    /// - Parameter outputs: the types that may come out, and in which version.
    public func splitBytes(
        _ name: String, from version: UInt32, into outputs: [ExactText: UInt32],
        _ transform: @escaping @Sendable (ByteBuffer) throws -> [UpcastEvent]
    ) -> Schema {
        with { $0.steps.append(EventStep(name: name, from: version, outputs: outputs, transform: transform)) }
    }

    /// The JSON of the aggregate, which is its snapshot, is in that version today.
    public func snapshot(version: UInt32) -> Schema { with { $0.snapshotVersion = version } }

    /// Snapshots of that version become those of the next version; typed.
    public func upcastSnapshot<Old: Decodable & SendableMetatype, New: Encodable & SendableMetatype>(
        from version: UInt32, _ transform: @escaping @Sendable (Old) throws -> New
    ) -> Schema {
        upcastSnapshotBytes(from: version) { bytes in
            try EventJSON.encode(transform(EventJSON.decode(Old.self, from: bytes)))
        }
    }

    /// Snapshots of that version become those of the next version; on states of any kind.
    public func upcastSnapshotBytes(
        from version: UInt32, _ transform: @escaping @Sendable (ByteBuffer) throws -> ByteBuffer
    ) -> Schema {
        with { $0.snapshotSteps.append(SnapshotStep(from: version, transform: transform)) }
    }

    /// What becomes of events of unknown types.
    public func unknownEvents(_ unknown: UnknownEvents) -> Schema { with { $0.unknown = unknown } }
}

/// An event that an upcaster makes of an older one. Its schema version is the one that the step declares for its type.
public struct UpcastEvent: Sendable {
    /// Its type.
    public var name: String
    let payload: @Sendable () throws -> ByteBuffer

    /// An event of that type, with the JSON of a value as its payload.
    public init(_ name: String, _ value: some Encodable & Sendable) {
        self.name = name
        payload = { try EventJSON.encode(value) }
    }

    /// An event of that type and payload.
    public init(_ name: String, bytes: ByteBuffer) {
        self.name = name
        payload = { bytes }
    }
}

/// Upcasts one schema version of an event type.
struct EventStep: Sendable {
    var name: String
    var from: UInt32
    var outputs: [ExactText: UInt32]
    var transform: @Sendable (ByteBuffer) throws -> [UpcastEvent]
}

/// Upcasts one schema version of a snapshot to the next.
struct SnapshotStep: Sendable {
    var from: UInt32
    var transform: @Sendable (ByteBuffer) throws -> ByteBuffer
}

extension Schema.Kind {
    /// What tells an event from the aggregate's others, and its payload; nil for an event that holds something else.
    static func parts(of event: A.Event) -> (mark: Mark, payload: (any EventPayload)?)? {
        if let payload = event as? any EventPayload { return (mark(of: payload), payload) }
        let mirror = Mirror(reflecting: event)
        guard mirror.displayStyle == .enum else { return nil }
        guard let held = mirror.children.first?.value else { return (.bare(caseName(of: event)), nil) }
        guard let payload = held as? any EventPayload else { return nil }
        return (mark(of: payload), payload)
    }

    static func caseName(of event: A.Event) -> String { String(reflecting: event) }

    private static func mark<Payload: EventPayload>(of payload: Payload) -> Mark {
        .payload(ObjectIdentifier(Payload.self))
    }
}
