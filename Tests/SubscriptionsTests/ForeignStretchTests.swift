import MartletModel
import MartletStorage
import MartletSubscriptions
import MartletTesting
import NIOCore
import NIOEmbedded
import Testing

/// What another server committed is read from storage once for all who follow, whatever they filter by.
@Suite struct ForeignStretchTests {
    private final class Follower {
        let filter: EventFilter
        var positions: [UInt64] = []
        var signals: [SubscriptionMessage.Signal] = []
        private(set) var driver: SubscriptionDriver?

        init(_ filter: EventFilter, _ world: World) {
            self.filter = filter
            driver = SubscriptionDriver(
                request: SubscribeRequest(tenant: world.tenant, start: .head, filter: filter), creditBytes: 1 << 30,
                eventLoop: world.loop, hub: world.hub, reads: world.reads,
                room: .alone(for: world.tenant, limits: world.limits, on: world.loop), limits: world.limits,
                emit: { [unowned self] message in
                    positions += (try? Sample.positions(message.entries)) ?? []
                    if let signal = message.signal { signals.append(signal) }
                }, onEnd: { Issue.record("\($0)") })
            driver?.start()
        }
    }

    private final class World {
        let tenant = Sample.tenant(1)
        let loop = EmbeddedEventLoop()
        let later = Later()
        let limits: Limits
        let log: FakeLog
        let hub: EventHub
        let reads: ReadCoalescer
        var followers: [Follower] = []

        init(_ limits: Limits) {
            self.limits = limits
            log = FakeLog(execute: later.execute)
            hub = EventHub(limits: limits)
            reads = ReadCoalescer(source: log, limits: limits)
        }

        /// One for each aggregate and type, one for all events, and one for none of them.
        func follow() {
            for aggregate in Sample.aggregates {
                for type in Sample.eventTypes {
                    followers.append(Follower(EventFilter(eventTypes: [type], aggregateIDs: [aggregate.id]), self))
                }
            }
            followers += (Sample.filters + [.all]).map { Follower($0, self) }
            settle()
        }

        func settle() {
            repeat {
                later.run()
                loop.run()
            } while later.count > 0
        }

        /// As another server does; this one hears of it.
        func commitElsewhere(_ drafts: [Draft]) {
            _ = log.commit(drafts, to: tenant)
            hub.headMoved(tenant, to: log.head(of: tenant))
        }

        func commitHere(_ drafts: [Draft]) { hub.publish(log.commit(drafts, to: tenant)) }

        func expectAll(_ comment: Comment) {
            let events = log.events(of: tenant)
            for follower in followers {
                let wanted = events.indices.filter {
                    follower.filter.matches(events[$0].draft.aggregate, events[$0].draft.type)
                }
                #expect(follower.positions == wanted.map { UInt64($0) + 1 }, comment)
            }
        }

        func end() {
            for follower in followers { follower.driver?.cancel() }
            settle()
            #expect(hub.tailBytes == 0)
        }
    }

    private static func drafts(_ count: Int, _ random: inout MartletTesting.SeededGenerator) -> [Draft] {
        (0..<count).map { _ in Sample.draft(using: &random) }
    }

    @Test func oneReadServesAllWhoFollow() {
        var random = MartletTesting.SeededGenerator.fromEnvironment()
        let world = World(Limits())
        world.follow()
        for round in 1...5 {
            let before = world.log.readCount
            world.commitElsewhere(Self.drafts(20, &random))
            world.settle()
            #expect(world.log.readCount == before + 1, "round \(round)")
            // What this server commits follows it in memory.
            world.commitHere(Self.drafts(3, &random))
            world.settle()
            #expect(world.log.readCount == before + 1, "round \(round)")
            world.expectAll("round \(round)")
        }
        world.end()
    }

    /// This server's own commit is heard of before the others' that it follows.
    @Test func aStretchBeforeWhatIsInMemoryIsReadOnce() {
        var random = MartletTesting.SeededGenerator.fromEnvironment()
        let world = World(Limits())
        world.follow()
        world.commitHere(Self.drafts(5, &random))
        world.settle()
        let before = world.log.readCount
        _ = world.log.commit(Self.drafts(20, &random), to: world.tenant)
        world.commitHere(Self.drafts(5, &random))
        world.settle()
        #expect(world.log.readCount == before + 1)
        world.expectAll("before what is in memory")
        world.end()
    }

    @Test func whatFindsNoPlaceIsReadByEachForItself() {
        var random = MartletTesting.SeededGenerator.fromEnvironment()
        var limits = Limits()
        limits.tailBytesPerTenantMax = 1_000
        let world = World(limits)
        world.follow()
        world.commitElsewhere(Self.drafts(50, &random))
        world.settle()
        world.expectAll("no place")
        #expect(world.hub.tailBytes <= limits.tailBytesPerTenantMax)
        world.end()
    }

    /// A long stretch is searched in storage, by each filter's index.
    @Test func aLongStretchIsNotTakenIntoMemory() {
        var random = MartletTesting.SeededGenerator.fromEnvironment()
        var limits = Limits()
        limits.pageScanEventsMax = 40
        let world = World(limits)
        world.follow()
        let before = world.log.readCount
        world.commitElsewhere(Self.drafts(401, &random))
        world.settle()
        world.expectAll("long")
        // All but its last part: 10 pages of 40 events for each filter, of which two are the same.
        #expect(world.log.readCount - before > 10 * Sample.aggregates.count * Sample.eventTypes.count)
        world.end()
    }

    @Test(arguments: 0..<TestRounds.count(16, long: 200)) func everyoneGetsWhatMatchesOnceAndInOrder(_ round: Int) {
        let environment = MartletTesting.SeededGenerator.fromEnvironment()
        var random = MartletTesting.SeededGenerator(seed: environment.seed &+ UInt64(round))
        var limits = Limits()
        limits.pageBytesMax = Int.random(in: 300...3_000, using: &random)
        limits.pageScanEventsMax = Int.random(in: 3...60, using: &random)
        limits.tailBytesPerTenantMax = Int.random(in: 2_000...60_000, using: &random)
        let world = World(limits)
        world.follow()
        for _ in 0..<60 {
            switch Int.random(in: 0..<9, using: &random) {
            case 0, 1: world.commitElsewhere(Self.drafts(.random(in: 1...30, using: &random), &random))
            case 2: _ = world.log.commit(Self.drafts(.random(in: 1...5, using: &random), &random), to: world.tenant)
            case 3, 4: world.commitHere(Self.drafts(.random(in: 1...30, using: &random), &random))
            case 5, 6: world.later.run()
            default: world.loop.run()
            }
        }
        world.hub.headMoved(world.tenant, to: world.log.head(of: world.tenant))
        for _ in 0..<20 {
            world.settle()
            world.loop.advanceTime(by: .milliseconds(50))
        }
        world.expectAll("seed \(environment.seed)")
        world.end()
    }
}
