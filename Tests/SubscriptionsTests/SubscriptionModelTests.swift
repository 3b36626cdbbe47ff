import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletSubscriptions
import enum MartletTesting.TestRounds
import NIOCore
import NIOEmbedded
import Testing

/// One machine against the real hub and storage by the book, with everything that can happen happening in
/// random order: what it sends is checked against the log at each step.
@Suite struct SubscriptionModelTests {
    @Test(arguments: 0..<TestRounds.count(100, long: 1_000))
    func deliversEachMatchingEventOnce(seed: Int) throws {
        let world = World(seed: UInt64(seed))
        for _ in 0..<400 { try world.step() }
        try world.settle()
    }

    /// Wakes the machine of a world.
    private final class Waiter: FeedWaiter, @unchecked Sendable {
        /// Touched on the test's thread alone, which is the loop's.
        let loop = EmbeddedEventLoop()
        var wakeUps = 0
        var eventLoop: any EventLoop { loop }
        func wake() { wakeUps += 1 }
    }

    private final class World {
        var random: SeededGenerator
        let log = FakeLog()
        let hub: EventHub
        let tenant = Sample.tenant(1)
        let neighbour = Sample.tenant(2)
        let feed: TenantFeed
        let neighbourFeed: TenantFeed
        let waiter = Waiter()
        let limits: Limits
        let filter: EventFilter
        let start: UInt64
        var machine: SubscriptionMachine
        var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
        var credit: UInt64
        /// The head of what another server committed and this one has not heard of.
        var news: TenantHead?
        var reading: (range: PageRange<Position>, bytesMax: Int)?
        /// A page from memory that is on its way through upcasters.
        var delivering: EventPage?
        var isArmed = false
        var isRetrying = false
        /// Positions that came.
        var delivered: [UInt64] = []
        var isLive = false
        var lastSent: NIODeadline

        init(seed: UInt64) {
            var random = SeededGenerator(seed: seed)
            var limits = Limits()
            limits.tailBytesPerTenantMax = Int.random(in: 300...8_000, using: &random)
            limits.tailBytesMax = limits.tailBytesPerTenantMax + Int.random(in: 0...2_000, using: &random)
            limits.pageBytesMax = Int.random(in: 50...2_000, using: &random)
            limits.pageScanEventsMax = Int.random(in: 1...20, using: &random)
            self.limits = limits
            hub = EventHub(limits: limits)
            feed = hub.follow(tenant)
            neighbourFeed = hub.follow(neighbour)
            filter = Sample.filters.randomElement(using: &random) ?? .all
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                _ = log.commit((0..<4).map { _ in Sample.draft(using: &random) }, to: tenant)
            }
            let head = log.head(of: tenant)
            start = UInt64.random(in: 0...head.position.rawValue, using: &random)
            hub.headMoved(tenant, to: head)
            credit = UInt64.random(in: 0...1_000, using: &random)
            machine = SubscriptionMachine(
                start: ResolvedStart(after: Position(start), head: head), creditBytes: credit,
                settings: SubscriptionMachine.Settings(
                    request: SubscribeRequest(tenant: tenant, filter: filter), limits: limits), now: now)
            lastSent = now
            self.random = random
        }

        deinit {
            hub.unfollow(feed)
            hub.unfollow(neighbourFeed)
        }

        func step() throws {
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<15: hub.publish(commit())
            case 15..<20: news = commit().head
            case 20..<26: hearNews()
            case 26..<30: hub.publish(log.commit([Sample.draft(using: &random, bytesMax: 2_000)], to: neighbour))
            case 30..<40: finishReading(succeeds: true)
            case 40..<42: finishReading(succeeds: false)
            case 42..<46: try finishDelivering(succeeds: true)
            case 46..<48: try finishDelivering(succeeds: false)
            case 48..<58:
                let bytes = UInt64.random(in: 0...300, using: &random)
                credit += bytes
                machine.creditAdded(bytes)
            case 58..<62: now = now + .milliseconds(Int64.random(in: 0...4_000, using: &random))
            case 62..<72: deliverWakeUps()
            default: try act()
            }
            #expect(hub.tailBytes <= limits.tailBytesMax)
        }

        func commit() -> RecordedRun {
            log.commit(
                (0..<Int.random(in: 1...5, using: &random)).map { _ in Sample.draft(using: &random, bytesMax: 150) },
                to: tenant)
        }

        func hearNews() {
            guard let head = news else { return }
            news = nil
            hub.headMoved(tenant, to: head)
        }

        /// What was asked of a storage thread comes back: whole, cut short, failed, or of no use any more.
        func finishDelivering(succeeds: Bool) throws {
            guard let page = delivering else { return }
            delivering = nil
            guard succeeds else {
                if Bool.random(using: &random) { return machine.pageDropped() }
                machine.readFailed(gone, now: now)
                isRetrying = true
                return
            }
            machine.pageRead(Bool.random(using: &random) ? page : try firstEvent(of: page), head: feed.head, now: now)
        }

        /// The page up to its first event.
        private func firstEvent(of page: EventPage) throws -> EventPage {
            var rest = page.entries
            guard page.count > 1, let record = try RecordedEntries.nextRecord(of: &rest),
                let first = try Sample.positions(page.entries).first
            else { return page }
            var cut = page
            cut.entries = ByteBuffer()
            RecordedEntries.write(record: record, to: &cut.entries)
            cut.count = 1
            cut.lastPosition = Position(first)
            cut.scannedTo = Position(first)
            cut.isLast = false
            return cut
        }

        private let gone = MartletError(
            .unavailable, reason: .storageUnavailable, message: "gone", isRetryable: true)

        func finishReading(succeeds: Bool) {
            guard let (range, bytesMax) = reading else { return }
            reading = nil
            if succeeds {
                let bounds = PageBounds(bytesMax: bytesMax, scanMax: limits.pageScanEventsMax)
                machine.pageRead(
                    log.page(of: tenant, positions: range, filter: filter, bounds: bounds), head: feed.head, now: now)
            } else {
                machine.readFailed(gone, now: now)
                isRetrying = true
            }
        }

        /// Answers whether there was one.
        @discardableResult
        func deliverWakeUps() -> Bool {
            let before = waiter.wakeUps
            waiter.loop.run()
            guard waiter.wakeUps > before else { return false }
            #expect(isArmed && waiter.wakeUps == before + 1, "once for each arming")
            isArmed = false
            machine.woken()
            return true
        }

        /// Does what the machine wants; false when it rests.
        @discardableResult
        func act() throws -> Bool {
            switch machine.next(now: now) {
            case .send(let message): try check(message)
            case .pull(let after, _, let bytesMax):
                isRetrying = false
                #expect(delivering == nil, "nothing is asked for while something is on its way")
                let pull = feed.pull(
                    after: after, filter: filter, bytesMax: bytesMax, scanMax: limits.pageScanEventsMax)
                if case .page(let page, let head) = pull, page.count > 0, Int.random(in: 0..<3, using: &random) == 0 {
                    delivering = page
                    machine.deliveryBegan(to: page.scannedTo, head: head)
                } else {
                    machine.pulled(pull)
                }
            case .read(let range, let bytesMax):
                #expect(reading == nil, "one read at a time")
                reading = (range, bytesMax)
            case .arm(let after):
                if feed.arm(waiter, after: after) != nil { isArmed = true } else { machine.woken() }
            case .rest:
                #expect(now < lastSent + .milliseconds(Int64(limits.heartbeatMillis)), "silent for too long")
                if isArmed {
                    #expect(nextEventBytes == 0 || deliverWakeUps(), "a lost wake-up")
                } else if reading == nil, delivering == nil, !isRetrying {
                    #expect(nextEventBytes > credit, "idle for no reason")
                }
                return false
            case .end(let error): Issue.record("ended: \(error)")
            }
            return true
        }

        /// Positions of the matching events after the start, up to a position.
        func expected(upTo position: UInt64) -> [UInt64] {
            let events = log.events(of: tenant)
            guard start < position else { return [] }
            return (start + 1...position).filter {
                filter.matches(events[Int($0) - 1].draft.aggregate, events[Int($0) - 1].draft.type)
            }
        }

        /// Bytes of the next event to deliver; 0 when there is none.
        var nextEventBytes: UInt64 {
            let expected = expected(upTo: feed.head.position.rawValue)
            guard expected.count > delivered.count else { return 0 }
            let record = log.events(of: tenant)[Int(expected[delivered.count]) - 1].record
            return UInt64(RecordedEntries.entryBytes(recordBytes: record.readableBytes))
        }

        func check(_ message: SubscriptionMessage) throws {
            lastSent = now
            let bytes = UInt64(message.entries.readableBytes)
            #expect(bytes <= credit, "credit exceeded")
            credit -= min(credit, bytes)
            let positions = try Sample.positions(message.entries)
            #expect(positions.count == message.count)
            delivered += positions
            if let last = positions.last { #expect(delivered == expected(upTo: last)) }
            #expect(message.head.position <= log.head(of: tenant).position)
            guard let signal = message.signal else { return #expect(message.count > 0) }
            switch signal {
            case .started(let after): #expect(after.rawValue == start && delivered.isEmpty)
            case .caughtUp(let position):
                #expect(!isLive)
                isLive = true
                #expect(delivered == expected(upTo: position.rawValue))
            case .fellBehind(let position):
                #expect(isLive)
                isLive = false
                #expect(delivered == expected(upTo: position.rawValue))
            case .checkpoint(let position):
                #expect(!filter.isEmpty)
                #expect(delivered == expected(upTo: position.rawValue))
            case .upcastersChanged: Issue.record("nobody changed them")
            case .heartbeat(let position, let waiting):
                #expect(delivered == expected(upTo: position.rawValue))
                if waiting > 0 { #expect(waiting > credit) }
            }
        }

        /// Lets everything that is under way come to its end, and no more: all that matches must have come.
        func settle() throws {
            hearNews()
            credit += 1 << 40
            machine.creditAdded(1 << 40)
            var turns = 0
            while turns < 100_000 {
                turns += 1
                if try act() { continue }
                if reading != nil {
                    finishReading(succeeds: true)
                } else if delivering != nil {
                    try finishDelivering(succeeds: true)
                } else if isRetrying {
                    now = machine.deadline
                } else if !deliverWakeUps() {
                    break
                }
            }
            #expect(delivered == expected(upTo: log.head(of: tenant).position.rawValue))
            #expect(isLive && isArmed)
        }
    }
}
