import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing
@testable import MartletService

/// One timer serves the deadlines of all calls: it goes off at the earliest, or before.
@Suite struct CallDeadlinesTests {
    private let loop = EmbeddedEventLoop()
    private let fired = NIOLockedValueBox(0)

    private func add(_ millis: Int64, to deadlines: inout CallDeadlines) {
        deadlines.add(.uptimeNanoseconds(0) + .milliseconds(millis), on: loop) { [fired] in
            fired.withLockedValue { $0 += 1 }
        }
    }

    private var count: Int { fired.withLockedValue { $0 } }

    @Test func theEarliestDeadlineCounts() {
        var deadlines = CallDeadlines()
        add(100, to: &deadlines)
        add(200, to: &deadlines)
        add(50, to: &deadlines)
        loop.advanceTime(by: .milliseconds(49))
        #expect(count == 0)
        loop.advanceTime(by: .milliseconds(1))
        #expect(count == 1)
        // The owner looks for what is left, and adds it again.
        deadlines.due()
        add(100, to: &deadlines)
        add(200, to: &deadlines)
        loop.advanceTime(by: .milliseconds(50))
        #expect(count == 2)
        loop.advanceTime(by: .seconds(1))
        #expect(count == 2, "a timer of a later deadline is set when the owner adds it again")
    }

    @Test func laterDeadlinesSetNoTimer() {
        var deadlines = CallDeadlines()
        for millis in Int64(10)..<1_000 { add(millis, to: &deadlines) }
        loop.advanceTime(by: .seconds(2))
        #expect(count == 1)
    }

    @Test func nothingComesAfterTheEnd() {
        var deadlines = CallDeadlines()
        add(10, to: &deadlines)
        deadlines.cancel()
        loop.advanceTime(by: .seconds(1))
        #expect(count == 0)
    }
}
