import Foundation
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// What readers answer, beside writers and compared with the oracle.
@Suite(.blocking) struct ReadTests {
    @Test func asOfAnythingIsWhatALinearSearchFinds() throws {
        let bench = try Bench()
        var comparison = try ReaderComparison(bench.engine)
        try comparison.asOf()
    }

    @Test func pagesKeepTheirBoundsAndLoseNothing() throws {
        let bench = try Bench()
        var comparison = try ReaderComparison(bench.engine)
        try comparison.pages(areExact: true)
    }

    @Test func readersSeeWholeCommits() async throws {
        let bench = try Bench()
        let random = SeededGenerator.fromEnvironment()
        let states = try await WholeCommitRace(seed: random.seed).run(bench.engine)
        #expect(states > 5, "the readers saw \(states) states: they did not race")
    }

    @Test func aPageHoldsOneEventHoweverLarge() throws {
        let bench = try Bench()
        let sizes = [7 << 20, 1, 3 << 20]
        let name = AggregateName.new()
        for size in sizes {
            let event = try EncodedEvent.large(size)
            #expect(try bench.writer.append(.of([event], to: name, tenant: bench.tenant)) != nil)
        }
        let reader = bench.engine.makeReader()
        for direction: Direction in [.forward, .backward] {
            let bounds = PageBounds(direction: direction, bytesMax: 1_000)
            var range = PageRange(after: Position.start, to: Position(3))
            for size in direction == .forward ? sizes : sizes.reversed() {
                let page = try reader.page(of: bench.tenant, positions: range, filter: .all, bounds: bounds)
                let events = try RecordedEntries.decode(page.entries)
                #expect(events.map(\.event.payload.readableBytes) == [size])
                let isWhole = events.first?.event.payload == ByteBuffer(repeating: UInt8(ascii: "x"), count: size)
                #expect(isWhole)
                if direction == .forward {
                    range.after = page.scannedTo
                } else {
                    range.to = Position(page.scannedTo.rawValue - 1)
                }
            }
        }
    }

    @Test func positionsUpToTheLastKeyAreTenantsOwn() throws {
        // Neighbours in the table: nothing of the one is in a page of the other, whatever the range.
        let bench = try Bench()
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        for tenant in tenants { try bench.writer.append(try .sample(3, tenant: tenant)) }
        let reader = bench.engine.makeReader()
        for tenant in tenants {
            for direction: Direction in [.forward, .backward] {
                let page = try reader.page(
                    of: tenant, positions: PageRange(after: .start, to: .max), filter: .all,
                    bounds: PageBounds(direction: direction, bytesMax: .max))
                #expect(page.count == 3)
            }
            #expect(try reader.position(of: tenant, asOf: Timestamp(microseconds: .max)) == Position(3))
        }
    }
}

extension EncodedEvent {
    /// An event of that many bytes of payload, which is no JSON.
    static func large(_ bytes: Int) throws -> EncodedEvent {
        var limits = Limits()
        limits.payloadBytesMax = 7 << 20
        let type = EventType("Large")
        return try EncodedEvent(
            NewEvent(
                type: type, contentType: "text/plain", payload: ByteBuffer(repeating: UInt8(ascii: "x"), count: bytes)),
            limits: limits)
    }
}
