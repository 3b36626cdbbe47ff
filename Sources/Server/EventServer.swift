public import Logging
public import MartletModel
public import MartletStorage
import MartletSubscriptions
public import MartletTLSOpenSSL
import MartletTenants
import NIOConcurrencyHelpers
public import NIOCore
import NIOPosix
public import ServiceLifecycle

/// How a server is set up.
public struct ServerConfiguration: Sendable {
    /// The address that it listens on.
    public var host: String
    /// The port; 0 lets the system choose.
    public var port: Int
    /// The bounds that it keeps.
    public var limits = Limits()
    /// Version of the program, as it is reported.
    public var serverVersion: String
    /// Client certificates are asked for: the tenants of a connection are those that its certificate
    /// names. False: every connection may use every tenant.
    public var requiresClientCertificate: Bool
    /// Without client certificates the server listens on loopback only, unless this is set.
    public var isOpenToAll = false
    /// How long open calls may go on after a drain began, in milliseconds.
    public var drainMillis = 10_000
    /// Event loops; they share nothing but the hub and the store.
    public var eventLoopCount = System.coreCount

    /// A server on that address.
    public init(host: String, port: Int, serverVersion: String, requiresClientCertificate: Bool) {
        self.host = host
        self.port = port
        self.serverVersion = serverVersion
        self.requiresClientCertificate = requiresClientCertificate
    }
}

/// Accepts connections and serves the protocol over one storage engine.
///
/// A graceful shutdown drains: no new connections and calls, open ones end, what was accepted is committed.
/// Cancellation ends at once; what is being committed is still committed.
public final class EventServer: Service {
    private let configuration: ServerConfiguration
    private let tls: TLSServerContext
    private let engine: any StorageEngine
    private let clock: Clock
    private let logger: Logger
    private let onListening: @Sendable (SocketAddress) -> Void

    /// A server that ``run()`` starts.
    ///
    /// - Parameters:
    ///   - onListening: called once the port is open, with the address that it has.
    public init(
        configuration: ServerConfiguration, tls: TLSServerContext, engine: any StorageEngine,
        clock: @escaping Clock = Timestamp.now, logger: Logger,
        onListening: @escaping @Sendable (SocketAddress) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.tls = tls
        self.engine = engine
        self.clock = clock
        self.logger = logger
        self.onListening = onListening
    }

    /// Serves until a graceful shutdown or cancellation.
    ///
    /// - Throws: ``MartletError`` for limits that contradict each other or storage that cannot be used; what the
    ///   system says where the port cannot be opened.
    public func run() async throws {
        try configuration.limits.validate()
        let hub = EventHub(limits: configuration.limits)
        let heads = NIOLockedValueBox<EventStore?>(nil)
        let settings = SettingsCache(limits: configuration.limits) { [logger] tenant, error in
            logger.error(
                "a tenant's settings cannot be used by this server",
                metadata: ["tenant": "\(tenant)", "error": "\(error)"])
        }
        let store = EventStore(
            engine: engine, limits: configuration.limits, clock: clock, logger: logger,
            onCommit: { hub.publish($0) },
            onNews: { news in heads.withLockedValue { $0 }?.tell(hub, settings, of: news) })
        heads.withLockedValue { $0 = store }
        defer { heads.withLockedValue { $0 = nil } }
        do throws(StorageError) { try store.start() } catch { throw MartletError(error) }
        let shared = ServerShared(
            limits: configuration.limits, serverVersion: configuration.serverVersion, tls: tls, clock: clock,
            logger: logger, store: store, hub: hub, settings: settings)
        tls.whenReloaded { [weak shared] in shared?.recheckTrust() }
        defer { tls.whenReloaded(nil) }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.eventLoopCount)
        do {
            try await serve(shared, group)
        } catch {
            await store.shutDown()
            try? await group.shutdownGracefully()
            throw error
        }
        await store.shutDown()
        try await group.shutdownGracefully()
    }

    private func serve(_ shared: ServerShared, _ group: MultiThreadedEventLoopGroup) async throws {
        let requiresClientCertificate = configuration.requiresClientCertificate
        let address = try ListenAddress(host: configuration.host, port: configuration.port)
        try checkReach(of: address)
        let listener = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptPause(shared.door))
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 256 << 10, high: 1 << 20))
            .childChannelOption(
                .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 16384, maximum: 131072)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        ConnectionGate(shared: shared, requiresClientCertificate: requiresClientCertificate))
                }
            }
            .bind(to: address.socketAddress).get()
        if let address = listener.localAddress {
            logger.info("listening", metadata: ["address": "\(address)", "storage": "\(engine.name)"])
            onListening(address)
        }
        try? await gracefulShutdown()
        try? await listener.close()
        logger.info("draining", metadata: ["connections": "\(shared.counters.connectionCount)"])
        let limit: TimeAmount = Task.isCancelled ? .zero : .milliseconds(Int64(configuration.drainMillis))
        await shared.drain(atMost: limit, on: group.next())
    }
}

extension EventServer {
    /// Without client certificates only this machine may reach the server, by the address that is bound.
    fileprivate func checkReach(of address: ListenAddress) throws(MartletError) {
        guard !configuration.requiresClientCertificate, !configuration.isOpenToAll, !address.isLoopback else { return }
        throw MartletError(
            .failedPrecondition, reason: .openToAll,
            message: "\(configuration.host) is \(address.host), which other machines can reach, "
                + "and no client would have to say who it is: ask for client certificates, or listen on 127.0.0.1")
    }
}

extension EventStore {
    /// Tells the hub where tenants stand, after another server may have committed.
    fileprivate func tell(_ hub: EventHub, _ settings: SettingsCache, of news: StorageNews) {
        switch news {
        case .moved(let heads): for (tenant, head) in heads { hub.headMoved(tenant, to: head) }
        case .unknown:
            let tenants = hub.followedTenants
            guard !tenants.isEmpty else { return }
            read(for: Self.serverOwner) { reader throws(StorageError) in
                for (tenant, standing) in zip(tenants, try reader.standings(of: tenants)) {
                    // Settings first: what was appended after them is delivered under them.
                    hub.settingsChanged(tenant, to: try settings.resolve(tenant, standing, reader: reader))
                    hub.headMoved(tenant, to: standing.head)
                }
            } completion: { (_: Result<Void, MartletError>) in
            }
        }
    }
}
