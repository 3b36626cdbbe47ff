import Logging
import MartletAccess
import MartletHTTP2Transport
import MartletModel
import MartletNativeTransport
import MartletService
import MartletTLSOpenSSL
import NIOCore
import NIOHTTP1

/// A connection from accept on, whatever it will speak.
final class IncomingConnection: ServedConnection {
    private let channel: any Channel
    /// What it is once the handshake has shown which protocol it speaks.
    var admitted: (any AdmittedConnection)?

    init(_ channel: any Channel) { self.channel = channel }

    func drain() {
        if let admitted { admitted.drain() } else { abort() }
    }

    func abort() {
        if let admitted { return admitted.abort() }
        // Past TLS, which would say goodbye first and wait for the answer.
        let tls = try? channel.pipeline.syncOperations.context(handlerType: TLSHandler.self)
        if let tls { tls.close(promise: nil) } else { channel.close(promise: nil) }
    }

    func recheck() { admitted?.recheck() }
}

/// Behind TLS: when the handshake is done it makes the connection that speaks the protocol, and tells it who the peer is, or
/// why it may not go on.
final class IdentityHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let connection: IncomingConnection
    private let number: ConnectionAdmission.Number
    private let door: Doorkeeper
    private let tls: TLSServerContext
    private let service: EventService
    private let services: GRPCServices
    private let requiresClientCertificate: Bool

    init(
        connection: IncomingConnection, number: ConnectionAdmission.Number, door: Doorkeeper, tls: TLSServerContext,
        service: EventService, services: GRPCServices, requiresClientCertificate: Bool
    ) {
        self.connection = connection
        self.number = number
        self.door = door
        self.tls = tls
        self.service = service
        self.services = services
        self.requiresClientCertificate = requiresClientCertificate
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .handshakeCompleted(let peer, let alpn, _)? = event as? TLSEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        let admitted: any AdmittedConnection
        do {
            admitted = try makeConnection(alpn, context)
        } catch {
            service.logger.error("cannot set up a connection", metadata: ["error": "\(error)"])
            return context.close(promise: nil)
        }
        connection.admitted = admitted
        let warrant = PlaceAndTrust(number, door, ConnectionTrust(context.pipeline), tls, service)
        do throws(MartletError) {
            let principal = try principal(peer)
            if let fault = warrant.recheck() ?? warrant.faultOfPlace { throw fault }
            admitted.open(principal, warrant: warrant)
        } catch { admitted.refuse(error) }
        context.fireUserInboundEventTriggered(event)
        // Nothing of the data that follows is its matter.
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }

    /// Makes what speaks the protocol that was agreed on, behind this handler.
    private func makeConnection(
        _ alpn: String?, _ context: ChannelHandlerContext
    ) throws -> any AdmittedConnection {
        let pipeline = context.pipeline.syncOperations
        switch alpn {
        case "h2":
            let connection = HTTP2Connection(service: service, services: services, eventLoop: context.eventLoop)
            try pipeline.addHandlers([connection.makeFrameGuard(), connection], position: .after(self))
            return connection
        case "http/1.1":
            let connection = HTTP1Connection(service: service, services: services, eventLoop: context.eventLoop)
            let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes))
            try pipeline.addHandlers([decoder, HTTPResponseEncoder(), connection], position: .after(self))
            return connection
        default:
            let connection = ServerConnection(service: service, eventLoop: context.eventLoop)
            try pipeline.addHandler(connection, position: .after(self))
            return connection
        }
    }

    private func principal(_ peer: PeerIdentity?) throws(MartletError) -> Principal {
        guard requiresClientCertificate else {
            return peer.map { Principal(identity: $0.subject, tenants: .all) } ?? .anybody
        }
        guard let peer else { throw Principal.certificateMissing }
        return try Principal.certificate(subject: peer.subject, uris: peer.uris)
    }
}

/// By what a connection is there: its place among the others, and its peer's certificate. On its event loop.
final class PlaceAndTrust: ConnectionWarrant {
    private let number: ConnectionAdmission.Number
    private let door: Doorkeeper
    private var trust: ConnectionTrust
    private let tls: TLSServerContext
    private let service: EventService

    init(
        _ number: ConnectionAdmission.Number, _ door: Doorkeeper, _ trust: ConnectionTrust, _ tls: TLSServerContext,
        _ service: EventService
    ) {
        self.number = number
        self.door = door
        self.trust = trust
        self.tls = tls
        self.service = service
    }

    func establish() -> MartletError? { door.establish(number) ? nil : tooManyConnections }

    func fault() -> MartletError? { trust.fault(now: service.clock()) }

    func recheck() -> MartletError? { trust.recheck(under: tls, now: service.clock()) }

    /// Why there is no place for the connection already.
    var faultOfPlace: MartletError? { door.established.isFull ? tooManyConnections : nil }

    private var tooManyConnections: MartletError {
        MartletError(
            .resourceExhausted, reason: .tooManyConnections,
            message: "connections_max is \(service.limits.connectionsMax): close some, or connect later",
            isRetryable: true,
            limit: .init(
                name: "connections_max", limit: UInt64(service.limits.connectionsMax),
                actual: UInt64(door.established.count + 1)))
    }
}
