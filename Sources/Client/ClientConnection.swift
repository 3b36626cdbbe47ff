import Logging
import MartletModel
import MartletSession
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A connection that the server has welcomed, as tasks see it.
final class ClientConnection: Sendable {
    /// What a task asks of the connection's event loop.
    enum Command: Sendable {
        case start(ClientCall, ClientCall.Sink)
        case cancel(ClientCall)
        case credit(ClientCall, Int)
        /// A worker's call has replies in its queue.
        case reply(ClientCall)
        case close(CallFailure)
    }

    /// What the server said.
    let welcome: Welcome
    private let channel: any Channel
    private let handler: NIOLoopBound<ConnectionHandler>
    private let commands = NIOLockedValueBox<[Command]>([])
    private let unusable = NIOLockedValueBox(false)

    init(welcome: Welcome, channel: any Channel, handler: ConnectionHandler) {
        self.welcome = welcome
        self.channel = channel
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
    }

    /// Starts a call: at once on the event loop, where a task that runs there changes no thread.
    private func start(_ call: ClientCall, _ sink: ClientCall.Sink) {
        // The cancellation of a task that was cancelled before waits for the event loop; its call goes after it.
        guard channel.eventLoop.inEventLoop, !Task.isCancelled else { return submit(.start(call, sink)) }
        handler.value.startHere(call, sink)
    }

    /// Hands a command to the event loop. Those of one turn go there together, and what they write leaves in one
    /// write.
    func submit(_ command: Command) {
        let isFirst = commands.withLockedValue { commands in
            commands.append(command)
            return commands.count == 1
        }
        guard isFirst else { return }
        channel.eventLoop.execute { [self] in
            let taken = commands.withLockedValue { commands in
                defer { commands = [] }
                return commands
            }
            handler.value.carryOut(taken)
        }
    }

    /// Carries out a call that has one answer.
    nonisolated(nonsending) func answer(
        _ request: CallRequest, deadline: NIODeadline?
    ) async throws(CallFailure) -> CallMessage {
        let call = ClientCall(request, deadline: deadline)
        await withTaskCancellationHandler {
            await unsafe withUnsafeContinuation { unsafe start(call, .unary($0)) }
        } onCancel: {
            submit(.cancel(call))
        }
        guard let outcome = call.outcome else { preconditionFailure("a call is resumed when its outcome is there") }
        return try outcome.get()
    }

    /// Starts a call whose answer streams.
    func stream(
        _ request: CallRequest, deadline: NIODeadline?, isDeadlineForStart: Bool, window: CreditWindow
    ) -> StreamHandle {
        let buffer = StreamBuffer(window: window)
        let call = ClientCall(
            request, deadline: deadline, isDeadlineForStart: isDeadlineForStart,
            creditBytes: UInt64(window.windowBytes))
        start(call, .stream(buffer))
        return StreamHandle(call: call, buffer: buffer, connection: self)
    }

    /// Starts the stream of a worker.
    /// - Parameters:
    ///   - request: to work on one consumer, or on those of many tenants.
    ///   - holdsCredit: credit goes back by ``ReplyPath/giveBack(_:)`` alone.
    func work(
        _ request: CallRequest, deadline: NIODeadline?, window: CreditWindow, holdsCredit: Bool
    ) -> (stream: StreamHandle, replies: ReplyPath) {
        let buffer = StreamBuffer(
            window: window, workerSignals: WorkerSignals(tenantsMax: welcome.limits.tenantsPerStreamMax),
            holdsCredit: holdsCredit)
        let replies = ReplyQueue()
        let call = ClientCall(
            request, deadline: deadline, isDeadlineForStart: true, creditBytes: UInt64(window.windowBytes),
            replies: replies)
        start(call, .stream(buffer))
        return (
            StreamHandle(call: call, buffer: buffer, connection: self),
            ReplyPath(call: call, buffer: buffer, replies: replies, connection: self)
        )
    }

    /// No more calls are to be started here.
    var isUnusable: Bool { unusable.withLockedValue { $0 } }

    /// From here on ``isUnusable``.
    func retire() { unusable.withLockedValue { $0 = true } }

    /// Waits until the channel is closed.
    func closed() async { try? await channel.closeFuture.get() }
}

extension ClientConnection {
    /// Connects, and waits for the server's welcome.
    /// - Parameter onUnusable: called on the event loop when no more calls are to be started on the connection.
    static func open(
        _ configuration: ClientConfiguration, environment: ClientEnvironment, eventLoop: any EventLoop, logger: Logger,
        onUnusable: @escaping @Sendable (ClientConnection) -> Void,
        onClosed: @escaping @Sendable (ClientConnection) -> Void
    ) async throws(MartletError) -> ClientConnection {
        let opening = NIOLockedValueBox<(channel: (any Channel)?, isCancelled: Bool)>((nil, false))
        let place = "\(configuration.host):\(configuration.port)"
        do {
            try environment.transport.prepare()
            return try await withTaskCancellationHandler {
                try await ClientBootstrap(group: eventLoop)
                    .connectTimeout(TimeAmount(clamping: configuration.connectTimeout))
                    .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                    .channelOption(.socketOption(.so_keepalive), value: 1)
                    .channelOption(.writeBufferWaterMark, value: .init(low: 256 << 10, high: 1 << 20))
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture {
                            try environment.transport.addHandlers(channel)
                            try channel.pipeline.syncOperations.addHandler(
                                ConnectionHandler(
                                    configuration, hasHandshake: environment.transport.hasHandshake, logger: logger,
                                    eventLoop: channel.eventLoop, now: environment.now, onUnusable: onUnusable,
                                    onClosed: onClosed))
                            let isCancelled = opening.withLockedValue { opening in
                                opening.channel = channel
                                return opening.isCancelled
                            }
                            if isCancelled { throw CancellationError() }
                        }
                    }
                    .connect(host: configuration.host, port: configuration.port)
                    .flatMap { channel in
                        do {
                            return try channel.pipeline.syncOperations.handler(type: ConnectionHandler.self).opened
                        } catch { return channel.eventLoop.makeFailedFuture(error) }
                    }
                    .get()
            } onCancel: {
                let channel = opening.withLockedValue { opening in
                    opening.isCancelled = true
                    return opening.channel
                }
                channel?.close(promise: nil)
            }
        } catch {
            throw MartletError(connecting: error, to: place)
        }
    }
}

/// A stream as its consumer holds it: letting go of it cancels the call.
final class StreamHandle: Sendable {
    private let call: ClientCall
    private let buffer: StreamBuffer
    private let connection: ClientConnection

    init(call: ClientCall, buffer: StreamBuffer, connection: ClientConnection) {
        self.call = call
        self.buffer = buffer
        self.connection = connection
    }

    deinit {
        if !buffer.hasEnded { connection.submit(.cancel(call)) }
    }

    /// The next part; grants credit for what it takes.
    func next() async -> StreamBuffer.Delivery {
        let delivery = await withTaskCancellationHandler {
            await buffer.next()
        } onCancel: {
            buffer.cancel()
            connection.submit(.cancel(call))
        }
        if case .part(_, let bytes) = delivery, bytes > 0 { connection.submit(.credit(call, bytes)) }
        return delivery
    }
}

/// The way by which a worker answers deliveries of one stream. It does not keep the stream open.
struct ReplyPath: Sendable {
    private let call: ClientCall
    private let buffer: StreamBuffer
    private let replies: ReplyQueue
    private let connection: ClientConnection

    fileprivate init(call: ClientCall, buffer: StreamBuffer, replies: ReplyQueue, connection: ClientConnection) {
        self.call = call
        self.buffer = buffer
        self.replies = replies
        self.connection = connection
    }

    /// Replies of one turn of the event loop leave together. What is said after the stream's end is dropped.
    func say(_ reply: WorkerReply) {
        if replies.add(reply) { connection.submit(.reply(call)) }
    }

    /// Has the server send as much again, where the stream holds credit.
    func giveBack(_ bytes: Int) {
        let grant = buffer.giveBack(bytes)
        if grant > 0 { connection.submit(.credit(call, grant)) }
    }
}
