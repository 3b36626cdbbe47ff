public import FoundationEssentials
public import NIOCore

/// Who and what caused an event. The server stores it and hands it out; it decides nothing by it.
/// Empty text means not given. At most ``Limits/metadataBytesMax`` encoded.
public struct EventMetadata: Hashable, Sendable {
    /// The person or service on whose behalf the event was written.
    public var userID = ""
    /// The role in which they acted.
    public var role = ""
    /// When it happened by the client's clock; the very microsecond of 1970 stands for nil on the wire.
    public var occurredAt: Timestamp?
    /// Names the business transaction that the event belongs to.
    public var correlationID = ""
    /// Names the command or event that caused this one.
    public var causationID = ""
    /// Names the request that wrote it.
    public var requestID = ""
    /// The system that wrote it.
    public var source = ""
    /// W3C trace context of the writer.
    public var traceparent = ""
    /// What tracing systems add to ``traceparent``.
    public var tracestate = ""
    /// Free labels; two keys are the same only when their bytes are.
    public var tags: [ExactText: String] = [:]

    /// Metadata with nothing in it.
    public init() {}

    /// Nothing is given.
    public static let empty = EventMetadata()
}

/// An event as its author writes it.
public struct NewEvent: Hashable, Sendable {
    /// Chosen by the author, unique in its tenant. A retry must carry the same id.
    public var id: UUID
    /// What happened.
    public var type: EventType
    /// Media type of the payload, at most 128 bytes of UTF-8 without control characters.
    public var contentType: String
    /// Version of the payload's schema, from 1.
    public var schemaVersion: UInt32
    /// Who and what caused it.
    public var metadata: EventMetadata
    /// The payload, handed out as it came in.
    public var payload: ByteBuffer

    /// An event; the id is time-ordered and new unless given.
    public init(
        id: UUID = .v7(), type: EventType, contentType: String = NewEvent.json, schemaVersion: UInt32 = 1,
        metadata: EventMetadata = .empty, payload: ByteBuffer
    ) {
        self.id = id
        self.type = type
        self.contentType = contentType
        self.schemaVersion = schemaVersion
        self.metadata = metadata
        self.payload = payload
    }

    /// The media type that an event has unless its author says otherwise.
    public static let json = "application/json"
}

/// An event as it is stored.
public struct RecordedEvent: Hashable, Sendable {
    /// Its number within the tenant.
    public var position: Position
    /// Its number within the aggregate.
    public var version: Version
    /// The server's commit time.
    public var recordedAt: Timestamp
    /// The aggregate that it belongs to.
    public var aggregate: AggregateName
    /// What its author wrote; if an upcaster has changed it, as of the delivered schema version.
    public var event: NewEvent
    /// The schema version that is stored.
    public var storedSchemaVersion: UInt32
    /// The event type that is stored.
    public var storedType: EventType
    /// Not nil: an upcaster failed on the event, and by the call's policy it is delivered as it is stored. For a
    /// person.
    public var upcastFailure: String?

    /// A recorded event of those parts; stored as it is delivered unless said otherwise.
    public init(
        position: Position, version: Version, recordedAt: Timestamp, aggregate: AggregateName, event: NewEvent,
        storedSchemaVersion: UInt32? = nil, storedType: EventType? = nil, upcastFailure: String? = nil
    ) {
        self.position = position
        self.version = version
        self.recordedAt = recordedAt
        self.aggregate = aggregate
        self.event = event
        self.storedSchemaVersion = storedSchemaVersion ?? event.schemaVersion
        self.storedType = storedType ?? event.type
        self.upcastFailure = upcastFailure
    }
}

/// A new event in its canonical encoding: what the server stores and hands out, next to the few fields
/// that it decides by. Made by EventEncoding only.
public struct EncodedEvent: Hashable, Sendable {
    /// Its id.
    public let id: UUID
    /// Its type.
    public let type: EventType
    /// Media type of its payload.
    public let contentType: String
    /// Version of its payload's schema.
    public let schemaVersion: UInt32
    /// Length of its payload, which is the tail of ``body``.
    public let payloadBytes: Int
    /// The canonical encoding of the protobuf message `Event`.
    public let body: ByteBuffer
    /// CRC-32C of ``body``, computed where an append is admitted, so that the thread that stores the event only adds what
    /// it gets there; nil if the event is on its way to a server, which computes its own.
    public let bodyChecksum: UInt32?

    /// The fields must be those of `body`.
    public init(
        id: UUID, type: EventType, contentType: String, schemaVersion: UInt32, payloadBytes: Int, body: ByteBuffer,
        bodyChecksum: UInt32? = nil
    ) {
        self.id = id
        self.type = type
        self.contentType = contentType
        self.schemaVersion = schemaVersion
        self.payloadBytes = payloadBytes
        self.body = body
        self.bodyChecksum = bodyChecksum
    }

    /// Two events are the same if their canonical bytes are.
    public static func == (left: EncodedEvent, right: EncodedEvent) -> Bool { left.body == right.body }

    /// Hashes the canonical bytes.
    public func hash(into hasher: inout Hasher) { hasher.combine(body) }
}

/// Events in storage or on their way to a reader, encoded as they travel.
public struct EventPage: Hashable, Sendable {
    /// Concatenated entries of the protobuf field `repeated RecordedEvent events = 1`: for each event
    /// the byte 0x0A, its length as a varint, and the encoded RecordedEvent.
    public var entries: ByteBuffer
    /// How many events.
    public var count: Int
    // 0 for none: an optional number would take twice as much, and pages are handed on by value.
    private var lastPositionNumber: UInt64
    private var lastVersionNumber: UInt64
    /// Reads by position: everything from the range's beginning to here was looked at, and what
    /// matched is in this page or those before it. At the end of the range it is the range's last position
    /// (forward) or the first position of the range (backward).
    public var scannedTo: Position { didSet { if scannedTo != oldValue { endEventID = nil } } }
    /// Id of the event at ``scannedTo``, or of the last event of a page by version, for the page that follows. Nil if it
    /// is not known, and where the storage's past cannot change while it is open.
    public var endEventID: UUID?
    /// Nothing more in the range.
    public var isLast: Bool

    /// Position of the last event of the page, in the order of the page; nil without events.
    public var lastPosition: Position? {
        get { lastPositionNumber == 0 ? nil : Position(lastPositionNumber) }
        set { lastPositionNumber = newValue?.rawValue ?? 0 }
    }

    /// Version of the last event of the page, in the order of the page; nil without events.
    public var lastVersion: Version? {
        get { lastVersionNumber == 0 ? nil : Version(lastVersionNumber) }
        set { lastVersionNumber = newValue?.rawValue ?? 0 }
    }

    /// Two pages are the same where they hold the same and say the same of their range: ``endEventID`` is part of neither.
    public static func == (a: EventPage, b: EventPage) -> Bool {
        a.entries == b.entries && a.count == b.count && a.lastPosition == b.lastPosition
            && a.lastVersion == b.lastVersion && a.scannedTo == b.scannedTo && a.isLast == b.isLast
    }

    /// Hashes what is compared.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(entries)
        hasher.combine(scannedTo)
    }

    /// A page of those parts.
    public init(
        entries: ByteBuffer = ByteBuffer(), count: Int = 0, lastPosition: Position? = nil,
        lastVersion: Version? = nil, scannedTo: Position = .start, isLast: Bool = true, endEventID: UUID? = nil
    ) {
        self.endEventID = endEventID
        self.entries = entries
        self.count = count
        lastPositionNumber = lastPosition?.rawValue ?? 0
        lastVersionNumber = lastVersion?.rawValue ?? 0
        self.scannedTo = scannedTo
        self.isLast = isLast
    }
}
