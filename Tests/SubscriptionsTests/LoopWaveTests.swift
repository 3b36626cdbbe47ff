import MartletModel
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing
@testable import MartletSubscriptions

/// Whoever waits is woken for each piece of news that came after it began to wait, however waves and pauses fall.
@Suite struct LoopWaveTests {
    private final class Waiter: FeedWaiter, @unchecked Sendable {
        let eventLoop: any EventLoop
        /// Touched on the event loop alone.
        var wakeUps = 0
        var onWake: () -> Void = {}

        init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

        func wake() {
            wakeUps += 1
            onWake()
        }
    }

    private let loop = EmbeddedEventLoop()

    @Test func aFewAreWokenAtOnceAndAgain() {
        let wave = LoopWave(eventLoop: loop)
        let waiter = Waiter(loop)
        for round in 1...3 {
            #expect(wave.add(waiter, isDue: false))
            wave.begin()
            #expect(waiter.wakeUps == round - 1, "not on the thread that brings the news")
            loop.run()
            #expect(waiter.wakeUps == round)
        }
        wave.begin()
        loop.run()
        #expect(waiter.wakeUps == 3, "nobody waits")
        #expect(!wave.add(waiter, isDue: true), "there is news, and nothing to wait for")
    }

    @Test func manyAreNotWokenAgainBeforeThePauseIsOver() {
        let time = NIOLockedValueBox(NIODeadline.uptimeNanoseconds(0))
        let wave = LoopWave(eventLoop: loop) { time.withLockedValue { $0 } }
        let waiters = (0..<10).map { _ in Waiter(loop) }
        for waiter in waiters {
            // Sending to each takes a millisecond.
            waiter.onWake = { time.withLockedValue { $0 = $0 + .milliseconds(1) } }
            #expect(wave.add(waiter, isDue: false))
        }
        wave.begin()
        loop.run()
        #expect(waiters.allSatisfy { $0.wakeUps == 1 })
        // There is news already: those who come now wait for the next wave, 10 ms after the first, which took 10.
        for waiter in waiters { #expect(wave.add(waiter, isDue: true)) }
        wave.begin()
        loop.advanceTime(by: .milliseconds(19))
        #expect(waiters.allSatisfy { $0.wakeUps == 1 })
        loop.advanceTime(by: .milliseconds(1))
        loop.run()
        #expect(waiters.allSatisfy { $0.wakeUps == 2 })
    }

    @Test func afterAPauseWithoutNewsNobodyIsWoken() {
        let wave = LoopWave(eventLoop: loop)
        let waiters = (0..<20).map { _ in Waiter(loop) }
        for waiter in waiters { #expect(wave.add(waiter, isDue: false)) }
        wave.begin()
        loop.run()
        for waiter in waiters { #expect(wave.add(waiter, isDue: false)) }
        loop.advanceTime(by: .seconds(1))
        #expect(waiters.allSatisfy { $0.wakeUps == 1 })
        wave.begin()
        loop.run()
        #expect(waiters.allSatisfy { $0.wakeUps == 2 })
    }

    @Test func whoIsTakenOutIsNotWoken() {
        let wave = LoopWave(eventLoop: loop)
        let waiters = (0..<3).map { _ in Waiter(loop) }
        for waiter in waiters { #expect(wave.add(waiter, isDue: false)) }
        wave.remove(waiters[1])
        wave.begin()
        loop.run()
        #expect(waiters.map(\.wakeUps) == [1, 0, 1])
    }
}
