import FoundationEssentials
import MartletClient
public import MartletModel
import MartletRecordCodec
import NIOCore

/// Makes events that differ in their ids only: encoded once, then copied and given an id, so that making an event
/// costs the load tester next to nothing.
struct EventTemplate: Sendable {
    let type: EventType
    private let contentType: String
    private let schemaVersion: UInt32
    private let payloadBytes: Int
    private let body: ByteBuffer
    private let idOffset: Int

    /// The length of an event in its canonical encoding.
    var bodyBytes: Int { body.readableBytes }

    /// A template with a payload of JSON of that length, and about 100 bytes of metadata.
    init(type: EventType, payloadBytes: Int) throws(MartletError) {
        let event = Self.sample(type: type, payloadBytes: payloadBytes)
        let other = NewEvent(
            id: UUID(high: ~event.id.halves.high, low: ~event.id.halves.low), type: type, metadata: event.metadata,
            payload: event.payload)
        let (first, second) = (try Self.encode(event), try Self.encode(other))
        // Every bit of the ids differs: where the encodings begin to differ, there the id stands.
        let bytes = first.body.readableBytesView
        guard
            let offset = zip(bytes, second.body.readableBytesView).enumerated().first(where: { $1.0 != $1.1 })?.offset,
            first.body.getBytes(at: first.body.readerIndex + offset, length: 16) == event.id.bytes
        else {
            throw MartletError(
                .internal, reason: .internalError, message: "the id of an encoded event was not found: report this")
        }
        (self.type, contentType, schemaVersion) = (first.type, first.contentType, first.schemaVersion)
        self.payloadBytes = first.payloadBytes
        body = first.body
        idOffset = offset
    }

    /// An event with a payload of that length, at least 15 bytes.
    static func sample(type: EventType, payloadBytes: Int) -> NewEvent {
        let frame = #"{"number":1,"text":""}"#.utf8.count
        let text = String(repeating: "x", count: max(0, payloadBytes - frame))
        var metadata = EventMetadata()
        metadata.userID = "user-4711"
        metadata.correlationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"
        metadata.causationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a1"
        return NewEvent(
            type: type, metadata: metadata, payload: ByteBuffer(string: #"{"number":1,"text":"\#(text)"}"#))
    }

    private static func encode(_ event: NewEvent) throws(MartletError) -> EncodedEvent {
        let name = AggregateName(type: BenchNames.aggregateType, id: event.id)
        let request = try AppendRequest(
            [NewAggregateEvents(aggregate: name, expected: .any, events: [event])], tenant: TenantID(event.id))
        return request.aggregates[0].events[0]
    }
}

/// Makes events of templates, in turn, with new ids.
struct EventMaker: Sendable {
    private let templates: [EventTemplate]
    private var made = 0
    private var random = FastRandom()

    init(_ templates: [EventTemplate]) { self.templates = templates }

    /// An id that nobody else has.
    mutating func id() -> UUID { UUID.v7(at: .now(), using: &random) }

    /// So many new events.
    mutating func events(_ count: Int) -> [EncodedEvent] {
        let now = Timestamp.now()
        var bytes = ByteBuffer()
        bytes.reserveCapacity(count * templates[0].bodyBytes)
        var drafts: [(template: Int, id: UUID, end: Int)] = []
        drafts.reserveCapacity(count)
        for _ in 0..<count {
            let id = UUID.v7(at: now, using: &random)
            let template = made % templates.count
            made += 1
            templates[template].write(id: id, to: &bytes)
            drafts.append((template, id, bytes.writerIndex))
        }
        var start = 0
        return drafts.map { draft in
            defer { start = draft.end }
            return templates[draft.template].event(
                id: draft.id, body: bytes.getSlice(at: start, length: draft.end - start) ?? ByteBuffer())
        }
    }
}

extension EventTemplate {
    fileprivate func write(id: UUID, to buffer: inout ByteBuffer) {
        let place = buffer.writerIndex + idOffset
        buffer.writeImmutableBuffer(body)
        let (high, low) = id.halves
        buffer.setInteger(high, at: place)
        buffer.setInteger(low, at: place + 8)
    }

    fileprivate func event(id: UUID, body: ByteBuffer) -> EncodedEvent {
        EncodedEvent(
            id: id, type: type, contentType: contentType, schemaVersion: schemaVersion, payloadBytes: payloadBytes,
            body: body)
    }
}

extension UUID {
    /// The two halves, as ``EventModel`` puts them together.
    var halves: (high: UInt64, low: UInt64) {
        let u = uuid
        func join(_ b: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)) -> UInt64 {
            let high = UInt64(b.0) << 56 | UInt64(b.1) << 48 | UInt64(b.2) << 40 | UInt64(b.3) << 32
            return high | UInt64(b.4) << 24 | UInt64(b.5) << 16 | UInt64(b.6) << 8 | UInt64(b.7)
        }
        return (
            join((u.0, u.1, u.2, u.3, u.4, u.5, u.6, u.7)), join((u.8, u.9, u.10, u.11, u.12, u.13, u.14, u.15))
        )
    }
}

/// The names that the load tester writes under.
public enum BenchNames {
    /// The type of event that is written where no filter is looked at.
    public static let eventType = name("BenchHappened", EventType.init)
    /// The type of aggregate that is written where no filter is looked at.
    public static let aggregateType = name("bench", AggregateType.init)
    /// The event types among which a filter can choose; each has the same share of the events.
    public static let eventTypes = (0..<10).map { name("BenchHappened\($0)", EventType.init) }
    /// The aggregate types among which a filter can choose; each has the same share of the aggregates.
    public static let aggregateTypes = (0..<10).map { name("bench\($0)", AggregateType.init) }

    /// A definition of upcasters that rename the text of events of these types, in each step once.
    static func upcasters(of types: [EventType], steps: Int) -> String {
        let all = types.flatMap { type in
            (1...max(1, steps)).map { step in
                let path = step == 1 ? "/text" : "/text\(step - 1)"
                let rename = #"{"rename":{"path":"\#(path)","to":"text\#(step)","required":true}}"#
                return #"{"event":"\#(type.text)","from":\#(step),"operations":[\#(rename)]}"#
            }
        }
        return #"{"upcasters":[\#(all.joined(separator: ","))]}"#
    }

    /// The aggregate of that number, from 0: the same one in each run and for each client.
    static func aggregate(numbered number: Int) -> AggregateName {
        AggregateName(type: aggregateType, id: UUID(high: 0xBE4C_0000_0000_7000, low: UInt64(number) | 1 << 63))
    }

    private static func name<Name>(_ text: String, _ make: (String) -> Name?) -> Name {
        make(text) ?? { preconditionFailure("\(text) is a valid name") }()
    }
}
