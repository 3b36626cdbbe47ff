import Logging
import MartletModel
import MartletQueries
import MartletStorage
import MartletSubscriptions
import MartletTLSOpenSSL
import MartletTenants
import NIOConcurrencyHelpers
import NIOCore

/// What all connections of a server share.
final class ServerShared: Sendable {
    private struct Registry {
        var connections: [ObjectIdentifier: NIOLoopBound<ServerConnection>] = [:]
        var onEmpty: [@Sendable () -> Void] = []
    }

    let limits: Limits
    let serverVersion: String
    let clock: Clock
    let startedAt: Timestamp
    let logger: Logger
    let counters = ServerCounters()
    let tls: TLSServerContext
    let door: Doorkeeper
    let store: EventStore
    let hub: EventHub
    let reads: SharedReads
    let settings: SettingsCache
    let queries: QueryOpening
    private let registry = NIOLockedValueBox(Registry())
    private let mailboxes = NIOLockedValueBox<[ObjectIdentifier: LoopMailbox]>([:])

    init(
        limits: Limits, serverVersion: String, tls: TLSServerContext, clock: @escaping Clock, logger: Logger,
        store: EventStore, hub: EventHub, settings: SettingsCache
    ) {
        self.limits = limits
        self.serverVersion = serverVersion
        self.tls = tls
        self.clock = clock
        door = Doorkeeper(limits: limits, counters: counters, logger: logger)
        startedAt = clock()
        self.logger = logger
        self.store = store
        self.hub = hub
        self.settings = settings
        queries = QueryOpening(settings: settings, limits: limits)
        reads = SharedReads(source: StorePages(store, settings: settings), limits: limits)
    }

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

    /// Called on the connection's event loop.
    func connectionOpened(_ connection: ServerConnection, eventLoop: any EventLoop) {
        let bound = NIOLoopBound(connection, eventLoop: eventLoop)
        registry.withLockedValue { $0.connections[ObjectIdentifier(connection)] = bound }
        _ = counters.connectionOpened()
    }

    /// Called on the connection's event loop; more than once is once.
    func connectionClosed(_ connection: ServerConnection) {
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

    /// Ends the connections that are not trusted any more, after the client CAs have changed. A few in a turn of their event
    /// loop: each costs some signatures.
    func recheckTrust() {
        let open = registry.withLockedValue { Array($0.connections.values) }
        for connections in Dictionary(grouping: open, by: { ObjectIdentifier($0.eventLoop) }).values {
            recheckTrust(of: connections[...])
        }
    }

    private func recheckTrust(of connections: ArraySlice<NIOLoopBound<ServerConnection>>) {
        guard let eventLoop = connections.first?.eventLoop else { return }
        eventLoop.execute { [self] in
            for connection in connections.prefix(8) { connection.value.recheckTrust() }
            recheckTrust(of: connections.dropFirst(8))
        }
    }

    /// Drains every connection; returns when the last one is closed, at the latest after so long.
    func drain(atMost limit: TimeAmount, on eventLoop: any EventLoop) async {
        counters.startDraining()
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
}
