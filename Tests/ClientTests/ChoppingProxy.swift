import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// Stands between a client and its server, and cuts every connection when told to.
final class ChoppingProxy: Sendable {
    let port: Int
    private let listener: any Channel
    private let channels: NIOLockedValueBox<[any Channel]>

    static func start(to serverPort: Int) async throws -> ChoppingProxy {
        let channels = NIOLockedValueBox<[any Channel]>([])
        let group = MultiThreadedEventLoopGroup.singleton
        let listener = try await ServerBootstrap(group: group)
            .childChannelInitializer { front in
                channels.withLockedValue { $0.append(front) }
                return ClientBootstrap(group: front.eventLoop)
                    .channelInitializer { back in
                        back.eventLoop.makeCompletedFuture {
                            try back.pipeline.syncOperations.addHandler(Pipe(to: front))
                        }
                    }
                    .connect(host: "127.0.0.1", port: serverPort)
                    .flatMapThrowing { back in try front.pipeline.syncOperations.addHandler(Pipe(to: back)) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return ChoppingProxy(listener: listener, channels: channels)
    }

    private init(listener: any Channel, channels: NIOLockedValueBox<[any Channel]>) {
        self.listener = listener
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

    func stop() async {
        try? await listener.close()
        chop()
    }

    private final class Pipe: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let other: any Channel

        init(to other: any Channel) { self.other = other }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            other.writeAndFlush(unwrapInboundIn(data), promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
    }
}
