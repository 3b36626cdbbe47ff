import MartletAccess
import MartletModel
import MartletNativeTransport
import MartletService
import MartletTLSOpenSSL
import NIOCore

/// Between TLS and the connection: when the handshake is done it says who the peer is, or why it may not go on.
final class IdentityHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let connection: ServerConnection
    private let number: ConnectionAdmission.Number
    private let door: Doorkeeper
    private let tls: TLSServerContext
    private let service: EventService
    private let requiresClientCertificate: Bool

    init(
        connection: ServerConnection, number: ConnectionAdmission.Number, door: Doorkeeper, tls: TLSServerContext,
        service: EventService, requiresClientCertificate: Bool
    ) {
        self.connection = connection
        self.number = number
        self.door = door
        self.tls = tls
        self.service = service
        self.requiresClientCertificate = requiresClientCertificate
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .handshakeCompleted(let peer, _, _)? = event as? TLSEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        let warrant = ConnectionWarrant(number, door, ConnectionTrust(context.pipeline), tls, service)
        do throws(MartletError) {
            let principal = try principal(peer)
            if let fault = warrant.recheck() ?? warrant.faultOfPlace { throw fault }
            connection.open(principal, warrant: warrant)
        } catch { connection.refuse(error) }
        context.fireUserInboundEventTriggered(event)
        // Nothing of the data that follows is its matter.
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
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
final class ConnectionWarrant: ServerConnection.Warrant {
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
