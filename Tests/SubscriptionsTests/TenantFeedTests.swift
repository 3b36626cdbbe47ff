import MartletModel
import MartletStorage
import MartletTenants
@testable import MartletSubscriptions
import NIOCore
import NIOEmbedded
import Testing

@Suite struct TenantFeedTests {
    private final class Counter: FeedWaiter, @unchecked Sendable {
        let loop = EmbeddedEventLoop()
        var eventLoop: any EventLoop { loop }
        /// Touched on the test's thread alone, which is the loop's.
        var wakeUps = 0
        func wake() { wakeUps += 1 }

        func settled() -> Int {
            loop.run()
            return wakeUps
        }
    }

    private let log = FakeLog()
    private let tenant = Sample.tenant(1)

    private func limits(perTenant: Int = 1 << 20, all: Int = 1 << 20) -> Limits {
        var limits = Limits()
        limits.tailBytesPerTenantMax = perTenant
        limits.tailBytesMax = all
        return limits
    }

    private func pull(
        _ feed: TenantFeed, after: UInt64, filter: EventFilter = .all, bytesMax: Int = 1 << 20, scanMax: Int = 1_000
    ) -> FeedPull {
        feed.pull(after: Position(after), filter: filter, bytesMax: bytesMax, scanMax: scanMax)
    }

    /// Positions of a page from memory; nil for any other answer.
    private func positions(_ pull: FeedPull) throws -> [UInt64]? {
        guard case .page(let page, _) = pull else { return nil }
        #expect(page.count == (try Sample.positions(page.entries).count))
        return try Sample.positions(page.entries)
    }

    @Test func servesWhatWasPublishedAndNothingElse() throws {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        #expect(pull(feed, after: 0) == .atHead(.empty))
        hub.publish(log.commit(Sample.drafts(3), to: tenant))
        hub.publish(log.commit(Sample.drafts(2), to: tenant))
        #expect(try positions(pull(feed, after: 0)) == [1, 2, 3, 4, 5])
        #expect(try positions(pull(feed, after: 2)) == [3, 4, 5])
        #expect(pull(feed, after: 5) == .atHead(log.head(of: tenant)))
        hub.unfollow(feed)
    }

    @Test func aPageOfOneRunSharesItsBytes() throws {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        let run = log.commit(Sample.drafts(3), to: tenant)
        hub.publish(run)
        guard case .page(let page, _) = pull(feed, after: 0) else { Issue.record("no page"); return }
        let same = unsafe page.entries.withUnsafeReadableBytes { ours in
            unsafe run.entries.withUnsafeReadableBytes { unsafe $0.baseAddress == ours.baseAddress }
        }
        #expect(same)
        hub.unfollow(feed)
    }

    @Test func pagesKeepToTheirBytes() throws {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        let run = log.commit(Sample.drafts(4), to: tenant)
        hub.publish(run)
        let one = run.entries.readableBytes / 4
        #expect(try positions(pull(feed, after: 0, bytesMax: 2 * one)) == [1, 2])
        #expect(try positions(pull(feed, after: 0, bytesMax: 3 * one - 1)) == [1, 2])
        #expect(try positions(pull(feed, after: 2, bytesMax: 1)) == [3])
        hub.unfollow(feed)
    }

    @Test func filtersWithoutStorage() throws {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        var random = SeededGenerator(seed: 3)
        for _ in 0..<10 {
            hub.publish(log.commit((0..<5).map { _ in Sample.draft(using: &random) }, to: tenant))
        }
        for filter in Sample.filters {
            for after in [UInt64(0), 3, 7, 49] {
                for (bytesMax, scanMax) in [(1 << 20, 1_000), (200, 1_000), (1 << 20, 7), (1, 3)] {
                    let expected = log.page(
                        of: tenant, positions: PageRange(after: Position(after), to: Position(50)), filter: filter,
                        bounds: PageBounds(bytesMax: bytesMax, scanMax: scanMax))
                    let actual = pull(feed, after: after, filter: filter, bytesMax: bytesMax, scanMax: scanMax)
                    #expect(actual == .page(expected, head: log.head(of: tenant)))
                }
            }
        }
        hub.unfollow(feed)
    }

    @Test func neverServesAGapThatAnotherServerLeft() throws {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        hub.publish(log.commit(Sample.drafts(2), to: tenant))
        let foreign = log.commit(Sample.drafts(3), to: tenant)
        #expect(pull(feed, after: 2) == .atHead(feed.head) && feed.head.position == Position(2))
        hub.headMoved(tenant, to: foreign.head)
        #expect(try positions(pull(feed, after: 0)) == [1, 2])
        #expect(pull(feed, after: 2) == .inStorage(to: Position(5), head: foreign.head, isBehind: false))
        let own = log.commit(Sample.drafts(1), to: tenant)
        hub.publish(own)
        #expect(pull(feed, after: 2) == .inStorage(to: Position(5), head: own.head, isBehind: false))
        #expect(try positions(pull(feed, after: 5)) == [6])
        hub.headMoved(tenant, to: foreign.head)
        #expect(feed.head == own.head, "an older head is no news")
        hub.publish(foreign)
        #expect(try positions(pull(feed, after: 5)) == [6], "a run that came before changes nothing")
        hub.unfollow(feed)
    }

    @Test func dropsTheOldestOfATenantAndSaysSo() throws {
        let hub = EventHub(limits: limits(perTenant: 4_000))
        let feed = hub.follow(tenant)
        for _ in 0..<50 { hub.publish(log.commit(Sample.drafts(1, payloadBytes: 100), to: tenant)) }
        #expect(hub.tailBytes <= 4_000 && hub.tailBytes > 0)
        guard case .inStorage(let to, _, true) = pull(feed, after: 0) else { Issue.record("not behind"); return }
        #expect(try positions(pull(feed, after: to.rawValue)) == Array(to.rawValue + 1...50))
        hub.unfollow(feed)
        #expect(hub.tailBytes == 0)
    }

    @Test func dropsTheOldestOfAllTenantsFirst() throws {
        let hub = EventHub(limits: limits(perTenant: 8_000, all: 16_000))
        let tenants = (1...8).map { Sample.tenant($0) }
        let feeds = tenants.map { hub.follow($0) }
        for tenant in tenants {
            for _ in 0..<4 { hub.publish(log.commit(Sample.drafts(1, payloadBytes: 400), to: tenant)) }
            #expect(hub.tailBytes <= 16_000)
        }
        guard case .inStorage(_, _, true) = pull(feeds[0], after: 0) else { Issue.record("the oldest stayed"); return }
        #expect(try positions(pull(feeds[7], after: 0)) == [1, 2, 3, 4])
        for feed in feeds { hub.unfollow(feed) }
        #expect(hub.tailBytes == 0 && hub.followedTenants.isEmpty)
    }

    /// Defect 7 of D1: the page that a feed made last stayed when what it was made of had left, on no account: 400
    /// tenants held 406 MiB beside a bound of 128.
    @Test func thePageMadeLastIsOnTheAccountAndLeavesWithItsRuns() throws {
        let limits = limits(perTenant: 40_000, all: 400_000)
        let hub = EventHub(limits: limits)
        let feeds = (UInt64(1)...400).map { hub.follow(Sample.tenant($0)) }
        for feed in feeds {
            // A page of two runs is a copy; one of a single run keeps the whole run alive.
            for _ in 0..<2 { hub.publish(log.commit(Sample.drafts(10, payloadBytes: 200), to: feed.tenant)) }
            let before = hub.tailBytes
            #expect(try positions(pull(feed, after: 0))?.count == 20)
            #expect(hub.tailBytes > before || before + 5_000 > limits.tailBytesMax, "what was copied is counted")
            #expect(try positions(pull(feed, after: 0))?.count == 20, "the same page")
            #expect(hub.tailBytes <= limits.tailBytesMax)
        }
        let held = feeds.map(\.heldBytes).reduce(0, +)
        #expect(held == hub.tailBytes, "\(held) bytes are held, \(hub.tailBytes) are on the account")
        #expect(feeds.filter { $0.heldBytes > 0 }.count < 100, "who has no runs any more has no page either")
        for feed in feeds { hub.unfollow(feed) }
        #expect(hub.tailBytes == 0 && feeds.allSatisfy { $0.heldBytes == 0 })
    }

    @Test func keepsNothingOfTenantsThatNobodyFollows() {
        let hub = EventHub(limits: limits())
        hub.publish(log.commit(Sample.drafts(3), to: tenant))
        #expect(hub.tailBytes == 0)
        let first = hub.follow(tenant)
        let second = hub.follow(tenant)
        #expect(first === second && hub.followedTenants == [tenant])
        hub.publish(log.commit(Sample.drafts(3), to: tenant))
        hub.unfollow(first)
        #expect(hub.tailBytes > 0)
        hub.unfollow(second)
        #expect(hub.tailBytes == 0 && hub.followedTenants.isEmpty)
    }

    @Test func whoeverKnowsLessThanThereIsDoesNotWait() throws {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        let waiter = Counter()
        hub.publish(log.commit(Sample.drafts(2), to: tenant))
        hub.settingsChanged(tenant, to: Sample.settings(1, try Sample.upcasters("[]")))
        #expect(
            feed.arm(waiter, after: Position(2), upcasters: Sample.upcastersVersion(0)) == nil,
            "other upcasters are in force")
        #expect(feed.arm(waiter, after: Position(2), upcasters: Sample.upcastersVersion(1)) != nil)
        let error = MartletError(.unavailable, reason: .storageUnavailable, message: "gone")
        hub.settingsFailed(tenant, epoch: 0, revision: 2, error)
        #expect(waiter.settled() == 1)
        #expect(
            feed.arm(waiter, after: Position(2), upcasters: Sample.upcastersVersion(1)) == nil,
            "those in force are not known")
        #expect(feed.arm(waiter, after: Position(2)) != nil, "it goes by none")
        hub.historyChanged(feed, comparable: Position(1), head: log.head(of: tenant), settings: .success(.none))
        #expect(waiter.settled() == 2)
        #expect(feed.arm(waiter, after: Position(2), past: 0) == nil, "what it knows is over")
        #expect(feed.arm(waiter, after: Position(2), past: 1) != nil)
        hub.unfollow(feed)
    }

    @Test func wakesOnceForEachArming() {
        let hub = EventHub(limits: limits())
        let feed = hub.follow(tenant)
        let waiter = Counter()
        #expect(feed.arm(waiter, after: .start) != nil)
        hub.publish(log.commit(Sample.drafts(1), to: tenant))
        hub.publish(log.commit(Sample.drafts(1), to: tenant))
        #expect(waiter.settled() == 1)
        #expect(feed.arm(waiter, after: Position(1)) == nil, "the head has moved on: arming would lose the wake-up")
        #expect(feed.arm(waiter, after: Position(2)) != nil)
        hub.headMoved(tenant, to: log.commit(Sample.drafts(1), to: tenant).head)
        #expect(waiter.settled() == 2)
        let wait = feed.arm(waiter, after: Position(3))
        if let wait { feed.disarm(wait) }
        #expect(wait != nil)
        hub.publish(log.commit(Sample.drafts(1), to: tenant))
        #expect(waiter.settled() == 2)
        hub.unfollow(feed)
    }
}
