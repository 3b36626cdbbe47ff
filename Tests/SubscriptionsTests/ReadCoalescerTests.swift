import Foundation
import MartletDelivery
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletStorageMemory
import MartletTesting
import MartletUpcasting
import NIOConcurrencyHelpers
import NIOCore
import Testing
@testable import MartletSubscriptions

/// Whoever reads, wherever, gets what storage holds there, as much of it as was asked for.
@Suite struct ReadCoalescerTests {
    private final class Store: PageSource {
        let engine: MemoryEngine

        init(_ engine: MemoryEngine) { self.engine = engine }

        func resolveStart(
            of request: SubscribeRequest, completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void
        ) -> StoreTicket? {
            completion(.success(ResolvedStart(after: .start, head: .empty)))
            return nil
        }

        func readPage(
            of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
            completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
        ) -> StoreTicket? {
            completion(
                Result {
                    () throws(StorageError) in
                    try engine.makeReader().page(of: tenant, positions: range, filter: filter, bounds: bounds)
                }.mapError { MartletError($0) })
            return nil
        }

        func work(for tenant: TenantID, _ body: @escaping @Sendable (MartletError?) -> Void) -> StoreTicket? {
            body(nil)
            return nil
        }

        func cancel(_ ticket: StoreTicket) {}
    }

    @Test func everyPartOfEveryPageIsWhatStorageHolds() throws {
        let random = MartletTesting.SeededGenerator.fromEnvironment()
        var numbers = random
        let engine = MemoryEngine()
        let tenants = [TenantID(UUID()), TenantID(UUID())]
        for tenant in tenants {
            for _ in 0..<60 {
                _ = try engine.makeWriter().commit(
                    [.sample(Int.random(in: 1...9, using: &numbers), tenant: tenant)], now: Timestamp(microseconds: 1))
            }
        }
        var limits = Limits()
        limits.pageBytesMax = 2_000
        limits.recentPageBytesMax = 12_000
        let reads = ReadCoalescer(source: Store(engine), limits: limits)
        let reader = engine.makeReader()
        for round in 0..<2_000 {
            let tenant = tenants[Int.random(in: 0..<2, using: &numbers)]
            let head = try reader.head(of: tenant).position
            let after = Position(.random(in: 0..<head.rawValue, using: &numbers))
            let bytesMax = Int.random(in: 1...3_000, using: &numbers)
            let box = NIOLockedValueBox<EventPage?>(nil)
            _ = reads.readPage(
                of: tenant, positions: PageRange(after: after, to: head), delivery: Sample.plainly, bytesMax: bytesMax
            ) { result in
                box.withLockedValue { $0 = (try? result.get())?.page }
            }
            let page = try #require(box.withLockedValue { $0 })
            let expected = try reader.page(
                of: tenant, positions: PageRange(after: after, to: head), filter: .all,
                bounds: PageBounds(eventsMax: page.count, bytesMax: .max))
            let place = "seed \(random.seed), round \(round)"
            #expect(page.count > 0 && page.entries == expected.entries, "\(place)")
            #expect(page.entries.readableBytes <= max(bytesMax, 300) || page.count == 1, "\(place)")
            #expect(page.lastPosition == expected.lastPosition && page.scannedTo == page.lastPosition, "\(place)")
            #expect(page.isLast == (page.scannedTo == head), "\(place)")
            #expect(reads.keptBytes <= limits.recentPageBytesMax, "\(place)")
        }
        #expect(reads.readCount < 2_000, "some were shared")
    }

    private func read(
        _ reads: ReadCoalescer, after: UInt64, to: UInt64, _ delivery: EventDelivery = Sample.plainly,
        into pages: NIOLockedValueBox<[EventPage?]>
    ) -> ReadCoalescer.Wait? {
        reads.readPage(
            of: Sample.tenant(1), positions: PageRange(after: Position(after), to: Position(to)), delivery: delivery,
            bytesMax: 1 << 20
        ) { result in
            pages.withLockedValue { $0.append((try? result.get())?.page) }
        }
    }

    /// Defect 4 of D1: what was cancelled was read all the same.
    @Test func aReadThatNobodyWaitsForAnyMoreLeaves() throws {
        let later = Later()
        let log = FakeLog(execute: later.execute)
        _ = log.commit(Sample.drafts(20), to: Sample.tenant(1))
        let reads = ReadCoalescer(source: log, limits: Limits())
        let pages = NIOLockedValueBox<[EventPage?]>([])
        let waits = (0..<3).map { _ in read(reads, after: 0, to: 20, into: pages) }.compactMap { $0 }
        #expect(waits.count == 3 && reads.waitingCounts == (1, 3))
        reads.cancel(waits[0])
        reads.cancel(waits[1])
        reads.cancel(waits[1])
        #expect(reads.waitingCounts == (1, 1) && log.cancelledCount == 0, "somebody waits for it")
        reads.cancel(waits[2])
        #expect(reads.waitingCounts == (0, 0) && log.cancelledCount == 1)
        // Whoever comes then begins anew.
        let next = read(reads, after: 0, to: 20, into: pages)
        reads.cancel(waits[2])
        #expect(reads.waitingCounts == (1, 1) && next != nil)
        later.run()
        #expect(pages.withLockedValue { $0.map { $0?.count } } == [20] && reads.readCount == 2)
        if let next { reads.cancel(next) }
        #expect(reads.waitingCounts == (0, 0))
    }

    @Test func nobodyJoinsAReadOfThePastBefore() {
        let later = Later()
        let log = FakeLog(execute: later.execute)
        _ = log.commit(Sample.drafts(20), to: Sample.tenant(1))
        let reads = ReadCoalescer(source: log, limits: Limits())
        let pages = NIOLockedValueBox<[EventPage?]>([])
        _ = read(reads, after: 0, to: 20, into: pages)
        reads.historyChanged(Sample.tenant(1))
        _ = read(reads, after: 0, to: 20, into: pages)
        _ = read(reads, after: 0, to: 20, into: pages)
        #expect(reads.waitingCounts == (2, 3))
        later.run()
        #expect(pages.withLockedValue { $0.count } == 3 && reads.readCount == 2 && reads.waitingCounts == (0, 0))
    }

    @Test func leavingCostsTheSameHoweverManyWait() {
        let later = Later()
        let log = FakeLog(execute: later.execute)
        _ = log.commit(Sample.drafts(20), to: Sample.tenant(1))
        let reads = ReadCoalescer(source: log, limits: Limits())
        let pages = NIOLockedValueBox<[EventPage?]>([])
        let waits = (0..<20_000).map { _ in read(reads, after: 0, to: 20, into: pages) }.compactMap { $0 }
        for wait in waits.reversed() { reads.cancel(wait) }
        #expect(waits.count == 20_000 && reads.waitingCounts == (0, 0) && log.cancelledCount == 1)
        later.run()
    }

    @Test func thoseWhoWantTheSameShareADeliveryAndOthersDoNot() throws {
        let later = Later()
        let log = FakeLog(execute: later.execute)
        _ = log.commit(Sample.drafts(20), to: Sample.tenant(1))
        let reads = ReadCoalescer(source: log, limits: Limits())
        let pages = NIOLockedValueBox<[EventPage?]>([])
        let set = try Sample.upcasters(#"[{"event":"Made","from":1,"operations":[{"type":"Built"}]}]"#)
        let (a, b) = (Sample.delivery(set), Sample.delivery(set))
        let raw = Sample.delivery(set, UpcastingOptions(isRaw: true))
        let tolerant = Sample.delivery(set, UpcastingOptions(onFailure: .raw))
        let waits = [a, b, raw, tolerant].map { read(reads, after: 0, to: 20, $0, into: pages) }
        #expect(waits.allSatisfy { $0 != nil } && reads.waitingCounts == (3, 4))
        later.run()
        let types = try pages.withLockedValue { $0 }.map { page in
            Set(try RecordedEntries.decode(page?.entries ?? ByteBuffer()).map(\.event.type.text))
        }
        #expect(types.filter { $0 == ["Built"] }.count == 3 && types.filter { $0 == ["Made"] }.count == 1)
        // From now on the page is kept: those that it is as it is for get it at once, others in turn with the reads.
        #expect(read(reads, after: 0, to: 20, raw, into: pages) == nil)
        #expect(read(reads, after: 0, to: 20, a, into: pages) != nil)
        #expect(later.count == 1 && pages.withLockedValue { $0.count } == 5)
        later.run()
        #expect(pages.withLockedValue { $0.last??.count } == 20)
    }
}
