import MartletRecordCodec
import MartletModel
import MartletTesting
import MartletStorageMemory
import FoundationEssentials
import MartletClient
import NIOCore
import Testing

@testable import MartletLoadTesting

/// What does not come out even must be seen.
@Suite struct VerificationTests {
    private func entries(_ positions: [UInt64]) -> ByteBuffer {
        var entries = ByteBuffer()
        for position in positions {
            RecordedEntries.write(
                position: Position(position), version: MartletModel.Version(position * 3),
                recordedAt: Timestamp(microseconds: 7),
                aggregate: AggregateName(type: BenchNames.aggregateType, id: .v7()),
                body: ByteBuffer(repeating: 9, count: Int(position % 300)), to: &entries)
        }
        return entries
    }

    @Test func findsPositionsWithoutDecodingEvents() throws {
        let whole = try #require(PagePositions(entries([5, 6, 7, 300, 301].prefix(3).map { $0 })))
        #expect((whole.first, whole.last, whole.count) == (5, 7, 3))
        #expect((whole.firstVersion, whole.lastVersion) == (15, 21))
        #expect(whole.isWithoutGap && whole.isAscending)
        let positions: [UInt64] = [5, 6, 9, 1 << 40, 1 << 40 + 1]
        let apart = try #require(PagePositions(entries(positions)))
        var found: [UInt64] = []
        apart.forEach { found.append($0) }
        #expect(found == positions)
        #expect(!apart.isWithoutGap && apart.isAscending)
        let twice = try #require(PagePositions(entries([5, 5])))
        #expect(!twice.isAscending && !twice.isWithoutGap)
        let back = try #require(PagePositions(entries([5, 4, 6])))
        #expect(!back.isAscending && !back.isWithoutGap)
        #expect(PagePositions(ByteBuffer()) == nil)
        var cut = entries([1, 2])
        cut.moveWriterIndex(to: cut.writerIndex - 1)
        #expect(PagePositions(cut) == nil)
        #expect(PagePositions(ByteBuffer(string: "no events")) == nil)
    }

    @Test func aSubscriberRefusesGapsAndRepetitions() throws {
        let all = EventFilter.all
        let some = EventFilter(eventTypes: [BenchNames.eventTypes[0]])
        func check(_ positions: [UInt64], after position: UInt64, _ filter: EventFilter) -> Bool {
            (try? Subscriber.check(entries(positions), after: position, filter: filter)) != nil
        }
        #expect(check([4, 5, 6], after: 3, all))
        #expect(!check([5, 6], after: 3, all))
        #expect(!check([3, 4], after: 3, all))
        #expect(!check([4, 6], after: 3, all))
        #expect(check([5, 9], after: 3, some))
        #expect(!check([3, 9], after: 3, some))
        #expect(!check([9, 5], after: 3, some))
        #expect(!check([5, 5], after: 3, some))
    }

    @Test func seesWhatWasAcknowledgedAndIsNotStored() async throws {
        let failures = try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                let tenant = TenantID(.v7())
                let count = try await TenantCount([tenant], client: client)
                let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: 50)
                try await HistoryMaker(tenant: tenant, templates: [template]).fill(history: 10, client: client)
                var failures: [Int] = []
                for (acknowledged, unknown) in [(10, 0), (9, 1), (11, 0), (9, 0), (8, 1)] as [(UInt64, UInt64)] {
                    var report = RunReport(workload: "test", parameters: [:])
                    try await count.verify(
                        acknowledged: [acknowledged], unknown: [unknown], client: client, &report)
                    failures.append(report.failures.count)
                }
                return failures
            }
        }
        #expect(failures == [0, 0, 1, 1, 1])
    }

    @Test func seesASubscriberThatLacksEvents() throws {
        let start = Moment.now()
        let board = DeliveryTracker(
            subscribers: 2, acknowledgements: AcknowledgementTimes(from: start, capacity: 64), start: .start)
        board.measure(from: start)
        board.acknowledgements.acknowledged(from: Position(1), to: Position(2), at: start + 0.001)
        board.acknowledgements.acknowledged(from: Position(3), to: Position(3), at: start + 0.002)
        board.delivered(try #require(PagePositions(entries([1, 2, 3]))), to: 0, at: start + 0.005)
        board.delivered(try #require(PagePositions(entries([1, 2]))), to: 1, at: start + 0.004)
        #expect(board.lagEvents == 1)
        var report = RunReport(workload: "test", parameters: [:])
        board.fill(&report)
        #expect(report.deliveries == 5)
        #expect(report.deliveryLatency?.max == 4_000)
        // Three digits are kept.
        #expect((2_999...3_001).contains(report.deliveryLatency?.p50 ?? 0))
        board.verify(matching: 3, unknown: 0, upTo: 3, &report)
        #expect(report.verified["subscribersComplete"] == 1)
        #expect(report.failures.count == 1)
        // An event that comes before its acknowledgement counts as 0.
        board.delivered(try #require(PagePositions(entries([4]))), to: 0, at: start + 0.006)
        board.fill(&report)
        #expect(report.deliveriesBeforeAcknowledgement == rounded(1.0 / 6, digits: 6))
    }

    @Test func eventsDifferInTheirIDs() throws {
        let template = try EventTemplate(type: BenchNames.eventType, payloadBytes: 300)
        var maker = EventMaker([template])
        let events = maker.events(3)
        #expect(Set(events.map(\.id)).count == 3)
        for event in events {
            #expect(event.payloadBytes == 300)
            #expect(event.id.uuid.6 >> 4 == 7)
            var entry = ByteBuffer()
            RecordedEntries.write(
                position: Position(1), version: MartletModel.Version(1), recordedAt: Timestamp(microseconds: 1),
                aggregate: AggregateName(type: BenchNames.aggregateType, id: .v7()), body: event.body, to: &entry)
            let recorded = try #require(try RecordedEntries.decode(entry).first)
            #expect(recorded.event.id == event.id)
            #expect(recorded.event.payload.readableBytes == 300)
            #expect(recorded.event.metadata.userID == "user-4711")
        }
    }
}
