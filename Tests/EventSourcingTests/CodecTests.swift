import FoundationEssentials
import MartletClient
import MartletModel
import NIOCore
import Testing

@testable import MartletEventSourcing

@Suite struct CodecTests {
    private func recorded(_ type: String, _ version: UInt32, _ json: String) throws -> RecordedEvent {
        RecordedEvent(
            position: Position(1), version: Version(1), recordedAt: Timestamp(microseconds: 1),
            aggregate: AggregateName(type: Account.type, id: UUID()),
            event: NewEvent(
                type: try #require(EventType(type)), schemaVersion: version, payload: ByteBuffer(string: json)))
    }

    private func today(_ codec: EventCodec<Account>, _ event: RecordedEvent) throws -> [Account.Event] {
        try codec.decode(event).compactMap { if case .event(let event) = $0 { event } else { nil } }
    }

    @Test func eventsAreStoredAsPlainJSON() throws {
        let codec = try EventCodec<Account>()
        func stored(_ event: Account.Event) throws -> String {
            let stored = try codec.encode(event)
            return "\(stored.type) \(stored.schemaVersion) \(String(buffer: stored.payload))"
        }
        #expect(
            try stored(.opened(.init(owner: "Ada", currency: "EUR")))
                == #"AccountOpened 3 {"currency":"EUR","owner":"Ada"}"#)
        #expect(try stored(.deposited(.init(cents: 5))) == #"deposited 1 {"cents":5}"#)
        #expect(
            try stored(.deposited(.init(cents: 5, on: Date(timeIntervalSince1970: 1.5))))
                == #"deposited 1 {"cents":5,"on":"1970-01-01T00:00:01.500000Z"}"#)
        #expect(try stored(.closed) == "closed 1 {}")
    }

    @Test func allThreeGenerationsArriveAsToday() throws {
        let codec = try EventCodec<Account>()
        let opened = Account.Event.opened(.init(owner: "Ada", currency: "EUR"))
        for (version, json) in [
            (1, #"{"name":"Ada"}"#), (2, #"{"owner":"Ada"}"#), (3, #"{ "owner":"Ada","currency":"EUR"}"#),
        ] as [(UInt32, String)] {
            #expect(try today(codec, recorded("AccountOpened", version, json)) == [opened])
        }
        let both = try today(codec, recorded("moved", 1, #"{"out":3,"in":4}"#))
        #expect(both == [.withdrawn(.init(cents: 3)), .deposited(.init(cents: 4))], "one becomes two, in order")
    }

    @Test func whatCannotBeReadSaysSo() throws {
        let codec = try EventCodec<Account>()
        func fault(_ type: String, _ version: UInt32, _ json: String) throws -> EventUndecodable {
            let event = try recorded(type, version, json)
            return try #require(throws: EventUndecodable.self) { try codec.decode(event) }
        }
        #expect(try fault("AccountOpened", 4, "{}").description.contains("up to schema version 3"))
        #expect(try fault("Unheard", 1, "{}").isUnknownType)
        #expect(try fault("opened", 1, "{}").isUnknownType, "the case has another name in the store")
        #expect(try fault("deposited", 1, #"{"cents":"secret"}"#).description.contains("secret") == false)
        #expect(try fault("deposited", 1, #"{"cents":1}},{"closed":{}"#).complaint.contains("malformed"))
        #expect(try fault("AccountOpened", 1, #"{}"#).complaint.contains("'name' is missing"))
    }

    @Test func unknownTypesGoByThePolicy() throws {
        let event = try recorded("Unheard", 1, "{}")
        #expect(try EventCodec(Account.schema.unknownEvents(.skip)).decode(event).isEmpty)
        let kept = try EventCodec(Account.schema.unknownEvents(.keep)).decode(event)
        guard case .unknown(event)? = kept.first else { throw ScenarioFailure(description: "\(kept)") }
    }

    private func defect(_ schema: Schema<Account>) -> SchemaError.Kind? {
        do throws(SchemaError) {
            _ = try EventCodec(schema)
            return nil
        } catch { return error.kind }
    }

    @Test func schemasAreCheckedAsAWhole() {
        let same: @Sendable (ByteBuffer) throws -> ByteBuffer = { $0 }
        let none: @Sendable (ByteBuffer) throws -> [UpcastEvent] = { _ in [] }
        let empty = Schema<Account>()
        #expect(defect(Account.schema) == nil)
        #expect(defect(Account.schema.upcastBytes("AccountOpened", from: 1, same)) == .duplicate)
        let opened = empty.event(Account.Event.opened)
        #expect(defect(opened.event(Account.Event.opened)) == .duplicate)
        #expect(defect(empty.event("closed", .closed).event("shut", .closed)) == .duplicate, "one case, two types")
        #expect(defect(opened.event("AccountOpened", .closed)) == .duplicate, "one type, two cases")
        #expect(defect(opened.upcastBytes("AccountOpened", from: 1, same)) == .gap)
        #expect(defect(opened.upcastBytes("AccountOpened", from: 2, same)) == nil)
        #expect(defect(empty.upcastBytes("gone", from: 1, same)) == .gap, "it leads to no event of today")
        #expect(defect(opened.upcastBytes("AccountOpened", from: 3, same)) == .beyondCurrent)
        #expect(defect(opened.split("a", from: 1, into: ["AccountOpened": 4], { (_: Int) in [] })) == .beyondCurrent)
        let circle = empty.splitBytes("a", from: 1, into: ["b": 1], none).splitBytes("b", from: 1, into: ["a": 1], none)
        #expect(defect(circle) == .cycle)
        #expect(defect(empty.event { (_: Zeroth) in .closed }) == .invalid)
        #expect(defect(empty.snapshot(version: 3).upcastSnapshotBytes(from: 1, same)) == .gap)
        #expect(defect(empty.snapshot(version: 1).upcastSnapshotBytes(from: 1, same)) == .beyondCurrent)
        #expect(defect(Account.schema.upcastSnapshotBytes(from: 1, same)) == .duplicate)
    }

    private struct Zeroth: EventPayload {
        static let eventType: EventType = "zeroth"
        static let schemaVersion: UInt32 = 0
    }

    /// Shapes of events beside the usual one: a case with a label cannot be stored, one struct needs no enum.
    struct Odd: Aggregate {
        enum Event: Sendable {
            case labelled(value: Account.Withdrawn)
            case number(Int)
            case bare
        }
        static let type: AggregateType = "odd"
        static let schema = Schema<Odd>().event { (payload: Account.Withdrawn) in .labelled(value: payload) }
        init(id: UUID) {}
        mutating func apply(_ event: Event) {}
    }

    struct Single: Aggregate {
        static let type: AggregateType = "single"
        static let schema = Schema<Single>().event { (event: Account.Withdrawn) in event }
        init(id: UUID) {}
        mutating func apply(_ event: Account.Withdrawn) {}
    }

    @Test func whatIsNotInTheSchemaIsNotStored() throws {
        let codec = try EventCodec<Odd>()
        for event in [.labelled(value: .init(cents: 1)), .number(1), .bare] as [Odd.Event] {
            #expect(throws: EventUnencodable.self, "\(event)") { try codec.encode(event) }
        }
        let single = try EventCodec<Single>()
        let stored = try single.encode(.init(cents: 3))
        #expect(stored.type == "withdrawn" && String(buffer: stored.payload) == #"{"cents":3}"#)
        let decoded = try single.decode(recorded("withdrawn", 1, #"{"cents":3}"#))
        guard case .event(let event)? = decoded.first, event.cents == 3 else {
            throw ScenarioFailure(description: "\(decoded)")
        }
    }
}
