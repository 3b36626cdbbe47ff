import MartletTesting
import Testing

@testable import MartletStorage

/// A file that a thread held can be opened as soon as somebody has waited for the thread.
@Suite struct WorkThreadsTests {
    private final class Held: Sendable {
        func touch() {}
    }

    private static let rounds = 2_000

    @Test func whatTheWorkHeldIsGoneAtItsEnd() async {
        for round in 0..<Self.rounds {
            let threads = WorkThreads()
            weak var held: Held?
            do {
                let new = Held()
                held = new
                threads.start(name: "work") { new.touch() }
                threads.start(name: "work") { new.touch() }
            }
            if round.isMultiple(of: 2) { await threads.waitForEnd() } else { threads.blockUntilEnd() }
            #expect(held == nil, "round \(round)")
        }
    }

    @Test func withoutThreadsNobodyWaits() async {
        let threads = WorkThreads()
        await threads.waitForEnd()
        threads.blockUntilEnd()
    }
}
