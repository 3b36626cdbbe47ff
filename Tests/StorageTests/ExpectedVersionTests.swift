import MartletModel
import MartletStorage
import Testing

/// Expected versions, against each state of an aggregate.
@Suite struct ExpectedVersionTests {
    /// The expected version, the events that are there, whether the append is stored.
    private static let table: [(ExpectedVersion, UInt64, Bool)] = [
        (.any, 0, true), (.any, 1, true), (.any, 5, true),
        (.none, 0, true), (.none, 1, false), (.none, 5, false),
        (.exists, 0, false), (.exists, 1, true), (.exists, 5, true),
        (.exact(Version(0)), 0, true), (.exact(Version(0)), 1, false),
        (.exact(Version(1)), 0, false), (.exact(Version(1)), 1, true), (.exact(Version(1)), 2, false),
        (.exact(Version(5)), 4, false), (.exact(Version(5)), 5, true), (.exact(Version(5)), 6, false),
        (.exact(.max), 5, false), (.exact(Version(.max)), 5, false),
    ]

    @Test func eachExpectationAgainstEachState() throws {
        for (expected, count, holds) in Self.table {
            for sameBatch in [false, true] {
                var ledger = Ledger()
                // Another aggregate and another tenant go first, so that positions and versions differ.
                var batch = [
                    Sample.request(1, [try Sample.part(9, [901, 902, 903])]),
                    Sample.request(2, [try Sample.part(1, [1, 2, 3, 4, 5, 6, 7])]),
                ]
                for number in 0..<count { batch.append(try Sample.request(100 + number)) }
                if !sameBatch {
                    try ledger.commit(batch)
                    batch = []
                }
                batch.append(Sample.request(1, [try Sample.part(1, expected, [1, 2])]))
                let outcome = try #require(try ledger.commit(batch).last)
                let note = Comment(rawValue: "\(expected) at \(count), same batch: \(sameBatch)")
                guard holds else {
                    let conflict = VersionConflict(
                        aggregate: Sample.aggregate(), expected: expected, actual: Version(count))
                    #expect(outcome == .versionConflict([conflict]), note)
                    #expect(ledger.head(of: Sample.tenant(1)).position == Position(3 + count), note)
                    continue
                }
                let receipt = AppendReceipt(
                    aggregates: [
                        AppendedAggregate(
                            aggregate: Sample.aggregate(), firstVersion: Version(count + 1),
                            lastVersion: Version(count + 2))
                    ],
                    firstPosition: Position(3 + count + 1), lastPosition: Position(3 + count + 2),
                    recordedAt: Sample.now, replayed: false)
                #expect(outcome == .appended(receipt), note)
            }
        }
    }

    @Test func everyViolationIsReportedInTheOrderOfTheCall() throws {
        var ledger = Ledger()
        try ledger.commit([Sample.request(1, [try Sample.part(1, [1]), try Sample.part(2, [2, 3])])])
        let before = ledger.rows
        let outcomes = try ledger.commit([
            Sample.request(
                1,
                [
                    try Sample.part(3, .exists, [10]),
                    try Sample.part(1, .exact(Version(1)), [11]),
                    try Sample.part(2, .none, [12]),
                    try Sample.part(4, .none, [13]),
                    try Sample.part(5, .exact(Version(4)), [14]),
                ])
        ])
        #expect(
            outcomes == [
                .versionConflict([
                    VersionConflict(aggregate: Sample.aggregate(3), expected: .exists, actual: .none),
                    VersionConflict(aggregate: Sample.aggregate(2), expected: .none, actual: Version(2)),
                    VersionConflict(aggregate: Sample.aggregate(5), expected: .exact(Version(4)), actual: .none),
                ])
            ])
        #expect(ledger.rows == before, "all of a call commits or none")
    }

    @Test func severalAggregatesTakePositionsInTheOrderOfTheCall() throws {
        var ledger = Ledger()
        try ledger.commit([Sample.request(1, [try Sample.part(2, [1])])])
        let receipt = try #require(
            try ledger.commit([
                Sample.request(1, [try Sample.part(3, .none, [2]), try Sample.part(2, .exact(Version(1)), [3, 4])])
            ])[0].receipt)
        #expect(receipt.firstPosition == Position(2) && receipt.lastPosition == Position(4) && !receipt.replayed)
        #expect(
            receipt.aggregates == [
                AppendedAggregate(aggregate: Sample.aggregate(3), firstVersion: Version(1), lastVersion: Version(1)),
                AppendedAggregate(aggregate: Sample.aggregate(2), firstVersion: Version(2), lastVersion: Version(3)),
            ])
        let rows = try #require(ledger.rows[Sample.tenant()])
        #expect(rows.map(\.aggregate) == [2, 3, 2, 2].map { Sample.aggregate($0) })
    }

    @Test func ofRacingCallsInOneBatchOneWins() throws {
        for expected in [ExpectedVersion.none, .exact(.none), .exact(Version(2))] {
            var ledger = Ledger()
            if expected == .exact(Version(2)) { try ledger.commit([Sample.request(1, [try Sample.part(1, [1, 2])])]) }
            let outcomes = try ledger.commit(try (10..<15).map { try Sample.request($0, expected) })
            #expect(outcomes[0].receipt?.replayed == false)
            let actual: Version = expected == .exact(Version(2)) ? Version(3) : Version(1)
            let conflict = VersionConflict(aggregate: Sample.aggregate(), expected: expected, actual: actual)
            #expect(Array(outcomes[1...]) == Array(repeating: .versionConflict([conflict]), count: 4))
        }
    }

    @Test func callsOfOneBatchBuildOnEachOther() throws {
        var ledger = Ledger()
        let outcomes = try ledger.commit(
            try (0..<6).map { try Sample.request(UInt64($0) + 1, $0 == 0 ? .none : .exact(Version(UInt64($0)))) })
        #expect(outcomes.map { $0.receipt?.lastPosition } == (1...6).map { Position($0) })
        #expect(outcomes.map { $0.receipt?.aggregates[0].firstVersion } == (1...6).map { Version($0) })
    }

    @Test func aRefusedCallLeavesTheOthersOfItsBatchAlone() throws {
        var ledger = Ledger()
        let outcomes = try ledger.commit([
            try Sample.request(1),
            Sample.request(1, [try Sample.part(2, [2]), try Sample.part(1, .none, [3])]),
            try Sample.request(4, to: 2, .none),
            try Sample.request(5, to: 1, .exact(Version(1))),
        ])
        #expect(outcomes.map { $0.receipt?.lastPosition } == [Position(1), nil, Position(2), Position(3)])
        // The ids of the refused call were not taken.
        #expect(
            try ledger.commit([try Sample.request(2), try Sample.request(3)]).allSatisfy {
                $0.receipt?.replayed == false
            })
    }

    @Test func tenantsShareNothing() throws {
        var ledger = Ledger()
        let outcomes = try ledger.commit([
            try Sample.request(1, of: 2, .none, text: "two"), try Sample.request(1, of: 1, .none, text: "one"),
            try Sample.request(2, of: 2, .exact(Version(1))), try Sample.request(2, of: 1, .exact(Version(1))),
        ])
        #expect(outcomes.map { $0.receipt?.lastPosition } == [1, 1, 2, 2].map { Position($0) })
        #expect(outcomes.allSatisfy { $0.receipt?.replayed == false }, "an id is unique in its tenant only")
    }

    @Test func theCommitTimeNeverGoesBack() throws {
        var ledger = Ledger()
        let moments: [Int64] = [100, 50, 100, 101, -7, 102, 0]
        let times = try moments.enumerated().map { index, moment in
            try ledger.commit([try Sample.request(UInt64(index) + 1)], now: Timestamp(microseconds: moment))[0]
                .receipt?.recordedAt.microseconds
        }
        #expect(times == [100, 100, 100, 101, 101, 102, 102])
        let other = try ledger.commit([try Sample.request(1, of: 2)], now: Timestamp(microseconds: 7))[0].receipt
        #expect(other?.recordedAt.microseconds == 7, "each tenant has its own time")
    }

    @Test func aBatchOfRefusedCallsStoresNothing() throws {
        let batch = [WriteCommand.append(try Sample.request(1, .exists))]
        let plan = WriteDecision.decide(batch, facts: BatchFacts(), now: Sample.now)
        #expect(plan.tenants.isEmpty && plan.outcomes.count == 1)
        let nothing = WriteDecision.decide([], facts: BatchFacts(), now: Sample.now)
        #expect(nothing.tenants.isEmpty && nothing.outcomes.isEmpty)
    }

    @Test func theQuestionsAreAllThatABatchTouches() throws {
        let questions = WriteDecision.questions(of: [
            .append(Sample.request(1, [try Sample.part(1, [1, 2]), try Sample.part(2, [3])])),
            .append(try Sample.request(1, of: 2)), .append(try Sample.request(4, to: 2)),
        ])
        #expect(questions.tenants == [Sample.tenant(1), Sample.tenant(2)])
        let aggregates = [(1, 1), (1, 2), (2, 1)] as [(UInt64, UInt64)]
        #expect(
            questions.aggregates
                == Set(aggregates.map { AggregateKey(tenant: Sample.tenant($0), name: Sample.aggregate($1)) }))
        let events = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)] as [(UInt64, UInt64)]
        #expect(
            questions.events
                == Set(try events.map { EventKey(tenant: Sample.tenant($0), id: try Sample.event($1).id) }))
        #expect(WriteDecision.questions(of: []).tenants.isEmpty)
    }
}
