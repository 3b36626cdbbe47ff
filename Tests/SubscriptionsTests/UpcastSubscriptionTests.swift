import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTenants
import MartletSubscriptions
import MartletTesting
import MartletUpcasting
import NIOCore
import NIOEmbedded
import Testing

/// Defect 2 of D1: subscriptions upcast on their event loop, so that 40 two-byte events froze it for seconds. Now what
/// the upcasters concern is upcast on a storage thread, which is what runs with `later` here.
@Suite struct UpcastSubscriptionTests {
    private final class Subscriber {
        private(set) var types: [String] = []
        private(set) var positions: [UInt64] = []
        private(set) var signals: [SubscriptionMessage.Signal] = []
        /// Events and changes of upcasters, in order.
        private(set) var course: [String] = []
        private(set) var ends: [MartletError] = []
        private(set) var failures = 0
        var onMessage: (SubscriptionMessage) -> Void = { _ in }
        private(set) var driver: SubscriptionDriver?

        init(
            _ request: SubscribeRequest, on loop: EmbeddedEventLoop, hub: EventHub, reads: ReadCoalescer,
            _ limits: Limits
        ) {
            driver = SubscriptionDriver(
                request: request, creditBytes: 1 << 30, eventLoop: loop, hub: hub, reads: reads,
                room: .alone(for: request.tenant, limits: limits, on: loop), limits: limits,
                onUpcastFailures: { [unowned self] in failures += $0 },
                emit: { [unowned self] in take($0) }, onEnd: { [unowned self] in ends.append($0) })
        }

        private func take(_ message: SubscriptionMessage) {
            for event in (try? RecordedEntries.decode(message.entries)) ?? [] {
                types.append(event.event.type.text)
                positions.append(event.position.rawValue)
                course.append("\(event.position.rawValue) \(event.event.type.text)")
            }
            onMessage(message)
            guard let signal = message.signal else { return }
            signals.append(signal)
            if case .upcastersChanged = signal { course.append("changed") }
        }
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
        limits.pageBytesMax = 2_000
        limits.tailBytesPerTenantMax = 20_000
        self.limits = limits
        log = FakeLog(execute: later.execute)
        hub = EventHub(limits: limits)
        reads = ReadCoalescer(source: log, limits: limits)
    }

    private func subscribe(
        _ start: SubscriptionStart = .after(.start), _ options: UpcastingOptions = .latest, filter: EventFilter = .all
    ) -> Subscriber {
        let subscriber = Subscriber(
            SubscribeRequest(tenant: tenant, start: start, filter: filter, upcasting: options), on: loop, hub: hub,
            reads: reads, limits)
        subscriber.driver?.start()
        return subscriber
    }

    private func settle() {
        repeat {
            later.run()
            loop.run()
        } while later.count > 0
    }

    private func renaming(_ type: String, to new: String) throws -> UpcasterSet {
        try Sample.upcasters(#"[{"event":"\#(type)","from":1,"operations":[{"type":"\#(new)"}]}]"#)
    }

    private func drafts(_ types: [String]) -> [Draft] {
        types.compactMap { EventType($0) }.map { Draft(aggregate: Sample.aggregates[0], type: $0, payloadBytes: 10) }
    }

    @Test func theLoopUpcastsNothingAndWaitsForNothing() throws {
        let subscriber = subscribe()
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made", "Made"]), to: tenant))
        loop.run()
        #expect(subscriber.positions.isEmpty && later.count == 1, "it is upcast elsewhere")
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        loop.run()
        #expect(later.count == 1, "one page at a time")
        settle()
        #expect(subscriber.types == ["Built", "Built", "Built"] && subscriber.positions == [1, 2, 3])
        hub.publish(log.commit(drafts(["Changed", "Closed"]), to: tenant))
        loop.run()
        #expect(subscriber.positions == [1, 2, 3, 4, 5], "what they do not concern goes out without a detour")
        subscriber.driver?.cancel()
    }

    @Test func thoseAtOnePlaceShareTheWork() throws {
        let subscribers = (0..<20).map { _ in subscribe() }
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made", "Made"]), to: tenant))
        loop.run()
        #expect(later.count == 1)
        settle()
        for subscriber in subscribers {
            #expect(subscriber.types == ["Built", "Built"])
            subscriber.driver?.cancel()
        }
    }

    @Test func pagesFromStorageAreUpcastWhereTheyAreRead() throws {
        _ = log.commit(drafts(["Made", "Changed", "Made"]), to: tenant)
        let settings = Sample.settings(1, try renaming("Made", to: "Built"))
        let known = hub.follow(tenant)
        hub.settingsChanged(tenant, to: settings)
        let subscriber = subscribe()
        later.run()
        loop.run()
        #expect(later.count == 1)
        later.run()
        #expect(later.count == 0, "read and upcast in one")
        loop.run()
        #expect(subscriber.types == ["Built", "Changed", "Built"])
        subscriber.driver?.cancel()
        hub.unfollow(known)
    }

    @Test func upcastersThatComeMeanwhileAreInForceForWhatFollows() throws {
        let subscriber = subscribe()
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        loop.run()
        #expect(later.count == 1)
        hub.settingsChanged(tenant, to: Sample.settings(2, try renaming("Made", to: "Raised")))
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        settle()
        #expect(subscriber.course == ["changed", "changed", "1 Raised", "2 Raised"])
        subscriber.driver?.cancel()
    }

    /// Between the look for news and the waiting for it, where no wave is under way.
    @Test func settingsThatComeJustBeforeItWaitsAreNotMissed() throws {
        let subscriber = subscribe(.head)
        let set = try renaming("Made", to: "Built")
        subscriber.onMessage = { [hub, tenant] message in
            if case .caughtUp? = message.signal { hub.settingsChanged(tenant, to: Sample.settings(1, set)) }
        }
        settle()
        #expect(subscriber.course == ["changed"])
        subscriber.driver?.cancel()
    }

    /// The same for a past that is over.
    @Test func anotherPastThatComesJustBeforeItWaitsIsNotMissed() {
        _ = log.commit(drafts(["Made"]), to: tenant)
        let feed = hub.follow(tenant)
        let subscriber = subscribe(.head, .raw)
        subscriber.onMessage = { [hub, log, tenant] message in
            guard case .caughtUp? = message.signal else { return }
            hub.historyChanged(feed, comparable: .start, head: log.head(of: tenant), settings: .success(.none))
        }
        settle()
        #expect(subscriber.ends.map(\.reason) == [.historyChanged])
        subscriber.driver?.cancel()
        hub.unfollow(feed)
    }

    @Test func whoLeavesTakesItsWorkAlong() throws {
        let subscriber = subscribe()
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        loop.run()
        #expect(later.count == 1 && log.cancelledCount == 0)
        subscriber.driver?.cancel()
        #expect(log.cancelledCount == 1)
        settle()
        #expect(subscriber.positions.isEmpty && subscriber.ends.isEmpty && hub.followedTenants.isEmpty)

        let starting = subscribe()
        starting.driver?.cancel()
        #expect(log.cancelledCount == 2, "resolving a start leaves too")
        settle()
    }

    @Test func aFullChannelTakesThePageThatWasUnderWay() throws {
        let subscriber = subscribe()
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        loop.run()
        subscriber.driver?.setWritable(false)
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        settle()
        #expect(subscriber.positions == [1, 2] && later.count == 0, "it is not kept where no account sees it")
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        settle()
        #expect(subscriber.positions == [1, 2] && later.count == 0, "no more is begun")
        subscriber.driver?.setWritable(true)
        settle()
        #expect(subscriber.positions == [1, 2, 3] && subscriber.types == ["Built", "Built", "Built"])
        subscriber.driver?.cancel()
    }

    @Test func settingsThatCannotBeHadEndWhoFollows() throws {
        let following = [subscribe(), subscribe()]
        let raw = subscribe(.after(.start), .raw)
        settle()
        let error = MartletError(.resourceExhausted, reason: .tooManyCalls, message: "no memory")
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        hub.settingsFailed(tenant, epoch: 0, revision: 1, error)
        settle()
        #expect(following.allSatisfy { $0.ends.isEmpty }, "what is known already cannot fail any more")
        hub.settingsFailed(tenant, epoch: 0, revision: 2, error)
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        settle()
        for subscriber in following {
            #expect(subscriber.positions.isEmpty, "nothing comes under older settings")
            #expect(subscriber.ends.map(\.reason) == [.tooManyCalls])
        }
        #expect(raw.positions == [1] && raw.types == ["Made"] && raw.ends.isEmpty, "it needs no settings")
        raw.driver?.cancel()
        #expect(hub.followedTenants.isEmpty)
        let later = subscribe()
        settle()
        hub.settingsFailed(tenant, epoch: 0, revision: 2, error)
        hub.settingsChanged(tenant, to: Sample.settings(2, try renaming("Made", to: "Built")))
        settle()
        #expect(later.positions == [1] && later.ends.isEmpty, "they can be had again")
        later.driver?.cancel()
    }

    @Test func whatHasLeftMemoryMeanwhileIsReadFromStorage() throws {
        let subscriber = subscribe()
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made"]), to: tenant))
        loop.run()
        #expect(later.count == 1)
        let before = log.readCount
        for _ in 0..<40 { hub.publish(log.commit(Sample.drafts(1, payloadBytes: 900), to: tenant)) }
        settle()
        #expect(log.readCount > before)
        #expect(subscriber.positions == Array(1...41) && subscriber.types.allSatisfy { $0 == "Built" })
        subscriber.driver?.cancel()
    }

    @Test func anEventThatFailsEndsTheSubscriptionAfterThoseBeforeIt() throws {
        let set = try Sample.upcasters(
            #"[{"event":"Made","from":1,"operations":[{"rename":{"path":"/n","to":"m","required":true}}]}]"#)
        func made(_ json: String) -> Draft {
            Draft(aggregate: Sample.aggregates[0], type: Sample.eventTypes[0], payloadBytes: 0, json: json)
        }
        let strict = subscribe()
        let tolerant = subscribe(.after(.start), UpcastingOptions(onFailure: .raw))
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, set))
        settle()
        hub.publish(log.commit([made(#"{"n":1}"#), made("{}"), made(#"{"n":3}"#)], to: tenant))
        settle()
        #expect(strict.positions == [1] && strict.ends.map(\.reason) == [.upcastFailed] && strict.failures == 1)
        #expect(tolerant.positions == [1, 2, 3] && tolerant.ends.isEmpty && tolerant.failures == 1)
        tolerant.driver?.cancel()
        #expect(hub.followedTenants.isEmpty)
    }

    @Test func aFilterSpeaksOfWhatIsDelivered() throws {
        let subscriber = subscribe(filter: EventFilter(eventTypes: Set(["Built"].compactMap { EventType($0) })))
        settle()
        hub.settingsChanged(tenant, to: Sample.settings(1, try renaming("Made", to: "Built")))
        settle()
        hub.publish(log.commit(drafts(["Made", "Changed", "Built", "Made"]), to: tenant))
        settle()
        #expect(subscriber.positions == [1, 3, 4] && subscriber.types == ["Built", "Built", "Built"])
        subscriber.driver?.cancel()
    }
}
