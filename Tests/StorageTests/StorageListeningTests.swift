import MartletModel
import MartletTesting
import Foundation
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletStorage

@Suite struct StorageListeningTests {
    /// A listener that hears what it is told, once each, and then waits to be interrupted.
    private final class Scripted: StorageListener, @unchecked Sendable {
        // Guarded by `condition`.
        private var script: [Result<StorageNews, StorageError>]
        private var isInterrupted = false
        private let condition = NSCondition()

        init(_ script: [Result<StorageNews, StorageError>]) { self.script = script }

        func wait(atMost milliseconds: Int) throws(StorageError) -> StorageNews {
            let next: Result<StorageNews, StorageError> = condition.withLock {
                guard script.isEmpty else { return script.removeFirst() }
                while !isInterrupted { condition.wait() }
                return .success(.moved([:]))
            }
            return try next.get()
        }

        func interrupt() {
            condition.withLock {
                isInterrupted = true
                condition.broadcast()
            }
        }
    }

    private let heard = Recorder<StorageNews>()

    private func listening(_ script: [Result<StorageNews, StorageError>]) -> StorageListening {
        let heard = heard
        return StorageListening(listener: Scripted(script), logger: .silent) { heard.add($0) }
    }

    @Test func newsComeThroughAndTimeOutsAreUnknown() async {
        let moved = StorageNews.moved([Sample.tenant(): TenantHead(position: Position(1), recordedAt: Sample.now)])
        let listening = listening([.success(moved), .success(.moved([:])), .success(.unknown), .success(moved)])
        listening.start()
        #expect(await heard.reaches(4))
        #expect(heard.values == [moved, .unknown, .unknown, moved])
        await listening.stop()
    }

    @Test func newsDoNotPutOffTheLookAtAllOthers() async {
        let time = NIOLockedValueBox(NIODeadline.uptimeNanoseconds(0))
        let moved = StorageNews.moved([Sample.tenant(): TenantHead(position: Position(1), recordedAt: Sample.now)])
        let heard = heard
        let listening = StorageListening(
            listener: Scripted(Array(repeating: .success(moved), count: 25)), logger: .silent,
            uptime: { time.withLockedValue { $0 } }
        ) { news in
            heard.add(news)
            // News of one tenant ten times a second.
            if news == moved { time.withLockedValue { $0 = $0 + .milliseconds(100) } }
        }
        listening.start()
        #expect(await heard.reaches(27))
        #expect(heard.values.filter { $0 == .unknown }.count == 2, "25 news in 2.5 s")
        await listening.stop()
    }

    @Test func afterAFailureAnythingMayHaveMoved() async {
        let listening = listening([.failure(StorageError(.unavailable, "away"))])
        listening.start()
        #expect(await heard.reaches(1))
        #expect(heard.values.first == .unknown)
        await listening.stop()
    }

    @Test func stoppingEndsEveryoneWhoWaitsForIt() async {
        let listening = listening([])
        listening.start()
        let stopped = Recorder<Int>()
        // Unstructured on purpose: were one of them to wait forever, the test would fail and not hang.
        for number in 0..<3 {
            Task {
                await listening.stop()
                stopped.add(number)
            }
        }
        #expect(await stopped.reaches(3))
        await listening.stop()
    }

    @Test func stoppingWhatNeverStartedReturns() async { await listening([]).stop() }
}
