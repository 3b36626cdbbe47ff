import Foundation
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// Connections on every event loop of a server that ping it without a pause: what the slowest pong took tells how long a
/// loop stood still.
final class LoopWatch: Sendable {
    private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    private let channels: [any Channel]
    private let state: NIOLockedValueBox<State>

    fileprivate struct State {
        var slowestMillis = 0.0
        var pongs = 0
        /// When the ping that is under way on each connection was sent.
        var sentAt: [Int: ContinuousClock.Instant] = [:]
    }

    private init(channels: [any Channel], state: NIOLockedValueBox<State>) {
        self.channels = channels
        self.state = state
    }

    /// Runs `body`, and tells what the slowest pong took meanwhile, in milliseconds; one that is not there yet counts.
    static func slowestPongMillis<Result>(
        port: Int, during body: () async throws -> Result
    ) async throws -> (result: Result, millis: Double) {
        // Connections go round the event loops: twice as many as there are cores reach every one.
        let watch = try await connect(port: port, count: 2 * System.coreCount)
        defer { for channel in watch.channels { channel.close(promise: nil) } }
        while watch.state.withLockedValue({ $0.pongs < 10 * watch.channels.count }) {
            try await Task.sleep(for: .milliseconds(1))
        }
        watch.state.withLockedValue { $0.slowestMillis = 0 }
        let result = try await body()
        let millis = watch.state.withLockedValue { state in
            let waiting = state.sentAt.values.map { (ContinuousClock.now - $0) / .milliseconds(1) }
            return max(state.slowestMillis, waiting.max() ?? 0)
        }
        return (result, millis)
    }

    private static func connect(port: Int, count: Int) async throws -> LoopWatch {
        let context = try TLSClientContext(
            TLSClientConfiguration(
                caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"))
        let state = NIOLockedValueBox(State())
        var channels: [any Channel] = []
        for index in 0..<count {
            let channel = try await ClientBootstrap(group: group)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(context.makeHandler())
                        try channel.pipeline.syncOperations.addHandler(Pinger(index: index, state: state))
                    }
                }
                .connect(host: "127.0.0.1", port: port).get()
            channels.append(channel)
        }
        return LoopWatch(channels: channels, state: state)
    }
}

private final class Pinger: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let index: Int
    private let state: NIOLockedValueBox<LoopWatch.State>
    private var decoder = FrameDecoder(limits: Limits())

    init(index: Int, state: NIOLockedValueBox<LoopWatch.State>) {
        self.index = index
        self.state = state
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is TLSEvent else { return }
        write(ClientFrame(.connection, .hello(Hello(clientName: "watch"))), context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        decoder.feed(unwrapInboundIn(data))
        while let message = try? decoder.next(), let frame = try? ServerFrameCodec.decode(message, limits: Limits()) {
            switch frame.body {
            case .ping(let token): write(ClientFrame(.connection, .pong(token)), context)
            case .welcome: ping(context)
            case .pong:
                state.withLockedValue { state in
                    guard let sentAt = state.sentAt.removeValue(forKey: index) else { return }
                    state.slowestMillis = max(state.slowestMillis, (ContinuousClock.now - sentAt) / .milliseconds(1))
                    state.pongs += 1
                }
                let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
                context.eventLoop.scheduleTask(in: .milliseconds(5)) { bound.value.0.ping(bound.value.1) }
            default: break
            }
        }
    }

    private func ping(_ context: ChannelHandlerContext) {
        guard context.channel.isActive else { return }
        state.withLockedValue { $0.sentAt[index] = .now }
        write(ClientFrame(.connection, .ping(1)), context)
    }

    private func write(_ frame: ClientFrame, _ context: ChannelHandlerContext) {
        var buffer = ByteBuffer()
        ClientFrameCodec.encode(frame, to: &buffer)
        context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
