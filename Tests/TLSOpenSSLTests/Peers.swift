import NIOCore
import NIOPosix
import Synchronization

@testable import MartletTLSOpenSSL

/// What the handlers behind TLS get to see.
enum Seen {
    case handshake(PeerIdentity?, alpn: String?, resumed: Bool)
    case bytes(ByteBuffer)
    case inputClosed
    case error(any Error)
    case inactive
}

/// One end of a connection.
final class Peer: Sendable {
    let channel: any Channel
    let seen: AsyncStream<Seen>
    private let witnessed: Atomic<Int>

    private init(channel: any Channel, seen: AsyncStream<Seen>) {
        self.channel = channel
        self.seen = seen
        witnessed = Atomic(0)
    }

    /// How many bytes have come, taken or not.
    var bytesSeen: Int { witnessed.load(ordering: .relaxed) }

    fileprivate func count(_ bytes: ByteBuffer) {
        witnessed.add(bytes.readableBytes, ordering: .relaxed)
    }

    /// Adds a handler that tells `seen`, behind TLS if there is a handler for it.
    static func make(on channel: any Channel, tls: TLSHandler?, echo: Bool = false) throws -> Peer {
        let (seen, continuation) = AsyncStream.makeStream(of: Seen.self)
        if let tls { try channel.pipeline.syncOperations.addHandler(tls) }
        let peer = Peer(channel: channel, seen: seen)
        try channel.pipeline.syncOperations.addHandler(Witness(peer, continuation, echo: echo))
        return peer
    }

    struct Handshake: Equatable {
        var identity: PeerIdentity?
        var alpn: String?
        var resumed: Bool
    }

    /// The handshake's end, or the error that it failed with.
    func handshake() async throws -> Handshake {
        for await event in seen {
            switch event {
            case .handshake(let identity, let alpn, let resumed):
                return Handshake(identity: identity, alpn: alpn, resumed: resumed)
            case .error(let error): throw error
            case .bytes, .inputClosed, .inactive: throw UnexpectedEvent(description: "\(event) before the handshake")
            }
        }
        throw UnexpectedEvent(description: "the channel went away")
    }

    /// The next `count` bytes.
    func bytes(_ count: Int) async throws -> ByteBuffer {
        var result = ByteBuffer()
        for await event in seen {
            switch event {
            case .bytes(var bytes): result.writeBuffer(&bytes)
            case .error(let error): throw error
            case .handshake: continue
            case .inputClosed, .inactive:
                throw UnexpectedEvent(description: "\(event) after \(result.readableBytes) of \(count) bytes")
            }
            if result.readableBytes >= count { return result }
        }
        throw UnexpectedEvent(description: "the channel went away")
    }

    /// All until the channel is closed.
    func rest() async -> (bytes: ByteBuffer, errors: [any Error]) {
        var bytes = ByteBuffer()
        var errors: [any Error] = []
        for await event in seen {
            switch event {
            case .bytes(var more): bytes.writeBuffer(&more)
            case .error(let error): errors.append(error)
            case .inactive: return (bytes, errors)
            case .handshake, .inputClosed: continue
            }
        }
        return (bytes, errors)
    }

    /// The first TLS error until the channel is closed.
    func failure() async -> TLSError? {
        await rest().errors.lazy.compactMap { $0 as? TLSError }.first
    }

    func send(_ bytes: ByteBuffer) async throws {
        try await channel.writeAndFlush(bytes)
    }

    func close() async {
        try? await channel.close()
    }
}

struct UnexpectedEvent: Error, CustomStringConvertible {
    var description: String
}

private final class Witness: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let seen: AsyncStream<Seen>.Continuation
    private let echo: Bool
    private let peer: Peer

    init(_ peer: Peer, _ seen: AsyncStream<Seen>.Continuation, echo: Bool) {
        self.peer = peer
        self.seen = seen
        self.echo = echo
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        peer.count(unwrapInboundIn(data))
        if echo {
            context.write(data, promise: nil)
        } else {
            seen.yield(.bytes(unwrapInboundIn(data)))
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if echo { context.flush() }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSEvent.handshakeCompleted(let identity, let alpn, let resumed):
            seen.yield(.handshake(identity, alpn: alpn, resumed: resumed))
        case ChannelEvent.inputClosed: seen.yield(.inputClosed)
        default: break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        seen.yield(.error(error))
    }

    func channelInactive(context: ChannelHandlerContext) {
        seen.yield(.inactive)
        seen.finish()
    }
}

/// A listening socket on loopback.
struct TestServer: Sendable {
    let context: TLSServerContext
    let listener: any Channel
    /// Accepted connections, in order.
    let accepted: AsyncStream<Peer>

    var port: Int { listener.localAddress?.port ?? 0 }

    init(
        _ configuration: TLSServerConfiguration, echo: Bool = false, halfClosure: Bool = false, autoRead: Bool = true
    ) async throws {
        let context = try TLSServerContext(configuration)
        let (accepted, continuation) = AsyncStream.makeStream(of: Peer.self)
        self.context = context
        self.accepted = accepted
        listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.allowRemoteHalfClosure, value: halfClosure)
            .childChannelOption(.autoRead, value: autoRead)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    continuation.yield(try Peer.make(on: channel, tls: context.makeHandler(), echo: echo))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    /// Connects without TLS.
    func connectPlainly() async throws -> Peer {
        try await connect { nil }
    }

    func connect(_ client: TLSClientContext, halfClosure: Bool = false) async throws -> Peer {
        try await connect(halfClosure: halfClosure) { try client.makeHandler() }
    }

    func connect(_ configuration: TLSClientConfiguration) async throws -> Peer {
        try await connect(TLSClientContext(configuration))
    }

    private func connect(
        halfClosure: Bool = false, _ handler: @escaping @Sendable () throws -> TLSHandler?
    ) async throws -> Peer {
        try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: halfClosure)
            .connect(host: "127.0.0.1", port: port) { channel in
                channel.eventLoop.makeCompletedFuture { try Peer.make(on: channel, tls: handler()) }
            }
    }

    /// The next connection that was accepted.
    func accept() async throws -> Peer {
        for await peer in accepted { return peer }
        throw UnexpectedEvent(description: "no connection")
    }

    func close() async {
        try? await listener.close()
    }
}
