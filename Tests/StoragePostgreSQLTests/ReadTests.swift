import EventModel
import EventStorage
import EventTesting
import Testing
@testable import StoragePostgreSQL

/// What readers answer, beside writers and compared with the oracle.
@Suite(.blocking, .needsPostgres) struct ReadTests {
    @Test func asOfAnythingIsWhatALinearSearchFinds() throws {
        var comparison = try ReaderComparison(try Bench().engine())
        try comparison.asOf()
    }

    @Test func pagesKeepTheirBoundsAndLoseNothing() throws {
        var comparison = try ReaderComparison(try Bench().engine())
        try comparison.pages(areFull: false)
    }

    @Test func readersSeeWholeCommits() async throws {
        let random = SeededGenerator.fromEnvironment()
        let states = try await WholeCommitRace(seed: random.seed).run(try Bench().engine())
        #expect(states > 5, "the readers saw \(states) states: they did not race")
    }
}
