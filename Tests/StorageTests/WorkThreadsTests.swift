import FoundationEssentials
import MartletModel
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
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

    /// What one tenant makes reads cost must not slow the threads that serve everybody.
    @Test func readThreadsStandBackAndOthersDoNot() async {
        let (values, ours) = (NIOLockedValueBox<[CInt]>([]), WorkThreads.niceValue)
        let threads = WorkThreads()
        threads.start(name: "read", standsBack: true) {
            values.withLockedValue { $0.append(WorkThreads.niceValue) }
        }
        await threads.waitForEnd()
        threads.start(name: "commit") { values.withLockedValue { $0.append(WorkThreads.niceValue) } }
        await threads.waitForEnd()
        // As engines ask: with one whose reads wait for another process, a thread that stands back is only late.
        for standsBack in [true, false] {
            let pool = ReaderPool(readsMax: 4, threadCount: 1, uptimeNanos: { 0 })
            pool.start(standsBack: standsBack) { MemoryEngine().makeReader() }
            await withCheckedContinuation { continuation in
                let admission = pool.add(for: TenantID(UUID())) { _ in
                    values.withLockedValue { $0.append(WorkThreads.niceValue) }
                    continuation.resume()
                }
                #expect(admission != .closed)
            }
            await pool.close()
        }
        let back = min(19, ours + WorkThreads.standingBackBy)
        #expect(values.withLockedValue { $0 } == [back, ours, back, ours])
        #expect(WorkThreads.niceValue == ours)
    }

    @Test func withoutThreadsNobodyWaits() async {
        let threads = WorkThreads()
        await threads.waitForEnd()
        threads.blockUntilEnd()
    }
}
