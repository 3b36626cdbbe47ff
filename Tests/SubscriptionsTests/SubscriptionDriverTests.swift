import MartletModel
import MartletStorage
import MartletSubscriptions
import MartletTenants
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing

@Suite struct SubscriptionDriverTests {
    /// A subscription on an embedded loop, and what came of it.
    private final class Subscriber {
        var messages: [SubscriptionMessage] = []
        var positions: [UInt64] = []
        var ends: [MartletError] = []
        var onMessage: (SubscriptionMessage) -> Void = { _ in }
        private(set) var driver: SubscriptionDriver?

        init(
            _ request: SubscribeRequest, credit: UInt64 = 1 << 30, on loop: EmbeddedEventLoop, hub: EventHub,
            reads: ReadCoalescer, room: AnswerRoom? = nil, limits: Limits
        ) {
            driver = SubscriptionDriver(
                request: request, creditBytes: credit, eventLoop: loop, hub: hub, reads: reads,
                room: room ?? .alone(for: request.tenant, limits: limits, on: loop), limits: limits,
                emit: { [unowned self] message in
                    messages.append(message)
                    positions += (try? Sample.positions(message.entries)) ?? []
                    onMessage(message)
                },
                onEnd: { [unowned self] in ends.append($0) })
        }

        var signals: [SubscriptionMessage.Signal] { messages.compactMap(\.signal) }
    }

    private let tenant = Sample.tenant(1)
    private let loop = EmbeddedEventLoop()
    private let later = Later()
    private let log: FakeLog
    private let limits: Limits
    private let hub: EventHub
    private let reads: ReadCoalescer

    init() {
        var limits = Limits()
        limits.pageBytesMax = 600
        limits.pageScanEventsMax = 5
        limits.tailBytesPerTenantMax = 20_000
        self.limits = limits
        log = FakeLog(execute: later.execute)
        hub = EventHub(limits: limits)
        reads = ReadCoalescer(source: log, limits: limits)
    }

    private func subscribe(
        _ start: SubscriptionStart = .after(.start), filter: EventFilter = .all, credit: UInt64 = 1 << 30
    ) -> Subscriber {
        let subscriber = Subscriber(
            SubscribeRequest(tenant: tenant, start: start, filter: filter, heartbeatMillis: 1_000), credit: credit,
            on: loop, hub: hub, reads: reads, limits: limits)
        subscriber.driver?.start()
        return subscriber
    }

    /// Does what is to be done, without time going by.
    private func settle() {
        repeat {
            later.run()
            loop.run()
        } while later.count > 0
    }

    @Test func goesFromStorageToLive() {
        _ = log.commit(Sample.drafts(30), to: tenant)
        let subscriber = subscribe()
        settle()
        #expect(subscriber.positions == Array(1...30))
        #expect(subscriber.signals == [.started(after: .start), .caughtUp(Position(30))])
        let before = log.readCount
        hub.publish(log.commit(Sample.drafts(5), to: tenant))
        settle()
        #expect(subscriber.positions == Array(1...35))
        #expect(log.readCount == before, "live events come from memory")
        subscriber.driver?.cancel()
        #expect(hub.followedTenants.isEmpty)
    }

    @Test func missesNothingThatIsCommittedWhileItStarts() {
        _ = log.commit(Sample.drafts(3), to: tenant)
        let subscriber = subscribe()
        hub.publish(log.commit(Sample.drafts(2), to: tenant))
        later.run()
        hub.publish(log.commit(Sample.drafts(2), to: tenant))
        settle()
        #expect(subscriber.positions == Array(1...7))
        subscriber.driver?.cancel()
    }

    /// What was asked of the past before is not taken in: neither a start nor a page.
    @Test func whatWasReadBeforeThePastChangedIsReadAgain() throws {
        _ = log.commit(Sample.drafts(30), to: tenant)
        let subscriber = subscribe()
        let feed = try #require(hub.followed(tenant))
        func change() {
            reads.historyChanged(tenant)
            hub.historyChanged(feed, comparable: Position(30), head: log.head(of: tenant), settings: .success(.none))
        }
        change()
        later.run()
        loop.run()
        #expect(subscriber.messages.isEmpty && later.count == 1, "the start is resolved again")
        later.run()
        loop.run()
        #expect(subscriber.signals == [.started(after: .start)] && later.count == 1, "a page is being read")
        let before = log.readCount
        change()
        later.run()
        loop.run()
        #expect(subscriber.positions.isEmpty && log.readCount == before + 1)
        settle()
        #expect(subscriber.positions == Array(1...30) && subscriber.ends.isEmpty)
        subscriber.driver?.cancel()
    }

    @Test func endsWhereTheStartIsRefused() {
        _ = log.commit(Sample.drafts(3), to: tenant)
        let subscriber = subscribe(.after(Position(4)))
        settle()
        #expect(subscriber.ends.map(\.reason) == [.positionBeyondHead])
        #expect(subscriber.messages.isEmpty && hub.followedTenants.isEmpty)
    }

    @Test func isSilentOnceCancelled() {
        _ = log.commit(Sample.drafts(3), to: tenant)
        let early = subscribe()
        early.driver?.cancel()
        settle()
        #expect(early.messages.isEmpty && early.ends.isEmpty)

        let reading = subscribe()
        later.run()
        loop.run()
        #expect(later.count == 1, "a page is being read")
        reading.driver?.cancel()
        settle()
        #expect(reading.signals == [.started(after: .start)] && reading.positions.isEmpty && reading.ends.isEmpty)

        let within = subscribe()
        within.onMessage = { [unowned within] message in if message.count > 0 { within.driver?.cancel() } }
        settle()
        hub.publish(log.commit(Sample.drafts(1), to: tenant))
        loop.advanceTime(by: .seconds(10))
        #expect(within.positions == [1, 2, 3] && within.ends.isEmpty && hub.followedTenants.isEmpty)
    }

    @Test func pausesWhileTheChannelIsFull() {
        let subscriber = subscribe(.head)
        settle()
        subscriber.onMessage = { [unowned subscriber] message in
            if message.count > 0 { subscriber.driver?.setWritable(false) }
        }
        for _ in 0..<3 { hub.publish(log.commit(Sample.drafts(5, payloadBytes: 60), to: tenant)) }
        settle()
        let first = subscriber.positions.count
        #expect(first > 0 && first < 15)
        loop.advanceTime(by: .seconds(30))
        #expect(subscriber.positions.count == first, "no event and no heartbeat into a full channel")
        subscriber.onMessage = { _ in }
        subscriber.driver?.setWritable(true)
        settle()
        #expect(subscriber.positions == Array(1...15))
        subscriber.driver?.cancel()
    }

    @Test(arguments: 0..<40) func pagesAreReadWhereThereIsRoomForThem(_ round: Int) throws {
        let environment = MartletTesting.SeededGenerator.fromEnvironment()
        var random = MartletTesting.SeededGenerator(seed: environment.seed &+ UInt64(round))
        let pool = FairPool(bytesMax: 8 * limits.pageBytesMax)
        let window = ReadWindow()
        // One in ten is larger than a page, and than the pool has room for.
        let drafts = (0..<60).map { _ in
            Draft(
                aggregate: Sample.aggregates[0], type: Sample.eventTypes[0],
                payloadBytes: Int.random(in: 0..<10, using: &random) == 0 ? 1_500 : 100)
        }
        _ = log.commit(drafts, to: tenant)
        let subscribers = (0..<20).map { number in
            let start = SubscriptionStart.after(Position(UInt64.random(in: 0..<60, using: &random)))
            // Of those without a filter some share a page.
            let filter = number % 2 == 0 ? EventFilter.all : EventFilter(eventTypes: [Sample.eventTypes[0]])
            let subscriber = Subscriber(
                SubscribeRequest(tenant: tenant, start: start, filter: filter, heartbeatMillis: 1_000),
                on: loop, hub: hub, reads: reads,
                room: AnswerRoom(pool: pool, window: window, tenant: tenant, eventLoop: loop), limits: limits)
            subscriber.driver?.start()
            guard case .after(let position) = start else { preconditionFailure("it starts after a position") }
            return (subscriber: subscriber, start: position.rawValue)
        }
        var cancelled: Set<Int> = []
        for _ in 0..<300 {
            let index = Int.random(in: 0..<subscribers.count, using: &random)
            switch Int.random(in: 0..<12, using: &random) {
            case 0 where cancelled.count < 10:
                subscribers[index].subscriber.driver?.cancel()
                cancelled.insert(index)
            case 1...3: subscribers[index].subscriber.driver?.setWritable(false)
            case 4...6: subscribers[index].subscriber.driver?.setWritable(true)
            case 7...9: later.run()
            default: loop.run()
            }
            #expect(pool.bytes <= pool.bytesMax, "seed \(environment.seed)")
        }
        for (subscriber, _) in subscribers { subscriber.driver?.setWritable(true) }
        for _ in 0..<200 {
            settle()
            loop.advanceTime(by: .milliseconds(100))
        }
        for (index, (subscriber, start)) in subscribers.enumerated() where !cancelled.contains(index) {
            #expect(subscriber.positions == Array(start + 1...60), "seed \(environment.seed)")
            subscriber.driver?.cancel()
        }
        settle()
        #expect(pool.bytes == 0 && window.enter(ReadWindow.bytesMax, wake: {}) == nil, "seed \(environment.seed)")
    }

    /// It would never find room beside what the others hold, however often it is read.
    @Test func whatNoFrameHoldsIsRefusedHoweverLittleRoomThereIs() {
        var limits = limits
        limits.frameBytesMax = Limits.frameEnvelopeBytes + 1_000
        let pool = FairPool(bytesMax: 4 * limits.pageBytesMax)
        // What is read beyond that brings nothing, so that reading without end comes to one.
        let reads = NIOLockedValueBox(0)
        let log = FakeLog { [later] read in
            if reads.withLockedValue({
                $0 += 1; return $0
            }) <= 50 {
                later.execute(read)
            }
        }
        _ = log.commit(Sample.drafts(1, payloadBytes: 3_000), to: tenant)
        let subscribers = (0..<5).map { _ in
            let room = AnswerRoom(pool: pool, window: ReadWindow(), tenant: tenant, eventLoop: loop)
            return Subscriber(
                SubscribeRequest(tenant: tenant, start: .after(.start), heartbeatMillis: 1_000), on: loop, hub: hub,
                reads: ReadCoalescer(source: log, limits: limits), room: room, limits: limits)
        }
        for subscriber in subscribers { subscriber.driver?.start() }
        for _ in 0..<100 {
            later.run()
            loop.run()
        }
        #expect(subscribers.allSatisfy { $0.ends.map(\.reason) == [.limitExceeded] && $0.positions.isEmpty })
        #expect(log.readCount == subscribers.count, "it was read again")
        #expect(pool.bytes == 0)
    }

    @Test func subscriptionsOfOneLoopTakeTurns() {
        let subscribers = [subscribe(.head), subscribe(.head)]
        settle()
        var order: [Int] = []
        for (index, subscriber) in subscribers.enumerated() {
            subscriber.onMessage = { message in if message.count > 0 { order.append(index) } }
        }
        for _ in 0..<10 { hub.publish(log.commit(Sample.drafts(4, payloadBytes: 50), to: tenant)) }
        settle()
        #expect(order.count >= 10)
        for (this, next) in zip(order, order.dropFirst()) { #expect(this != next, "one page a turn") }
        for subscriber in subscribers { subscriber.driver?.cancel() }
    }

    @Test func aPageFromStorageAndOneFromMemoryAreTwoTurns() {
        _ = log.commit(Sample.drafts(4), to: tenant)
        let subscriber = subscribe()
        later.run()
        loop.run()
        hub.publish(log.commit(Sample.drafts(4), to: tenant))
        var order: [String] = []
        subscriber.onMessage = { [loop] message in
            guard message.count > 0 else { return }
            order.append("page")
            loop.execute { order.append("others") }
        }
        settle()
        #expect(subscriber.positions == Array(1...8) && order == ["page", "others", "page", "others"])
        subscriber.driver?.cancel()
    }

    @Test func aLongSearchTakesTurnsToo() {
        let searching = subscribe(.head, filter: Sample.filters[5])
        let reading = subscribe(.head)
        settle()
        var order: [String] = []
        searching.onMessage = { if case .checkpoint = $0.signal { order.append("searched") } }
        reading.onMessage = { if $0.count > 0 { order.append("read") } }
        for _ in 0..<20 { hub.publish(log.commit(Sample.drafts(1, payloadBytes: 30), to: tenant)) }
        settle()
        #expect(searching.signals.last == .checkpoint(Position(20)) && reading.positions == Array(1...20))
        #expect(order.count >= 8)
        for (this, next) in zip(order.prefix(8), order.prefix(8).dropFirst()) { #expect(this != next, "\(order)") }
        searching.driver?.cancel()
        reading.driver?.cancel()
    }

    @Test func readersAtOnePlaceShareAReadOfStorage() {
        _ = log.commit(Sample.drafts(100), to: tenant)
        let subscribers = (0..<10).map { _ in subscribe() }
        settle()
        for subscriber in subscribers { #expect(subscriber.positions == Array(1...100)) }
        #expect(reads.readCount > 5 && reads.readCount < 40, "one reader alone needs \(reads.readCount)")
        let shared = reads.readCount
        let alone = subscribe()
        settle()
        #expect(alone.positions == Array(1...100))
        #expect(reads.readCount == shared, "all of it was read just now, and is kept")
        #expect(reads.keptBytes > 0 && reads.keptBytes <= limits.recentPageBytesMax)
        for subscriber in subscribers + [alone] { subscriber.driver?.cancel() }
    }

    @Test func storageFailuresAreWaitedOut() {
        _ = log.commit(Sample.drafts(10), to: tenant)
        let gone = MartletError(.unavailable, reason: .storageUnavailable, message: "gone", isRetryable: true)
        log.fail([gone, gone])
        let subscriber = subscribe()
        settle()
        #expect(subscriber.positions.isEmpty && subscriber.ends.isEmpty && reads.failureCount == 1)
        loop.advanceTime(by: .milliseconds(100))
        settle()
        #expect(reads.failureCount == 2)
        loop.advanceTime(by: .milliseconds(200))
        settle()
        #expect(subscriber.positions == Array(1...10))
        log.fail([MartletError(.dataLoss, reason: .storageCorrupted, message: "damaged")])
        // With a filter: pages without one are kept from the first.
        let second = subscribe(filter: EventFilter(eventTypes: ["Other"]))
        settle()
        #expect(second.ends.map(\.reason) == [.storageCorrupted])
        subscriber.driver?.cancel()
        #expect(hub.followedTenants.isEmpty)
    }

    @Test func beatsAndSaysWhatCreditItWaitsFor() {
        let subscriber = subscribe(.head, credit: 10)
        settle()
        let run = log.commit(Sample.drafts(1), to: tenant)
        hub.publish(run)
        settle()
        #expect(subscriber.positions.isEmpty)
        let needed = UInt64(run.entries.readableBytes)
        let beat = SubscriptionMessage.Signal.heartbeat(.start, waitingForCreditBytes: needed)
        #expect(subscriber.signals.last == beat, "no credit that is under way will do, so it is told at once")
        for _ in 0..<2 { loop.advanceTime(by: .seconds(1)) }
        #expect(subscriber.signals == [.started(after: .start), .caughtUp(.start), beat, beat, beat])
        #expect(subscriber.messages.last?.head == run.head)
        subscriber.driver?.addCredit(needed - 10)
        settle()
        #expect(subscriber.positions == [1])
        subscriber.driver?.cancel()
    }

    @Test func creditGrantedWhileTheStartIsResolvedCounts() {
        let run = log.commit(Sample.drafts(2), to: tenant)
        let subscriber = subscribe(credit: 0)
        subscriber.driver?.addCredit(UInt64(run.entries.readableBytes))
        settle()
        #expect(subscriber.positions == [1, 2])
        subscriber.driver?.cancel()
    }
}
