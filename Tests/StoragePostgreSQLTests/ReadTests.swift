import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What readers answer, beside writers and compared with the oracle.
@Suite(.blocking, .needsPostgres) struct ReadTests {
    @Test func asOfAnythingIsWhatALinearSearchFinds() throws {
        var comparison = try ReaderComparison(try Bench().engine())
        try comparison.asOf()
    }

    @Test func pagesKeepTheirBoundsAndLoseNothing() throws {
        var comparison = try ReaderComparison(try Bench().engine())
        try comparison.pages(areExact: false)
    }

    /// What one tenant reads changes no other tenant's pages, nor does what came before in its own.
    @Test func aPageIsFullWhateverWasReadBefore() throws {
        let bench = try Bench()
        let (writer, reader) = (bench.engine().makeWriter(), bench.engine().makeReader())
        let (large, small) = (TenantID(UUID()), AggregateName.new())
        let payload = "\"" + String(repeating: "x", count: 200_000) + "\""
        for _ in 0..<8 { try writer.append(.of([try .sample(payload)], tenant: large)) }
        try writer.append(.sample(60, to: small, tenant: bench.tenant))
        let bounds = PageBounds(bytesMax: 256 << 10)
        let all = PageRange(after: Version.none, to: Version(60))
        for round in 0..<3 {
            for position in 0..<8 {
                let range = PageRange(after: Position(UInt64(position)), to: Position(8))
                #expect(try reader.page(of: large, positions: range, filter: .all, bounds: bounds).count == 1)
            }
            let page = try reader.page(of: small, in: bench.tenant, versions: all, bounds: bounds)
            #expect(page.count == 60 && page.isLast, "round \(round)")
        }
        // The same within a tenant.
        try writer.append(.of(try (0..<60).map { _ in try .sample() }, to: small, tenant: large))
        let rest = try reader.page(of: small, in: large, versions: all, bounds: bounds)
        #expect(rest.count == 60 && rest.isLast)
    }

    @Test func recordsOfAnyLengthMakePagesWithinTheirBounds() throws {
        let bench = try Bench()
        let (writer, reader) = (bench.engine().makeWriter(), bench.engine().makeReader())
        let name = AggregateName.new()
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let sizes = (0..<120).map { index in
            // Stretches of short ones, of long ones, and of both.
            let isLong = index / 30 == 1 || (index / 30 == 2 && Bool.random(using: &numbers))
            return isLong ? Int.random(in: 3_000...60_000, using: &numbers) : Int.random(in: 1...500, using: &numbers)
        }
        let events = try sizes.map { try EncodedEvent.sample("\"" + String(repeating: "x", count: $0) + "\"") }
        for start in stride(from: 0, to: events.count, by: 20) {
            try writer.append(.of(Array(events[start..<start + 20]), to: name, tenant: bench.tenant))
        }
        for bytesMax in [1, 5_000, 20_000, 100_000, 1_000_000] {
            for direction in [Direction.forward, .backward] {
                let bounds = PageBounds(direction: direction, bytesMax: bytesMax)
                var (positions, versions) = (PageRange(after: Position.start, to: Position(120)), [UInt64]())
                var found: [UUID] = []
                while positions.after < positions.to {
                    let page = try reader.page(of: bench.tenant, positions: positions, filter: .all, bounds: bounds)
                    let byVersion = try reader.page(
                        of: name, in: bench.tenant,
                        versions: PageRange(
                            after: Version(positions.after.rawValue), to: Version(positions.to.rawValue)),
                        bounds: bounds)
                    let events = try RecordedEntries.decode(page.entries)
                    #expect(page.count == 1 || page.entries.readableBytes <= bytesMax, "seed \(random.seed)")
                    #expect(page.count == events.count && page.count > 0, "seed \(random.seed)")
                    #expect(byVersion.count == 1 || byVersion.entries.readableBytes <= bytesMax, "seed \(random.seed)")
                    versions += try RecordedEntries.decode(byVersion.entries).map(\.version.rawValue)
                    found += events.map(\.event.id)
                    if page.isLast { #expect(found.count == 120, "seed \(random.seed), \(bytesMax)") }
                    guard let last = page.lastPosition else { throw BenchFailure("an empty page") }
                    switch direction {
                    case .forward: positions.after = last
                    case .backward: positions.to = Position(last.rawValue - 1)
                    }
                }
                let ids = events.map(\.id)
                #expect(found == (direction == .forward ? ids : ids.reversed()), "seed \(random.seed), \(bytesMax)")
                #expect(Set(versions).count == 120, "seed \(random.seed), \(bytesMax)")
            }
        }
    }

    @Test func readersSeeWholeCommits() async throws {
        let random = SeededGenerator.fromEnvironment()
        let states = try await WholeCommitRace(seed: random.seed).run(try Bench().engine())
        #expect(states > 5, "the readers saw \(states) states: they did not race")
    }
}
