import Foundation
import MartletClient
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A peer that sends what it likes: bytes on the bare socket, or bytes and frames inside TLS.
final class RawPeer: Sendable {
    private let channel: any Channel
    private let inbox: Inbox

    private init(channel: any Channel, inbox: Inbox) {
        self.channel = channel
        self.inbox = inbox
    }

    /// Connects without TLS.
    static func bare(_ server: TestServer) async throws -> RawPeer { try await connect(server.port, tls: nil) }

    /// Connects with TLS, and says hello unless told otherwise.
    static func secure(_ server: TestServer, hello: Bool = true, autoRead: Bool = true) async throws -> RawPeer {
        let context = try TLSClientContext(server.clientConfiguration.tls)
        let peer = try await connect(server.port, tls: context)
        await peer.inbox.waitUntilOpen()
        if hello {
            try await peer.send(ClientFrame(.connection, .hello(Hello(clientName: "raw"))))
            _ = try await peer.next()
        }
        if !autoRead { try await peer.channel.setOption(.autoRead, value: false).get() }
        return peer
    }

    private static func connect(_ port: Int, tls: TLSClientContext?) async throws -> RawPeer {
        let inbox = Inbox()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls { try channel.pipeline.syncOperations.addHandler(tls.makeHandler()) }
                    try channel.pipeline.syncOperations.addHandler(Collector(inbox: inbox))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return RawPeer(channel: channel, inbox: inbox)
    }

    func send(bytes: [UInt8]) async throws { try await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get() }

    func send(_ frame: ClientFrame) async throws { try await send([frame]) }

    /// Sends frames at once.
    func send(_ frames: [ClientFrame]) async throws {
        var buffer = ByteBuffer()
        for frame in frames { ClientFrameCodec.encode(frame, to: &buffer) }
        try await channel.writeAndFlush(buffer).get()
    }

    /// The next frame, a ping too; nil when the server has closed the connection.
    func nextOfAny() async throws -> ServerFrame? { await inbox.next() }

    /// The next frame; nil when the server has closed the connection.
    func next() async throws -> ServerFrame? {
        guard let frame = await inbox.next() else { return nil }
        if case .ping(let token) = frame.body {
            try await send(ClientFrame(.connection, .pong(token)))
            return try await next()
        }
        return frame
    }

    /// Waits until the server has closed the connection; false when it has not within that time.
    func isClosed(within time: Duration) async throws -> Bool {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try? await self.channel.closeFuture.get()
                return true
            }
            group.addTask {
                try await Task.sleep(for: time)
                return false
            }
            let result = try await group.next() ?? false
            if !result { self.close() }
            group.cancelAll()
            return result
        }
    }

    func close() { channel.close(promise: nil) }
}

/// The frames that came in.
private actor Inbox {
    private var frames: [ServerFrame] = []
    private var isClosed = false
    private var isOpen = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    func add(_ frame: ServerFrame) {
        frames.append(frame)
        wake()
    }

    func open() {
        isOpen = true
        wake()
    }

    func close() {
        isClosed = true
        isOpen = true
        wake()
    }

    func waitUntilOpen() async { while !isOpen { await wait() } }

    func next() async -> ServerFrame? {
        while frames.isEmpty, !isClosed { await wait() }
        return frames.isEmpty ? nil : frames.removeFirst()
    }

    private func wait() async { await withCheckedContinuation { waiters.append($0) } }

    private func wake() {
        let all = waiters
        waiters = []
        for waiter in all { waiter.resume() }
    }
}

private final class Collector: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let events: AsyncStream<Event>.Continuation
    private var decoder = FrameDecoder(limits: Limits())

    private enum Event: Sendable { case open, frame(ServerFrame), close }

    init(inbox: Inbox) {
        let (stream, continuation) = AsyncStream.makeStream(of: Event.self)
        events = continuation
        Task {
            for await event in stream {
                switch event {
                case .open: await inbox.open()
                case .frame(let frame): await inbox.add(frame)
                case .close: await inbox.close()
                }
            }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is TLSEvent { events.yield(.open) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        decoder.feed(unwrapInboundIn(data))
        while let message = try? decoder.next(), let frame = try? ServerFrameCodec.decode(message, limits: Limits()) {
            events.yield(.frame(frame))
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        events.yield(.close)
        events.finish()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
