import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletSubscriptions
import MartletTenants
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletService

/// A storage that has come back with another past, as the feeds see it.
@Suite struct TenantStateCheckTests {
    private let engine = MemoryEngine()
    private let hub = EventHub(limits: Limits())
    private let forgotten = NIOLockedValueBox<[TenantID]>([])
    private let tenant = TenantID(UUID())

    private var check: TenantStateCheck {
        TenantStateCheck(
            hub: hub, settings: SettingsCache(limits: Limits()),
            forgetPages: { [forgotten] tenant in forgotten.withLockedValue { $0.append(tenant) } })
    }

    /// Appends one event after the other, as this server does.
    private func append(_ count: Int, isTold: Bool = true) throws {
        let writer = engine.makeWriter()
        for _ in 0..<count {
            let done = try writer.commit([.sample(tenant: tenant)], now: .now())
            if isTold { done.runs.forEach { hub.publish($0) } }
        }
    }

    private func look(overPast: UInt64? = nil) throws {
        try check.look(
            after: [TenantStateRefresh.Asked(tenant: tenant, overPast: overPast)], engine.makeReader())
    }

    private func pull(_ feed: TenantFeed, after: UInt64, past: UInt64 = 0) -> FeedPull {
        feed.pull(after: Position(after), past: past, filter: .all, bytesMax: 1 << 20, scanMax: 100)
    }

    @Test func fewerEventsAreAnotherPast() throws {
        let feed = hub.follow(tenant)
        try append(5)
        engine.restore([tenant: 3])
        try look()
        #expect(feed.past == 1 && feed.head.position == Position(3))
        #expect(pull(feed, after: 5) == .historyChanged(comparable: Position(3), past: 1))
        #expect(forgotten.withLockedValue { $0 } == [tenant])
        // What vanished is not in memory any more, and who starts anew is told nothing.
        #expect(pull(feed, after: 3, past: 1) == .atHead(feed.head))
    }

    @Test(arguments: [2, 3]) func otherEventsInTheSamePlacesAreAnotherPast(_ added: Int) throws {
        let feed = hub.follow(tenant)
        try append(5)
        engine.restore([tenant: 3])
        // Another server commits: as many events as there were, or more.
        try append(added, isTold: false)
        try look()
        #expect(feed.past == 1 && feed.head.position == Position(UInt64(3 + added)))
        #expect(pull(feed, after: 5) == .historyChanged(comparable: Position(3), past: 1))
    }

    @Test func ofSeveralChangesNothingIsComparable() throws {
        let feed = hub.follow(tenant)
        for kept in [2, 1] {
            try append(3)
            engine.restore([tenant: kept])
            try look()
        }
        #expect(pull(feed, after: 1) == .historyChanged(comparable: .start, past: feed.past))
    }

    @Test func oneCommitMoreIsNoOtherPast() throws {
        let feed = hub.follow(tenant)
        try append(2)
        for _ in 0..<20 {
            try append(1, isTold: Bool.random())
            try look()
        }
        #expect(feed.past == 0 && feed.head.position == Position(22))
        #expect(forgotten.withLockedValue { $0 } == [])
    }

    /// A client has sent again what was lost, under the id that it had: the head is the same event, and the past is not.
    @Test func anEventThatIsStoredAgainIsNoProof() throws {
        let feed = hub.follow(tenant)
        try append(3)
        let again = WriteCommand.append(try .sample(tenant: tenant))
        try append(1)
        let done = try engine.makeWriter().commit([again], now: .now())
        done.runs.forEach { hub.publish($0) }
        engine.restore([tenant: 3])
        try append(1, isTold: false)
        _ = try engine.makeWriter().commit([again], now: Timestamp(microseconds: feed.head.recordedAt.microseconds + 1))
        try look()
        #expect(feed.past == 1)
        #expect(pull(feed, after: 5) == .historyChanged(comparable: Position(3), past: 1))
    }

    /// Below the head, too, where what was there is still in memory.
    @Test func anotherEventBelowTheHeadIsDoubted() throws {
        let doubts = NIOLockedValueBox<[UInt64?]>([])
        let hub = EventHub(limits: Limits(), onDoubt: { _, past in doubts.withLockedValue { $0.append(past) } })
        let feed = hub.follow(tenant)
        let writer = engine.makeWriter()
        var runs: [RecordedRun] = []
        for _ in 0..<5 { runs += try writer.commit([.sample(tenant: tenant)], now: .now()).runs }
        for run in runs { hub.publish(run) }
        for run in runs { hub.publish(run) }
        #expect(doubts.withLockedValue { $0.isEmpty }, "what is known is no news")
        engine.restore([tenant: 3])
        for run in try writer.commit([.sample(tenant: tenant)], now: .now()).runs { hub.publish(run) }
        #expect(doubts.withLockedValue { $0 } == [0] && feed.head.position == Position(5))
    }

    @Test func whatAFollowerHasProvedIsTakenUpOnce() throws {
        let feed = hub.follow(tenant)
        try append(4)
        try look(overPast: 0)
        #expect(feed.past == 1)
        try look(overPast: 0)
        #expect(feed.past == 1, "said of a past that is over already")
    }

    /// A run that cannot follow what the feed has raises a doubt, and does not come into memory.
    @Test func aRunOfAnotherPastIsDoubted() throws {
        let doubts = NIOLockedValueBox<[UInt64?]>([])
        let hub = EventHub(limits: Limits(), onDoubt: { _, past in doubts.withLockedValue { $0.append(past) } })
        let feed = hub.follow(tenant)
        let writer = engine.makeWriter()
        let commit = { [tenant] (count: Int) in
            for _ in 0..<count {
                let done = try writer.commit([.sample(tenant: tenant)], now: .now())
                done.runs.forEach { hub.publish($0) }
            }
        }
        try commit(5)
        #expect(doubts.withLockedValue { $0 } == [])
        engine.restore([tenant: 3])
        try commit(2)
        #expect(doubts.withLockedValue { $0 } == [0, 0], "below the head, and at its place")
        try commit(1)
        #expect(doubts.withLockedValue { $0 } == [0, 0, 0], "after the place of the head")
        guard case .page(let page, _) = pull(feed, after: 5) else {
            Issue.record("no page")
            return
        }
        #expect(page.count == 1 && page.endEventID == feed.head.eventID)
    }

    /// Damage in one tenant's settings ends what needs these, and keeps no other tenant's events back.
    @Test func damagedSettingsAreNoMatterOfOthers() throws {
        let feed = hub.follow(tenant)
        let tenants = [tenant, TenantID(UUID()), TenantID(UUID())]
        let feeds = [feed] + tenants.dropFirst().map { hub.follow($0) }
        for tenant in tenants { _ = try engine.makeWriter().commit([.sample(tenant: tenant)], now: .now()) }
        try engine.makeWriter().apply(
            .putSettings(PutSettingsRequest(tenant: tenant, kind: .upcasters, document: ByteBuffer(string: "{}"))),
            now: .now())
        let reader = SettingsWatch(
            engine.makeReader(),
            before: { asked throws(StorageError) in
                if asked == tenant { throw StorageError(.corrupted, "planted") }
            })
        try check.look(after: tenants.map { TenantStateRefresh.Asked(tenant: $0) }, reader)
        #expect(feeds.map(\.head.position) == [Position(1), Position(1), Position(1)])
        guard case .failure(let error) = feed.settings else {
            Issue.record("the settings are there")
            return
        }
        #expect(error.reason == .storageCorrupted)
    }
}
