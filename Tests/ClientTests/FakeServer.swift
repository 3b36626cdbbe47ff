import MartletFrameCodec
import MartletModel
import MartletSession
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A server that speaks the protocol in the clear and does what a test tells it, frame by frame.
final class FakeServer: Sendable {
    enum Event: Sendable {
        case connected(FakeConnection)
        case frame(FakeConnection, ClientFrame)
        case closed(FakeConnection)
    }

    struct Nothing: Error {}

    let port: Int
    private let listener: any Channel
    private let inbox: Inbox

    /// - Parameters:
    ///   - host: an address of its own for a test that stops its server: the port is then nobody else's.
    ///   - greets: welcomes each connection by itself; hello is then no event.
    static func start(
        host: String = "127.0.0.1", port: Int = 0, greets: Bool = true, limits: Limits = Limits()
    ) async throws -> FakeServer {
        let inbox = Inbox()
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let connection = FakeConnection(channel: channel)
                    inbox.opened(connection)
                    try channel.pipeline.syncOperations.addHandler(
                        FakeHandler(connection, inbox: inbox, greets: greets, limits: limits))
                }
            }
            .bind(host: host, port: port).get()
        return FakeServer(listener: listener, inbox: inbox)
    }

    private init(listener: any Channel, inbox: Inbox) {
        self.listener = listener
        self.inbox = inbox
        port = listener.localAddress?.port ?? 0
    }

    /// How many connections were accepted.
    var connectionCount: Int { inbox.connections.withLockedValue { $0.count } }

    func stop() async {
        try? await listener.close()
        for connection in inbox.connections.withLockedValue({ $0 }) { await connection.close() }
        inbox.finish()
    }

    func next() async throws -> Event {
        guard let event = await inbox.next() else { throw Nothing() }
        return event
    }

    /// The next frame; connections that come and go in between are passed over.
    func frame() async throws -> (connection: FakeConnection, frame: ClientFrame) {
        while true {
            guard case .frame(let connection, let frame) = try await next() else { continue }
            return (connection, frame)
        }
    }

    /// The next request; other frames in between are passed over.
    func call() async throws -> FakeCall {
        while true {
            let (connection, frame) = try await frame()
            if case .request(let request) = frame.body {
                return FakeCall(connection: connection, frame: frame, request: request)
            }
        }
    }

    /// Waits until the client asks whether the server is alive, and says so; other frames in between are passed over.
    func ping() async throws {
        while true {
            let (connection, frame) = try await frame()
            if case .ping(let token) = frame.body { return connection.send(ServerFrame(.connection, .pong(token))) }
        }
    }

    /// Waits until a connection has ended.
    func closed() async throws {
        while true {
            if case .closed = try await next() { return }
        }
    }
}

/// A call that the fake server got.
struct FakeCall: Sendable {
    let connection: FakeConnection
    let frame: ClientFrame
    let request: CallRequest

    func send(_ message: CallMessage) { connection.send(ServerFrame(frame.callID, message)) }

    func end(_ error: MartletError?) { connection.send(ServerFrame(frame.callID, .status(error))) }
}

final class FakeConnection: Sendable {
    private let channel: any Channel

    init(channel: any Channel) { self.channel = channel }

    func send(_ frame: ServerFrame) {
        var bytes = ByteBuffer()
        ServerFrameCodec.encode(frame, to: &bytes)
        channel.writeAndFlush(bytes, promise: nil)
    }

    /// Sends the first bytes of a frame.
    func sendPart(of frame: ServerFrame, bytes count: Int) async throws {
        var bytes = ByteBuffer()
        ServerFrameCodec.encode(frame, to: &bytes)
        try await channel.writeAndFlush(bytes.readSlice(length: count) ?? bytes)
    }

    func close() async { try? await channel.close() }
}

private final class Inbox: Sendable {
    private struct State {
        var events: [FakeServer.Event] = []
        var waiter: CheckedContinuation<FakeServer.Event?, Never>?
        var isFinished = false
    }

    let connections = NIOLockedValueBox<[FakeConnection]>([])
    private let state = NIOLockedValueBox(State())

    func opened(_ connection: FakeConnection) {
        connections.withLockedValue { $0.append(connection) }
        add(.connected(connection))
    }

    func add(_ event: FakeServer.Event) {
        let waiter = state.withLockedValue { state in
            if state.waiter == nil { state.events.append(event) }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: event)
    }

    func finish() {
        let waiter = state.withLockedValue { state in
            state.isFinished = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: nil)
    }

    func next() async -> FakeServer.Event? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (isReady, event) = state.withLockedValue { state -> (Bool, FakeServer.Event?) in
                    if !state.events.isEmpty { return (true, state.events.removeFirst()) }
                    if state.isFinished || Task.isCancelled { return (true, nil) }
                    state.waiter = continuation
                    return (false, nil)
                }
                if isReady { continuation.resume(returning: event) }
            }
        } onCancel: {
            finish()
        }
    }
}

private final class FakeHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: FakeConnection
    private let inbox: Inbox
    private let greets: Bool
    private let limits: Limits
    private var decoder = FrameDecoder(limits: Limits())

    init(_ connection: FakeConnection, inbox: Inbox, greets: Bool, limits: Limits) {
        self.connection = connection
        self.inbox = inbox
        self.greets = greets
        self.limits = limits
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        decoder.feed(unwrapInboundIn(data))
        do {
            while let message = try decoder.next() {
                take(try ClientFrameCodec.decode(message, limits: Limits()))
            }
        } catch { context.close(promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) { inbox.add(.closed(connection)) }

    private func take(_ frame: ClientFrame) {
        guard greets, case .hello = frame.body else { return inbox.add(.frame(connection, frame)) }
        connection.send(ServerFrame(.connection, .welcome(Sample.welcome(limits))))
    }
}
