import MartletModel
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing
@testable import MartletSubscriptions

/// Whoever waits is woken for each piece of news that came after it began to wait, however waves and pauses fall.
@Suite struct WakeupSchedulerTests {
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
        let scheduler = WakeupScheduler(eventLoop: loop)
        let waiter = Waiter(loop)
        for round in 1...3 {
            #expect(scheduler.add(waiter, isDue: false) != nil)
            scheduler.begin()
            #expect(waiter.wakeUps == round - 1, "not on the thread that brings the news")
            loop.run()
            #expect(waiter.wakeUps == round)
        }
        scheduler.begin()
        loop.run()
        #expect(waiter.wakeUps == 3, "nobody waits")
        #expect(scheduler.add(waiter, isDue: true) == nil, "there is news, and nothing to wait for")
    }

    @Test func manyAreNotWokenAgainBeforeThePauseIsOver() {
        let time = NIOLockedValueBox(NIODeadline.uptimeNanoseconds(0))
        let scheduler = WakeupScheduler(eventLoop: loop) { time.withLockedValue { $0 } }
        let waiters = (0..<10).map { _ in Waiter(loop) }
        for waiter in waiters {
            // Sending to each takes a millisecond.
            waiter.onWake = { time.withLockedValue { $0 = $0 + .milliseconds(1) } }
            #expect(scheduler.add(waiter, isDue: false) != nil)
        }
        scheduler.begin()
        loop.run()
        #expect(waiters.allSatisfy { $0.wakeUps == 1 })
        // There is news already: those who come now wait for the next wave, 10 ms after the first, which took 10.
        for waiter in waiters { #expect(scheduler.add(waiter, isDue: true) != nil) }
        scheduler.begin()
        loop.advanceTime(by: .milliseconds(19))
        #expect(waiters.allSatisfy { $0.wakeUps == 1 })
        loop.advanceTime(by: .milliseconds(1))
        loop.run()
        #expect(waiters.allSatisfy { $0.wakeUps == 2 })
        loop.advanceTime(by: .seconds(1))
    }

    @Test func afterAPauseWithoutNewsNobodyIsWoken() {
        let scheduler = WakeupScheduler(eventLoop: loop)
        let waiters = (0..<20).map { _ in Waiter(loop) }
        for waiter in waiters { #expect(scheduler.add(waiter, isDue: false) != nil) }
        scheduler.begin()
        loop.run()
        for waiter in waiters { #expect(scheduler.add(waiter, isDue: false) != nil) }
        loop.advanceTime(by: .seconds(1))
        #expect(waiters.allSatisfy { $0.wakeUps == 1 })
        scheduler.begin()
        loop.run()
        #expect(waiters.allSatisfy { $0.wakeUps == 2 })
    }

    @Test func whoIsTakenOutIsNotWoken() {
        let scheduler = WakeupScheduler(eventLoop: loop)
        let waiters = (0..<3).map { _ in Waiter(loop) }
        let places = waiters.map { scheduler.add($0, isDue: false) }
        if let place = places[1] { scheduler.remove(place) }
        scheduler.begin()
        loop.run()
        #expect(waiters.map(\.wakeUps) == [1, 0, 1])
        // A place of a wave that is over is nobody's.
        let late = scheduler.add(waiters[1], isDue: false)
        for place in places.compactMap({ $0 }) { scheduler.remove(place) }
        scheduler.begin()
        loop.run()
        #expect(waiters.map(\.wakeUps) == [1, 1, 1] && late != nil)
    }

    /// Defect 6 of D1: leaving looked at every waiter, 400 million of them where 20,000 left. Now it has a slot to free:
    /// as many slots as waiters, however often they leave and come.
    @Test func leavingLooksAtNobodyElse() {
        let scheduler = WakeupScheduler(eventLoop: loop)
        let waiters = (0..<20_000).map { _ in Waiter(loop) }
        var places: [WakeupScheduler.Place] = []
        for waiter in waiters { if let place = scheduler.add(waiter, isDue: false) { places.append(place) } }
        #expect(places.count == 20_000 && Set(places.map(\.slot)) == Set(0..<20_000))
        for (waiter, place) in zip(waiters.reversed(), places.reversed()) {
            scheduler.remove(place)
            // The slot that was freed is taken by who comes next: nothing was moved, and nobody else's slot changed.
            guard scheduler.add(waiter, isDue: false)?.slot == place.slot else { Issue.record("moved"); return }
        }
        #expect(scheduler.slotCount == 20_000)
        for place in places.prefix(19_999) { scheduler.remove(place) }
        scheduler.begin()
        loop.run()
        #expect(waiters.map(\.wakeUps).reduce(0, +) == 1 && waiters.last?.wakeUps == 1 && scheduler.slotCount == 0)
    }

    @Test func aTurnOfTheLoopWakesASlice() {
        let scheduler = WakeupScheduler(eventLoop: loop)
        var woken = 0
        var order: [Int] = []
        for _ in 0..<1_000 {
            let waiter = Waiter(loop)
            waiter.onWake = { woken += 1 }
            #expect(scheduler.add(waiter, isDue: false) != nil)
        }
        scheduler.begin()
        // Each task of others is called before the next slice.
        func look() {
            order.append(woken)
            if woken < 1_000 { loop.execute(look) }
        }
        loop.execute(look)
        loop.run()
        #expect(woken == 1_000 && zip(order, order.dropFirst()).allSatisfy { $1 - $0 <= 256 }, "\(order)")
    }
}
