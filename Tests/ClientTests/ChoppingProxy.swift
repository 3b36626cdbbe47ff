import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Synchronization

/// Stands between a client and its server, and when told to, cuts every connection, or swallows what comes over it.
final class ChoppingProxy: Sendable {
    let port: Int
    private let listener: any Channel
    private let channels: NIOLockedValueBox<[any Channel]>
    private let pipes: NIOLockedValueBox<[Pipe]>

    static func start(to serverPort: Int) async throws -> ChoppingProxy {
        let channels = NIOLockedValueBox<[any Channel]>([])
        let pipes = NIOLockedValueBox<[Pipe]>([])
        @Sendable func pipe(from channel: any Channel, to other: any Channel) throws {
            let pipe = Pipe(to: other)
            pipes.withLockedValue { $0.append(pipe) }
            try channel.pipeline.syncOperations.addHandler(pipe)
        }
        let group = MultiThreadedEventLoopGroup.singleton
        let listener = try await ServerBootstrap(group: group)
            .childChannelInitializer { front in
                channels.withLockedValue { $0.append(front) }
                return ClientBootstrap(group: front.eventLoop)
                    .channelInitializer { back in
                        back.eventLoop.makeCompletedFuture { try pipe(from: back, to: front) }
                    }
                    .connect(host: "127.0.0.1", port: serverPort)
                    .flatMapThrowing { back in try pipe(from: front, to: back) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return ChoppingProxy(listener: listener, channels: channels, pipes: pipes)
    }

    private init(
        listener: any Channel, channels: NIOLockedValueBox<[any Channel]>, pipes: NIOLockedValueBox<[Pipe]>
    ) {
        self.listener = listener
        self.pipes = pipes
        self.channels = channels
        port = listener.localAddress?.port ?? 0
    }

    /// Cuts every connection there is.
    func chop() {
        let taken = channels.withLockedValue { channels in
            defer { channels = [] }
            return channels
        }
        for channel in taken { channel.close(promise: nil) }
    }

    /// Passes nothing on any more over the connections there are, and keeps their sockets open, as a network does that drops
    /// packets. New connections work.
    func swallow() {
        for pipe in pipes.withLockedValue({ $0 }) { pipe.isSwallowing.store(true, ordering: .relaxed) }
    }

    func stop() async {
        try? await listener.close()
        chop()
    }

    private final class Pipe: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer

        let isSwallowing = Atomic(false)
        private let other: any Channel

        init(to other: any Channel) { self.other = other }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard !isSwallowing.load(ordering: .relaxed) else { return }
            other.writeAndFlush(unwrapInboundIn(data), promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            if !isSwallowing.load(ordering: .relaxed) { other.close(promise: nil) }
        }
    }
}
