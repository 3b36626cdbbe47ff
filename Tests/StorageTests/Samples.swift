import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTesting
import NIOCore
import Testing

enum Sample {
    static let now = Timestamp(microseconds: 1_000_000)

    static func tenant(_ number: UInt64 = 1) -> TenantID { TenantID(UUID(high: 7, low: number)) }

    static func aggregate(_ number: UInt64 = 1) -> AggregateName {
        AggregateName(type: "order", id: UUID(high: 1, low: number))
    }

    /// The event of that number; its content is `text`.
    static func event(_ number: UInt64, _ text: String = "x") throws -> EncodedEvent {
        try EncodedEvent(
            NewEvent(
                id: UUID(high: 2, low: number), type: EventType("Made"), contentType: "text/plain",
                payload: ByteBuffer(string: text)))
    }

    static func part(
        _ aggregate: UInt64, _ events: [UInt64], text: String = "x"
    ) throws -> AggregateAppend {
        try part(aggregate, .any, events, text: text)
    }

    static func part(
        _ aggregate: UInt64, _ expected: ExpectedVersion, _ events: [UInt64], text: String = "x"
    ) throws -> AggregateAppend {
        AggregateAppend(
            aggregate: self.aggregate(aggregate), expected: expected, events: try events.map { try event($0, text) })
    }

    static func request(_ tenant: UInt64 = 1, _ parts: [AggregateAppend]) -> AppendRequest {
        AppendRequest(tenant: self.tenant(tenant), aggregates: parts)
    }

    /// One event of that number to an aggregate of the tenant.
    static func request(
        _ number: UInt64, to aggregate: UInt64 = 1, of tenant: UInt64 = 1, _ expected: ExpectedVersion = .any,
        text: String = "x"
    ) throws -> AppendRequest {
        request(tenant, [try part(aggregate, expected, [number], text: text)])
    }
}

extension WriteOutcome {
    var conflicts: [VersionConflict]? { if case .versionConflict(let conflicts) = self { conflicts } else { nil } }
    var reused: [ReusedEventID]? { if case .eventIDsReused(let ids) = self { ids } else { nil } }
}

/// Storage by the book, kept up by nothing but plans: answers the questions of a batch and stores what is planned.
struct Ledger {
    struct Row: Hashable {
        var id: UUID
        var aggregate: AggregateName
        var version: Version
        var recordedAt: Timestamp
        var record: ByteBuffer
    }

    private(set) var rows: [TenantID: [Row]] = [:]

    func facts(of batch: [AppendRequest]) -> BatchFacts {
        let questions = WriteDecision.questions(of: batch.map { .append($0) })
        var facts = BatchFacts()
        for (tenant, rows) in rows {
            if questions.tenants.contains(tenant) { facts.heads[tenant] = head(of: tenant) }
            for (index, row) in rows.enumerated() {
                let key = AggregateKey(tenant: tenant, name: row.aggregate)
                if questions.aggregates.contains(key) { facts.versions[key] = row.version }
                let event = EventKey(tenant: tenant, id: row.id)
                if questions.events.contains(event) {
                    facts.stored[event] = StoredEvent(
                        aggregate: row.aggregate, version: row.version, position: Position(UInt64(index) + 1),
                        recordedAt: row.recordedAt, record: row.record)
                }
            }
        }
        return facts
    }

    func head(of tenant: TenantID) -> TenantHead {
        guard let rows = rows[tenant], let last = rows.last else { return .empty }
        return TenantHead(
            position: Position(UInt64(rows.count)), recordedAt: last.recordedAt,
            eventID: RecordedEntries.eventID(ofLast: last.record.readableBytes, in: last.record))
    }

    /// Decides a batch, checks the plan against what is stored, and stores it.
    @discardableResult
    mutating func commit(
        _ batch: [AppendRequest], now: Timestamp = Sample.now, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> [WriteOutcome] {
        let plan = WriteDecision.decide(batch.map { .append($0) }, facts: facts(of: batch), now: now)
        #expect(plan.outcomes.count == batch.count, sourceLocation: sourceLocation)
        let tenants = plan.tenants.map(\.tenant)
        #expect(tenants == Set(tenants).sorted(), "each tenant once, in order", sourceLocation: sourceLocation)
        for tenant in plan.tenants {
            let run = try #require(tenant.run, "appends alone", sourceLocation: sourceLocation)
            #expect(run.tenant == tenant.tenant && run.head == tenant.head, sourceLocation: sourceLocation)
            let before = head(of: run.tenant)
            #expect(tenant.oldHead == before, sourceLocation: sourceLocation)
            #expect(run.firstPosition == before.position.next, sourceLocation: sourceLocation)
            #expect(run.recordedAt >= before.recordedAt, sourceLocation: sourceLocation)
            #expect(run.recordedAt >= now, sourceLocation: sourceLocation)
            let decoded = try RecordedEntries.decode(run.entries)
            #expect(decoded.count == run.events.count, sourceLocation: sourceLocation)
            var versions: [AggregateName: Version] = [:]
            for row in rows[run.tenant] ?? [] { versions[row.aggregate] = row.version }
            let versionsBefore = versions
            for (index, event) in run.events.enumerated() {
                let next = (versions[event.aggregate] ?? .none).next
                #expect(event.version == next, "versions without gap", sourceLocation: sourceLocation)
                versions[event.aggregate] = next
                let record = run.record(at: index)
                let expected = RecordedEvent(
                    position: Position(before.position.rawValue + UInt64(index) + 1), version: event.version,
                    recordedAt: run.recordedAt, aggregate: event.aggregate, event: decoded[index].event)
                #expect(try RecordedEntries.decode(record: record) == expected, sourceLocation: sourceLocation)
                #expect(
                    decoded[index].event.id == event.id && decoded[index].event.type == event.type
                        && decoded[index].event.payload.readableBytes == event.payloadBytes,
                    sourceLocation: sourceLocation)
                rows[run.tenant, default: []].append(
                    Row(
                        id: event.id, aggregate: event.aggregate, version: event.version,
                        recordedAt: run.recordedAt, record: record))
            }
            #expect(run.head == head(of: run.tenant), sourceLocation: sourceLocation)
            #expect(
                Set(tenant.aggregates.keys) == Set(run.events.map(\.aggregate)), sourceLocation: sourceLocation)
            for (aggregate, move) in tenant.aggregates {
                #expect(move.from == versionsBefore[aggregate] ?? .none, sourceLocation: sourceLocation)
                #expect(move.to == versions[aggregate], sourceLocation: sourceLocation)
            }
        }
        return plan.outcomes
    }
}
