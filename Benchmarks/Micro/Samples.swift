import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// What is appended: events of 256 bytes of JSON.
enum Samples {
    struct Failure: Error, CustomStringConvertible {
        var description: String
        init(_ description: String) { self.description = description }
    }

    static let tenant = TenantID(UUID(high: 0x0000_0000_0000_4000, low: 0x8000_0000_0000_0001))
    static let now = Timestamp(microseconds: 1_767_225_600_000_000)
    static let uptime = NIODeadline.uptimeNanoseconds(1_000_000_000)
    static let limits = Limits()

    /// 256 bytes.
    static let payload =
        #"{"order_id":"7f1c2c58-94a5-4f9b-9a55-2f0b7d2f8a11","customer":"Ada King","total":129.90,"currency":"eur","#
        + #""placed":1769857200,"status":"open","lines":[{"sku":"A-100","qty":"2"},{"sku":"B-7","qty":"1"}],"note":"#
        + #""leave at the door, please","flags":"gift,rush"}"#

    static func event(_ type: String = "OrderPlaced") throws -> EncodedEvent {
        guard let type = EventType(type) else { throw Failure("\(type) is not an event type") }
        var metadata = EventMetadata()
        metadata.userID = "user-17"
        metadata.correlationID = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"
        return try EncodedEvent(
            NewEvent(id: .v7(), type: type, metadata: metadata, payload: ByteBuffer(string: payload)))
    }

    static func aggregate() throws -> AggregateName {
        let type: AggregateType = "order"
        return AggregateName(type: type, id: UUID())
    }

    /// A call that appends so many events to one aggregate.
    static func append(_ events: Int, to name: AggregateName? = nil) throws -> AppendRequest {
        AppendRequest(
            tenant: tenant,
            aggregates: [
                AggregateAppend(
                    aggregate: try name ?? aggregate(), expected: .any,
                    events: try (0..<events).map { _ in try event() })
            ])
    }

    /// So many calls of so many events, each to an aggregate of its own.
    static func batch(calls: Int, events: Int) throws -> [WriteCommand] {
        try (0..<calls).map { _ in .append(try append(events)) }
    }

    /// A tenant's first runs, one after the other.
    static func runs(_ count: Int, events: Int) throws -> [RecordedRun] {
        var facts = BatchFacts()
        return try (0..<count).map { _ in
            let plan = WriteDecision.decide([.append(try append(events))], facts: facts, now: now)
            guard let run = plan.tenants.first?.run else { throw Failure("an append that was refused") }
            facts.heads[tenant] = run.head
            return run
        }
    }
}
