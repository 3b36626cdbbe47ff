import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletSubscriptions
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// Real threads: publishers at full speed, subscribers on event loops, storage on a thread pool.
@Suite struct FanOutStressTests {
    /// A subscriber, on its event loop.
    private final class Subscriber: @unchecked Sendable {
        let tenant: TenantID
        let filter: EventFilter
        let start: UInt64
        let isSlow: Bool
        let loop: any EventLoop
        // Touched on `loop` alone.
        private var driver: SubscriptionDriver?
        private var credit: UInt64 = 0
        private(set) var positions: [UInt64] = []
        private(set) var faults: [String] = []
        /// How many came, for those on other threads.
        let count = NIOLockedValueBox(0)

        init(tenant: TenantID, filter: EventFilter, start: UInt64, isSlow: Bool, loop: any EventLoop) {
            self.tenant = tenant
            self.filter = filter
            self.start = start
            self.isSlow = isSlow
            self.loop = loop
        }

        func begin(hub: EventHub, reads: ReadCoalescer, limits: Limits) {
            credit = isSlow ? 500 : 1 << 20
            driver = SubscriptionDriver(
                request: SubscribeRequest(tenant: tenant, start: .after(Position(start)), filter: filter),
                creditBytes: credit, eventLoop: loop, hub: hub, reads: reads,
                room: .alone(for: tenant, limits: limits, on: loop), limits: limits,
                emit: { [unowned self] in take($0) }, onEnd: { [unowned self] in faults.append("ended: \($0)") })
            driver?.start()
        }

        private func take(_ message: SubscriptionMessage) {
            let bytes = UInt64(message.entries.readableBytes)
            if bytes > credit { faults.append("credit exceeded") }
            credit -= min(bytes, credit)
            do {
                positions += try Sample.positions(message.entries)
            } catch { faults.append("\(error)") }
            count.withLockedValue { $0 = positions.count }
            guard bytes > 0 else { return }
            if isSlow {
                loop.assumeIsolated().scheduleTask(in: .milliseconds(3)) { [self] in grant(500) }
            } else {
                grant(bytes)
            }
        }

        private func grant(_ bytes: UInt64) {
            credit += bytes
            driver?.addCredit(bytes)
        }

        /// All credit there is: a slow one reads to the end.
        func hurry() { loop.execute { self.grant(1 << 40) } }

        func end() { driver?.cancel() }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func everySubscriberGetsItsEventsAtAnyRate(seed: UInt64) async throws {
        print("fan-out stress: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        var limits = Limits()
        limits.pageBytesMax = 4_000
        limits.pageScanEventsMax = 50
        limits.tailBytesPerTenantMax = 30_000
        limits.tailBytesMax = 80_000
        limits.heartbeatMillis = 20
        let pool = NIOThreadPool(numberOfThreads: 2)
        pool.start()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let log = FakeLog { job in pool.submit { _ in job() } }
        let hub = EventHub(limits: limits)
        let reads = ReadCoalescer(source: log, limits: limits)
        let tenants = (1...4).map { Sample.tenant($0) }
        // As the committer does: a tenant's runs are published one after the other.
        let order = Dictionary(uniqueKeysWithValues: tenants.map { ($0, NIOLock()) })
        for tenant in tenants { _ = log.commit(Sample.drafts(40), to: tenant) }

        let publishing = Array(0..<8).map { publisher in
            let seed = random.next()
            return (publisher, seed)
        }
        let limit = limits
        async let published: Void = withTaskGroup(of: Void.self) { publishers in
            for (publisher, seed) in publishing {
                let tenant = tenants[publisher % tenants.count]
                publishers.addTask {
                    var random = SeededGenerator(seed: seed)
                    for _ in 0..<150 {
                        let drafts = (0..<Int.random(in: 1...8, using: &random)).map { _ in
                            Sample.draft(using: &random)
                        }
                        let isForeign = Int.random(in: 0..<20, using: &random) == 0
                        order[tenant]?.withLock {
                            let run = log.commit(drafts, to: tenant)
                            if isForeign { hub.headMoved(tenant, to: run.head) } else { hub.publish(run) }
                        }
                        if Int.random(in: 0..<4, using: &random) == 0 { await Task.yield() }
                    }
                }
            }
        }
        var subscribers: [Subscriber] = []
        for index in 0..<50 {
            let tenant = tenants[index % tenants.count]
            let subscriber = Subscriber(
                tenant: tenant, filter: Sample.filters[Int.random(in: 0...5, using: &random)],
                start: UInt64.random(in: 0...log.head(of: tenant).position.rawValue, using: &random),
                isSlow: index % 5 == 0, loop: group.next())
            subscribers.append(subscriber)
            subscriber.loop.execute { subscriber.begin(hub: hub, reads: reads, limits: limit) }
            if index % 4 == 0 { try await Task.sleep(for: .milliseconds(1)) }
        }
        await published
        #expect(hub.tailBytes <= limits.tailBytesMax)
        for subscriber in subscribers where subscriber.isSlow { subscriber.hurry() }

        let deadline = ContinuousClock.now + .seconds(20)
        for subscriber in subscribers {
            let events = log.events(of: subscriber.tenant)
            let expected = events.indices.map { UInt64($0) + 1 }.filter { position in
                let draft = events[Int(position) - 1].draft
                return position > subscriber.start && subscriber.filter.matches(draft.aggregate, draft.type)
            }
            while subscriber.count.withLockedValue({ $0 }) < expected.count, .now < deadline {
                try await Task.sleep(for: .milliseconds(5))
            }
            let (positions, faults) = try await subscriber.loop.submit {
                subscriber.end()
                return (subscriber.positions, subscriber.faults)
            }.get()
            #expect(positions == expected)
            #expect(faults.isEmpty)
        }
        #expect(hub.followedTenants.isEmpty && hub.tailBytes == 0)
        #expect(reads.readCount > 0)
        try await group.shutdownGracefully()
        try await pool.shutdownGracefully()
    }
}
