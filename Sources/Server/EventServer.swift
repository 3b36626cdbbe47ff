public import Logging
public import MartletModel
package import MartletHTTP2Transport
import MartletService
public import MartletStorage
public import MartletTLSOpenSSL
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
    /// Served over gRPC beside Martlet's own services.
    package var moreServices: [GRPCService] = []
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
public final class EventServer: ServiceLifecycle.Service {
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
    /// The port is bound before storage is opened: a server whose port is in use changes nothing in it.
    /// - Throws: ``MartletError`` for limits that contradict each other or storage that cannot be used; ``ListenError`` if the
    ///   port cannot be taken.
    public func run() async throws {
        try configuration.limits.validate()
        let address = try ListenAddress(host: configuration.host, port: configuration.port)
        try checkReach(of: address)
        let socket = try BoundSocket(address.socketAddress)
        let service = try EventService.start(
            engine: engine, limits: configuration.limits, serverVersion: configuration.serverVersion, clock: clock,
            logger: logger)
        let door = Doorkeeper(service)
        let certificates = CertificateWatch(tls, service, clock: clock)
        tls.whenReloaded { [weak service, weak certificates] in
            service?.recheckConnections()
            certificates?.reloaded()
        }
        defer { tls.whenReloaded(nil) }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.eventLoopCount)
        let looks = certificates.start(on: group.next())
        defer { looks.cancel() }
        let timers: [Scheduled<Void>]
        do {
            timers = try await serve(service, door, socket, address.socketAddress, group)
        } catch {
            await service.shutDown()
            try? await group.shutdownGracefully()
            throw error
        }
        await service.shutDown()
        for timer in timers { timer.cancel() }
        try await group.shutdownGracefully()
    }

    /// - Returns: what ends storage calls when the time for draining is over.
    private func serve(
        _ service: EventService, _ door: Doorkeeper, _ socket: consuming BoundSocket, _ address: SocketAddress,
        _ group: MultiThreadedEventLoopGroup
    ) async throws -> [Scheduled<Void>] {
        let tls = tls
        let requiresClientCertificate = configuration.requiresClientCertificate
        let services = GRPCServices(
            GRPCService.martlet + GRPCService.reflection + [GRPCService.health] + configuration.moreServices)
        service.startHealth(on: group.next())
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptPause(door))
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
                        ConnectionGate(
                            service: service, door: door, tls: tls, services: services,
                            requiresClientCertificate: requiresClientCertificate))
                }
            }
        let listener = try await socket.listen(bootstrap, on: address)
        if let address = listener.localAddress {
            logger.info(
                "listening", metadata: ["address": "\(ListenAddress.text(of: address))", "storage": "\(engine.name)"])
            onListening(address)
        }
        service.startSchedules(on: group.next())
        try? await gracefulShutdown()
        try? await listener.close()
        logger.info("draining", metadata: ["connections": "\(service.connectionCount)"])
        // A commit may wait for something that never comes, such as a standby. It is given up a little before the
        // connections are, so that its calls are told.
        let millis = Int64(configuration.drainMillis)
        let timers = [
            group.next().scheduleTask(in: .milliseconds(millis - millis / 10)) { service.interruptStorage(.writes) },
            group.next().scheduleTask(in: .milliseconds(millis)) { service.interruptStorage(.all) },
        ]
        await service.drain(atMost: Task.isCancelled ? .zero : .milliseconds(millis), on: group.next())
        return timers
    }
}

extension EventServer {
    /// Without client certificates only this machine may reach the server, by the address that is bound.
    fileprivate func checkReach(of address: ListenAddress) throws(MartletError) {
        guard !configuration.requiresClientCertificate, !configuration.isOpenToAll, !address.isLoopback else { return }
        throw MartletError(
            .failedPrecondition, reason: .openToAll,
            message: "\(configuration.host) is \(address.host), which other machines can reach, "
                + "and clients would not have to identify themselves: require client "
                + "certificates, or listen on 127.0.0.1")
    }
}
