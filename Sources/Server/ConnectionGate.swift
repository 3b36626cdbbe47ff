import Glibc
import Logging
import MartletHTTP2Transport
import MartletService
import MartletTLSOpenSSL
import NIOCore

/// First in a new connection's channel: asks whether it may come in. If so, TLS and the connection take its place;
/// otherwise nothing is made for it, and it is closed.
final class ConnectionGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let service: EventService
    private let door: Doorkeeper
    private let tls: TLSServerContext
    private let services: GRPCServices
    private let requiresClientCertificate: Bool

    init(
        service: EventService, door: Doorkeeper, tls: TLSServerContext, services: GRPCServices,
        requiresClientCertificate: Bool
    ) {
        self.services = services
        self.service = service
        self.door = door
        self.tls = tls
        self.requiresClientCertificate = requiresClientCertificate
    }

    func channelActive(context: ChannelHandlerContext) {
        let eventLoop = context.eventLoop
        let connection = IncomingConnection(context.channel)
        let bound = NIOLoopBound(connection, eventLoop: eventLoop)
        let number = door.accept(from: context.remoteAddress, now: eventLoop.now) {
            eventLoop.execute { bound.value.abort() }
        }
        guard let number else { return context.close(promise: nil) }
        context.channel.closeFuture.whenComplete { [door, service] _ in
            door.release(number)
            service.connectionClosed(bound.value)
        }
        do {
            let pipeline = context.pipeline.syncOperations
            let identity = IdentityHandler(
                connection: connection, number: number, door: door, tls: tls, service: service, services: services,
                requiresClientCertificate: requiresClientCertificate)
            try pipeline.addHandlers([tls.makeHandler(), identity], position: .after(self))
            service.connectionOpened(connection, eventLoop: eventLoop)
        } catch {
            service.logger.error("cannot set up a connection", metadata: ["error": "\(error)"])
            return context.close(promise: nil)
        }
        context.fireChannelActive()
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
}

/// In a listening channel: after the system had no file descriptor for a connection it is asked again after a while, not
/// at once and without end.
final class AcceptPause: ChannelDuplexHandler {
    typealias InboundIn = any Channel
    typealias OutboundIn = Never

    /// How long it waits until it tries again.
    static let pause = TimeAmount.milliseconds(100)

    private let door: Doorkeeper
    private var retry: Scheduled<Void>?

    init(_ door: Doorkeeper) { self.door = door }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? IOError, Self.isExhaustion(error.errnoCode) else {
            return context.fireErrorCaught(error)
        }
        door.ranOutOfDescriptors(error, now: context.eventLoop.now)
        guard retry == nil else { return }
        retry = context.eventLoop.assumeIsolated().scheduleTask(in: Self.pause) { [weak self] in
            self?.retry = nil
            context.read()
        }
    }

    /// The channel asks for more after each try; while there is a pause, its end asks.
    func read(context: ChannelHandlerContext) {
        if retry == nil { context.read() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        retry?.cancel()
        retry = nil
    }

    private static func isExhaustion(_ code: CInt) -> Bool {
        [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(code)
    }
}
