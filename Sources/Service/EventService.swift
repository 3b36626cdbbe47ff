public import Logging
public import MartletAccess
public import MartletModel
import MartletQueries
public import MartletStorage
import MartletSubscriptions
public import MartletTenants
public import Metrics
import NIOConcurrencyHelpers
public import NIOCore

/// A connection of whatever transport, as the service sees it when it drains. Used on its event loop.
public protocol ServedConnection: AnyObject {
    /// Takes no new calls, lets open ones finish, and closes when nothing is open.
    func drain()
    /// Closes at once.
    func abort()
    /// Ends the connection unless it may still be there: what it was let in by has changed.
    func recheck()
}

/// By what a connection is there, as its listener knows. Used on the connection's event loop.
public protocol ConnectionWarrant: AnyObject {
    /// The peer has begun to speak the protocol.
    /// - Returns: why there is no place for it.
    func establish() -> MartletError?
    /// Why the connection has to end by now.
    func fault() -> MartletError?
    /// Why it has to end, after what it was let in by may have changed.
    func recheck() -> MartletError?
}

/// A connection whose peer is being found out.
public protocol AdmittedConnection: ServedConnection {
    /// The peer's identity is known: it may speak.
    func open(_ principal: Principal, warrant: any ConnectionWarrant)
    /// The peer may not use the server: it is told why, then the connection closes.
    func refuse(_ error: MartletError)
}

/// The event store as its calls see it: storage, feeds, settings, accounts and counters, for every transport.
public final class EventService: Sendable {
    private struct Registry {
        var connections: [ObjectIdentifier: NIOLoopBound<any ServedConnection>] = [:]
        var onEmpty: [@Sendable () -> Void] = []
    }

    /// The bounds that it keeps.
    public let limits: Limits
    /// Version of the program, as it is reported.
    public let serverVersion: String
    /// The clock of commits.
    public let clock: Clock
    /// The memory that peers can make it hold.
    public let pools: MemoryPools
    /// What it can do right now.
    public let health: ServerHealth
    let startedAt: Timestamp
    /// Where it logs.
    public let logger: Logger
    let counters: ServiceCounters
    private let metrics: any MetricsFactory
    let consumerGauges: ConsumerGauges
    let store: EventStore
    let hub: EventHub
    let reads: ReadCoalescer
    let settings: SettingsCache
    let queries: QueryOpening
    let probe: StorageProbe
    let groups: ConsumerGroups
    let progress: ProgressSaver
    let watch: ConsumerWatch
    let schedules: ScheduleRunner
    private let refresh: TenantStateRefresh
    private let registry = NIOLockedValueBox(Registry())
    private let forget = NIOLockedValueBox<@Sendable () -> Void>({})
    private let mailboxes = NIOLockedValueBox<[ObjectIdentifier: LoopMailbox]>([:])
    private let readings = NIOLockedValueBox<[ObjectIdentifier: NIOLoopBound<ConsumerReadings>]>([:])

    private init(
        limits: Limits, serverVersion: String, clock: @escaping Clock, logger: Logger,
        uptime: @escaping @Sendable () -> NIODeadline, metrics: any MetricsFactory, store: EventStore, hub: EventHub,
        settings: SettingsCache, health: ServerHealth
    ) {
        self.health = health
        counters = ServiceCounters(metrics)
        self.metrics = metrics
        consumerGauges = ConsumerGauges(limits, metrics)
        self.limits = limits
        self.serverVersion = serverVersion
        self.clock = clock
        pools = MemoryPools(limits: limits)
        startedAt = clock()
        self.logger = logger
        self.store = store
        self.hub = hub
        self.settings = settings
        queries = QueryOpening(settings: settings, limits: limits)
        reads = ReadCoalescer(source: StoragePages(store, settings: settings), limits: limits)
        probe = StorageProbe(store: store, uptime: uptime)
        groups = ConsumerGroups(store: store, limits: limits)
        progress = ProgressSaver(store: store, pool: pools.calls, limits: limits, counters: counters.consumers)
        watch = ConsumerWatch(store: store, limits: limits)
        schedules = ScheduleRunner(store: store, logger: logger, counters: counters.schedules)
        let check = TenantStateCheck(hub: hub, settings: settings, forgetPages: { [reads] in reads.historyChanged($0) })
        refresh = TenantStateRefresh(
            tenants: { hub.followedTenants },
            ask: { asked, completion in
                store.read(for: EventStore.serverOwner) { reader throws(StorageError) in
                    try check.look(after: asked, reader)
                } completion: { (result: Result<Void, MartletError>) in
                    if case .success = result { completion(true) } else { completion(false) }
                }
            })
    }

    /// A service over an engine, whose threads are started.
    ///
    /// - Parameter metrics: what makes its metrics; by default what the program has set up for all (`MetricsSystem`).
    /// - Throws: ``MartletError`` for storage that cannot be used.
    public static func start(
        engine: any StorageEngine, limits: Limits, serverVersion: String, clock: @escaping Clock, logger: Logger,
        metrics: any MetricsFactory = MetricsSystem.factory
    ) throws(MartletError) -> EventService {
        let service = make(engine, limits, serverVersion, clock, logger, uptime: { .now() }, metrics)
        do throws(StorageError) {
            try service.store.start()
            return service
        } catch {
            service.release()
            throw MartletError(forOperator: error)
        }
    }

    /// A service without threads: for simulations, which carry out storage's work when they like.
    ///
    /// - Parameter uptime: the clock of the event loops.
    /// - Throws: ``MartletError`` for storage that cannot be used.
    package static func startByHand(
        engine: any StorageEngine, limits: Limits, serverVersion: String, clock: @escaping Clock, logger: Logger,
        uptime: @escaping @Sendable () -> NIODeadline, metrics: any MetricsFactory = MetricsSystem.factory
    ) throws(MartletError) -> (EventService, StorageHands) {
        let service = make(engine, limits, serverVersion, clock, logger, uptime: uptime, metrics)
        do throws(StorageError) {
            return (service, try service.store.startByHand())
        } catch {
            service.release()
            throw MartletError(forOperator: error)
        }
    }

    private static func make(
        _ engine: any StorageEngine, _ limits: Limits, _ serverVersion: String, _ clock: @escaping Clock,
        _ logger: Logger, uptime: @escaping @Sendable () -> NIODeadline, _ metrics: any MetricsFactory
    ) -> EventService {
        let started = NIOLockedValueBox<EventService?>(nil)
        let hub = EventHub(
            limits: limits,
            onDoubt: { feed, overPast in
                let service = started.withLockedValue { $0 }
                if let overPast {
                    service?.refresh.begin(feed.tenant, after: overPast)
                } else {
                    service?.refresh.begin([feed.tenant])
                }
            })
        let settings = SettingsCache(
            limits: limits,
            onFault: { tenant, error in
                logger.error(
                    "this server cannot use a tenant's settings",
                    metadata: ["tenant": "\(tenant)", "error": "\(error)"])
            }, uptime: uptime)
        let health = ServerHealth()
        let store = EventStore(
            engine: engine, limits: limits, clock: clock, logger: logger, uptime: uptime,
            rules: SettingsRules(settings, uptime: uptime),
            onCommit: { hub.publish($0) },
            onNews: { news in started.withLockedValue { $0 }?.take(news) },
            onFinding: { health.note($0) })
        let service = EventService(
            limits: limits, serverVersion: serverVersion, clock: clock, logger: logger, uptime: uptime,
            metrics: metrics, store: store, hub: hub, settings: settings, health: health)
        started.withLockedValue { $0 = service }
        service.forget.withLockedValue { $0 = { started.withLockedValue { $0 = nil } } }
        return service
    }

    /// Ends storage calls that wait for something beyond the process, so that the server can end: see
    /// ``StorageEngine/interrupt(_:)``.
    public func interruptStorage(_ work: StorageWork) { store.interrupt(work) }

    /// Begins to append events whose time has come; until then they wait.
    public func startSchedules(on eventLoop: any EventLoop) { schedules.start(on: eventLoop) }

    /// Begins to probe storage that fails, so that ``health`` tells of it; until then all is taken to be well.
    public func startHealth(on eventLoop: any EventLoop) {
        health.start(on: eventLoop) { [weak store] in store?.probe($0) }
    }

    /// Commits what waits, refuses reads, and ends the threads.
    public func shutDown() async {
        schedules.stop()
        health.stop()
        await store.shutDown()
        release()
    }

    /// Ends what holds the service in memory: the store knows it.
    package func release() { forget.withLockedValue { $0 }() }

    // MARK: Connections

    /// How many connections are open.
    public var connectionCount: Int { counters.connectionCount }

    /// Whether no new calls are taken.
    public var isDraining: Bool { counters.isDraining }

    /// A connection was accepted; on its event loop.
    public func connectionOpened(_ connection: any ServedConnection, eventLoop: any EventLoop) {
        let bound = NIOLoopBound(connection, eventLoop: eventLoop)
        registry.withLockedValue { $0.connections[ObjectIdentifier(connection)] = bound }
        counters.connectionOpened()
    }

    /// A connection is gone; on its event loop. More than once is once.
    public func connectionClosed(_ connection: any ServedConnection) {
        let (wasOpen, callbacks) = registry.withLockedValue { registry in
            guard registry.connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else {
                return (false, [@Sendable () -> Void]())
            }
            guard registry.connections.isEmpty else { return (true, []) }
            defer { registry.onEmpty = [] }
            return (true, registry.onEmpty)
        }
        if wasOpen { counters.connectionClosed() }
        for callback in callbacks { callback() }
    }

    /// Tells the metrics backend how long certificates are valid yet; less than 0 for one that has expired.
    /// - Parameter secondsLeft: by what they are for, of the one that expires first.
    public func recordCertificates(secondsLeft: [String: Double]) {
        for (role, seconds) in secondsLeft {
            metrics.gauge(.certificateSecondsLeft, [("role", role)]).record(seconds)
        }
    }

    /// Ends the connections that are not trusted any more, after the client CAs have changed. A few in a turn of their
    /// event loop: each costs some signatures.
    public func recheckConnections() {
        let open = registry.withLockedValue { Array($0.connections.values) }
        for connections in Dictionary(grouping: open, by: { ObjectIdentifier($0.eventLoop) }).values {
            recheck(connections[...])
        }
    }

    private func recheck(_ connections: ArraySlice<NIOLoopBound<any ServedConnection>>) {
        guard let eventLoop = connections.first?.eventLoop else { return }
        eventLoop.execute { [self] in
            for connection in connections.prefix(8) { connection.value.recheck() }
            recheck(connections.dropFirst(8))
        }
    }

    /// Drains every connection; returns when the last one is closed, at the latest after this long.
    public func drain(atMost limit: TimeAmount, on eventLoop: any EventLoop) async {
        let told = health.startDraining(on: eventLoop)
        counters.startDraining()
        // Watchers hear of it before anything that ends their streams reaches them.
        try? await told.get()
        let emptied = eventLoop.makePromise(of: Void.self)
        let open = registry.withLockedValue { registry in
            if registry.connections.isEmpty {
                emptied.succeed()
            } else {
                registry.onEmpty.append { emptied.succeed() }
            }
            return Array(registry.connections.values)
        }
        for connection in open {
            connection.eventLoop.execute { connection.value.drain() }
        }
        let timeout = eventLoop.scheduleTask(in: limit) { [self] in
            for connection in registry.withLockedValue({ Array($0.connections.values) }) {
                connection.eventLoop.execute { connection.value.abort() }
            }
        }
        _ = try? await emptied.futureResult.get()
        timeout.cancel()
    }

    /// Has a connection flushed at the end of this turn of its event loop, which this is called on.
    public func flushLater(_ transport: any CallTransport, on eventLoop: any EventLoop) {
        mailbox(of: eventLoop).flushLater(transport)
    }

    /// A transport refused a call before it was one.
    public func callRefused() { counters.callFailed() }

    /// A listener closed a connection that it had accepted, because there was no place for it.
    public func connectionRefused() { counters.refuseConnection() }

    /// A listener closed a connection that had not said who it is, to make room.
    public func connectionEvicted() { counters.evictConnection() }

    /// A listener could not accept a connection.
    public func acceptFailed() { counters.failAccept() }

    /// The mailbox of the event loop that this is called on.
    func mailbox(of eventLoop: any EventLoop) -> LoopMailbox {
        mailboxes.withLockedValue { mailboxes in
            let id = ObjectIdentifier(eventLoop)
            if let known = mailboxes[id] { return known }
            let made = LoopMailbox(eventLoop: eventLoop)
            mailboxes[id] = made
            return made
        }
    }

    /// The turns of connections on the event loop that this is called on.
    public func frameTurns(of eventLoop: any EventLoop) -> FrameTurns { mailbox(of: eventLoop).frameTurns }

    /// The readings of consumers' events on the event loop that this is called on.
    func readings(of eventLoop: any EventLoop) -> ConsumerReadings {
        let bound = readings.withLockedValue { readings in
            let id = ObjectIdentifier(eventLoop)
            if let known = readings[id] { return known }
            let made = NIOLoopBound(ConsumerReadings(), eventLoop: eventLoop)
            readings[id] = made
            return made
        }
        return bound.value
    }

    /// Has a tenant's settings read again, on nobody's account: what is known of them is not what is in force.
    func settingsMissed(of tenant: TenantID) {
        settings.forget(tenant)
        refresh.begin([tenant])
    }

    // MARK: Other servers

    /// Has the feeds told where tenants stand, after another server may have committed.
    package func take(_ news: StorageNews) {
        switch news {
        case .moved(let heads): refresh.begin(heads.filter { hub.isNews($0.value, of: $0.key) }.map(\.key))
        case .unknown: refresh.begin()
        case .reconnected:
            // Another past may be there: nothing that was read of the one before is believed.
            settings.forgetAll()
            reads.historyChanged(nil)
            refresh.begin()
        }
    }
}
