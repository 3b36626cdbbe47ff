import Foundation
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing
@testable import MartletSubscriptions

/// Whoever reads, wherever, gets what storage holds there, as much of it as was asked for.
@Suite struct SharedReadsTests {
    private final class Store: PageSource {
        let engine: MemoryEngine

        init(_ engine: MemoryEngine) { self.engine = engine }

        func resolveStart(
            of request: SubscribeRequest, completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void
        ) { completion(.success(ResolvedStart(after: .start, head: .empty))) }

        func readPage(
            of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
            completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
        ) {
            completion(
                Result {
                    () throws(StorageError) in
                    try engine.makeReader().page(of: tenant, positions: range, filter: filter, bounds: bounds)
                }.mapError { MartletError($0) })
        }
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
        let reads = SharedReads(source: Store(engine), limits: limits)
        let reader = engine.makeReader()
        for round in 0..<2_000 {
            let tenant = tenants[Int.random(in: 0..<2, using: &numbers)]
            let head = try reader.head(of: tenant).position
            let after = Position(.random(in: 0..<head.rawValue, using: &numbers))
            let bytesMax = Int.random(in: 1...3_000, using: &numbers)
            let box = NIOLockedValueBox<EventPage?>(nil)
            reads.readPage(of: tenant, positions: PageRange(after: after, to: head), filter: .all, bytesMax: bytesMax) {
                result in box.withLockedValue { $0 = try? result.get() }
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
}
