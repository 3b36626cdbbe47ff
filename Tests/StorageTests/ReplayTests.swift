import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore
import Testing

/// Calls whose event ids are stored already.
@Suite struct ReplayTests {
    /// Three events in two aggregates, at positions 3 to 5: version 2 of the aggregate 1, versions 1 and 2 of the 2.
    private static func original(_ first: ExpectedVersion = .any, _ second: ExpectedVersion = .any) throws
        -> AppendRequest
    {
        Sample.request(1, [try Sample.part(1, first, [10]), try Sample.part(2, second, [11, 12])])
    }

    private static let answer = AppendReceipt(
        aggregates: [
            AppendedAggregate(aggregate: Sample.aggregate(1), firstVersion: Version(2), lastVersion: Version(2)),
            AppendedAggregate(aggregate: Sample.aggregate(2), firstVersion: Version(1), lastVersion: Version(2)),
        ],
        firstPosition: Position(3), lastPosition: Position(5), recordedAt: Sample.now, replayed: true)

    /// What is there before: one event of the aggregates 1 and 3 each.
    private static func ledger() throws -> Ledger {
        var ledger = Ledger()
        try ledger.commit([Sample.request(1, [try Sample.part(1, [1]), try Sample.part(3, [2])])])
        return ledger
    }

    /// A ledger with the original call in it.
    private static func stored() throws -> Ledger {
        var ledger = try ledger()
        var answer = answer
        answer.replayed = false
        #expect(try ledger.commit([try original(.exact(Version(1)), .none)]) == [.appended(answer)])
        return ledger
    }

    /// What a call comes to in each of the ways in which its ids can be known: stored by an earlier batch, before
    /// or after later appends, or by a call of the same batch.
    private func outcomes(_ request: AppendRequest) throws -> [WriteOutcome] {
        var outcomes: [WriteOutcome] = []
        var ledger = try Self.stored()
        var before = ledger.rows
        outcomes += try ledger.commit([request], now: Timestamp(microseconds: 9_000_000))
        if outcomes[0].receipt?.replayed != false { #expect(ledger.rows == before, "nothing is written") }

        ledger = try Self.stored()
        try ledger.commit([Sample.request(1, [try Sample.part(2, [50, 51]), try Sample.part(1, [52])])])
        before = ledger.rows
        outcomes += try ledger.commit([request], now: Timestamp(microseconds: 9_000_000))
        if outcomes[1].receipt?.replayed != false { #expect(ledger.rows == before, "nothing is written") }

        ledger = try Self.ledger()
        outcomes += try ledger.commit([try Self.original(), request]).suffix(1)
        ledger = try Self.ledger()
        outcomes += try ledger.commit([try Self.original(), try Sample.request(53), request]).suffix(1)
        return outcomes
    }

    private func expectReplay(
        _ request: AppendRequest, _ answer: AppendReceipt = answer, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(
            try outcomes(request) == Array(repeating: .appended(answer), count: 4), sourceLocation: sourceLocation)
    }

    /// Expects that the call is refused, naming those events of the original call, in this order.
    private func expectReuse(
        _ request: AppendRequest, naming numbers: [UInt64], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let places: [UInt64: (aggregate: UInt64, version: UInt64, position: UInt64)] = [
            1: (1, 1, 1), 2: (3, 1, 2), 10: (1, 2, 3), 11: (2, 1, 4), 12: (2, 2, 5),
        ]
        let ids = try numbers.map { number in
            let place = try #require(places[number])
            return ReusedEventID(
                id: try Sample.event(number).id, aggregate: Sample.aggregate(place.aggregate),
                version: Version(place.version), position: Position(place.position))
        }
        #expect(
            try outcomes(request) == Array(repeating: .eventIDsReused(ids), count: 4), sourceLocation: sourceLocation)
    }

    @Test func theSameCallIsAnsweredAgain() throws { try expectReplay(Self.original()) }

    @Test func whateverTheExpectedVersionsSay() throws {
        let all: [ExpectedVersion] = [.any, .none, .exists, .exact(.none), .exact(Version(1)), .exact(Version(99))]
        for first in all { for second in all { try expectReplay(Self.original(first, second)) } }
    }

    @Test func aPartOfACallAtConsecutivePositionsIsAReplayToo() throws {
        try expectReplay(
            Sample.request(1, [try Sample.part(2, [11, 12])]),
            AppendReceipt(
                aggregates: [Self.answer.aggregates[1]], firstPosition: Position(4), lastPosition: Position(5),
                recordedAt: Sample.now, replayed: true))
        try expectReplay(
            Sample.request(1, [try Sample.part(2, .none, [12])]),
            AppendReceipt(
                aggregates: [
                    AppendedAggregate(aggregate: Sample.aggregate(2), firstVersion: Version(2), lastVersion: Version(2))
                ],
                firstPosition: Position(5), lastPosition: Position(5), recordedAt: Sample.now, replayed: true))
    }

    @Test func neighbouringCallsInOneAreAReplayToo() throws {
        var ledger = Ledger()
        try ledger.commit([try Sample.request(1)], now: Timestamp(microseconds: 5))
        try ledger.commit([try Sample.request(2)], now: Timestamp(microseconds: 6))
        let receipt = try ledger.commit([Sample.request(1, [try Sample.part(1, [1, 2])])])[0].receipt
        #expect(
            receipt?.replayed == true && receipt?.firstPosition == Position(1) && receipt?.lastPosition == Position(2))
    }

    @Test func otherContentIsReuse() throws {
        try expectReuse(
            Sample.request(1, [try Sample.part(1, [10], text: "y"), try Sample.part(2, [11, 12])]),
            naming: [10, 11, 12])
        try expectReuse(
            Sample.request(1, [try Sample.part(1, [10]), try Sample.part(2, [11, 12], text: "")]), naming: [10, 11, 12])
        try expectReuse(try Sample.request(10, text: "xx"), naming: [10])
    }

    @Test func everyFieldIsContent() throws {
        let original = NewEvent(
            id: UUID(high: 2, low: 10), type: EventType("Made"), contentType: "text/plain",
            payload: .init(string: "x"))
        let changes: [(inout NewEvent) throws -> Void] = [
            { $0.type = EventType("Made2") }, { $0.contentType = "text/html" }, { $0.schemaVersion = 2 },
            { $0.metadata.userID = "u" }, { $0.metadata.role = "u" }, { $0.metadata.source = "u" },
            { $0.metadata.correlationID = "u" }, { $0.metadata.causationID = "u" }, { $0.metadata.requestID = "u" },
            { $0.metadata.traceparent = "u" }, { $0.metadata.tracestate = "u" },
            { $0.metadata.occurredAt = Timestamp(microseconds: 1) },
            { $0.metadata.tags["a"] = "" }, { $0.payload.writeString(" ") }, { $0.payload = .init() },
        ]
        for change in changes {
            var event = original
            try change(&event)
            let request = Sample.request(
                1, [AggregateAppend(aggregate: Sample.aggregate(1), expected: .any, events: [try .init(event)])])
            try expectReuse(request, naming: [10])
        }
        let same = Sample.request(
            1, [AggregateAppend(aggregate: Sample.aggregate(1), expected: .any, events: [try .init(original)])])
        #expect(try outcomes(same).allSatisfy { $0.receipt?.replayed == true })
    }

    @Test func anotherAggregateIsReuse() throws {
        try expectReuse(try Sample.request(10, to: 2), naming: [10])
        try expectReuse(
            Sample.request(1, [try Sample.part(2, [10]), try Sample.part(1, [11, 12])]), naming: [10, 11, 12])
        try expectReuse(Sample.request(1, [try Sample.part(1, [10, 11, 12])]), naming: [10, 11, 12])
    }

    @Test func anotherTenantIsNoReuse() throws {
        var request = try Self.original()
        request.tenant = Sample.tenant(2)
        let outcomes = try outcomes(request)
        #expect(outcomes.allSatisfy { $0.receipt?.replayed == false && $0.receipt?.firstPosition == Position(1) })
    }

    @Test func anotherOrderIsReuse() throws {
        try expectReuse(
            Sample.request(1, [try Sample.part(2, [11, 12]), try Sample.part(1, [10])]), naming: [11, 12, 10])
        try expectReuse(
            Sample.request(1, [try Sample.part(1, [10]), try Sample.part(2, [12, 11])]), naming: [10, 12, 11])
        try expectReuse(Sample.request(1, [try Sample.part(2, [12, 11])]), naming: [12, 11])
    }

    @Test func positionsThatDoNotFollowEachOtherAreReuse() throws {
        try expectReuse(Sample.request(1, [try Sample.part(1, [1, 10])]), naming: [1, 10])
        try expectReuse(Sample.request(1, [try Sample.part(1, [10]), try Sample.part(2, [12])]), naming: [10, 12])
    }

    @Test func aNewEventAmongStoredOnesIsReuseOfThese() throws {
        try expectReuse(
            Sample.request(1, [try Sample.part(1, [10, 60]), try Sample.part(2, [11, 12])]), naming: [10, 11, 12])
        try expectReuse(
            Sample.request(1, [try Sample.part(1, [60]), try Sample.part(2, [11, 61])]), naming: [11])
        try expectReuse(
            Sample.request(1, [try Sample.part(4, [60]), try Sample.part(1, .none, [10])]), naming: [10])
        try expectReuse(
            Sample.request(1, [try Sample.part(1, [10]), try Sample.part(2, [11, 12]), try Sample.part(4, [60])]),
            naming: [10, 11, 12])
    }

    @Test func reuseGoesBeforeConflict() throws {
        try expectReuse(
            Sample.request(1, [try Sample.part(1, .none, [60]), try Sample.part(2, .exact(Version(77)), [12])]),
            naming: [12])
    }

    @Test func aReplayHasTheTimeOfItsCommit() throws {
        var ledger = Ledger()
        try ledger.commit([try Sample.request(1)], now: Timestamp(microseconds: 50))
        try ledger.commit([try Sample.request(2)], now: Timestamp(microseconds: 60))
        let receipts = try ledger.commit(
            [try Sample.request(1), try Sample.request(3), try Sample.request(3)], now: Timestamp(microseconds: 70)
        ).compactMap(\.receipt)
        #expect(receipts.map(\.recordedAt.microseconds) == [50, 70, 70])
        #expect(receipts.map(\.replayed) == [true, false, true])
    }

    @Test func callsGoOnAfterAReplayInTheirBatch() throws {
        var ledger = try Self.stored()
        let outcomes = try ledger.commit([
            try Sample.request(20), try Self.original(.none, .none), try Sample.request(21, .exact(Version(3))),
            try Sample.request(20), try Sample.request(20, text: "other"), try Sample.request(21, to: 2),
        ])
        #expect(outcomes.map { $0.receipt?.replayed } == [false, true, false, true, nil, nil])
        #expect(outcomes[2].receipt?.firstPosition == Position(7))
        #expect(outcomes[4].reused?.map(\.position) == [Position(6)])
        #expect(outcomes[5].reused?.map(\.version) == [Version(4)])
    }
}
