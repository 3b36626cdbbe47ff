import Logging
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletTLSOpenSSL
import NIOCore

/// The client's end of a connection: drives the session, keeps the open calls, and writes what they send. Bound to its
/// channel's event loop.
///
/// One timer serves all deadlines and the keepalive. Requests that the socket does not take yet wait as
/// requests, so that no more than about one is encoded ahead.
final class ConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let configuration: ClientConfiguration
    private let hasHandshake: Bool
    private let logger: Logger
    private let now: @Sendable () -> NIODeadline
    private let onUnusable: @Sendable (ClientConnection) -> Void
    private let onClosed: @Sendable (ClientConnection) -> Void
    private let eventLoop: any EventLoop
    /// Kept when the server welcomes the client, or the connection ends before that; nil from then on, for what is promised
    /// holds this handler.
    private var welcomed: EventLoopPromise<ClientConnection>?
    /// Why it is down.
    private var fault = ConnectionHandler.lost
    private var context: ChannelHandlerContext?
    private var connection: ClientConnection?
    private var session: ClientSession?
    private var decoder: FrameDecoder
    private var isDown = false
    private var calls: [CallID: ClientCall] = [:]
    private var waiting = CallQueue()
    private var unsent = ByteBuffer()
    /// A flush surely comes at the end of what is going on.
    private var isGathering = false
    private var isFlushScheduled = false
    /// Some worker's replies wait for the connection to take bytes.
    private var hasWaitingReplies = false
    private static let gatheredBytes = 64 << 10
    private var timer: Scheduled<Void>?
    private var timerAt = NIODeadline.distantFuture
    private var tickAt = NIODeadline.distantFuture
    private var openBy = NIODeadline.distantFuture
    private var frameBytesMax = 0

    init(
        _ configuration: ClientConfiguration, hasHandshake: Bool, logger: Logger, eventLoop: any EventLoop,
        now: @escaping @Sendable () -> NIODeadline, onUnusable: @escaping @Sendable (ClientConnection) -> Void,
        onClosed: @escaping @Sendable (ClientConnection) -> Void
    ) {
        self.configuration = configuration
        self.hasHandshake = hasHandshake
        self.logger = logger
        self.eventLoop = eventLoop
        self.now = now
        welcomed = eventLoop.makePromise()
        self.onUnusable = onUnusable
        self.onClosed = onClosed
        decoder = FrameDecoder(limits: configuration.limits)
    }

    /// The connection, when the server has welcomed it.
    var opened: EventLoopFuture<ClientConnection> {
        if let welcomed { return welcomed.futureResult }
        return connection.map { eventLoop.makeSucceededFuture($0) } ?? eventLoop.makeFailedFuture(fault)
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        openBy = now() + TimeAmount(clamping: configuration.connectTimeout)
        wake(at: openBy)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        goDown(Self.lost)
        self.context = nil
    }

    func channelActive(context: ChannelHandlerContext) {
        if !hasHandshake { sayHello() }
        context.fireChannelActive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSEvent { sayHello() }
        context.fireUserInboundEventTriggered(event)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isGathering = true
        decoder.feed(unwrapInboundIn(data))
        while !isDown {
            do throws(MartletError) {
                guard let message = try decoder.next() else { return }
                let frame = try ServerFrameCodec.decode(message, limits: configuration.limits)
                react(session?.receive(frame, now: now()) ?? .ignore)
            } catch {
                react(session?.receiveFault(error) ?? .fail(error))
            }
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        flush()
        context.fireChannelReadComplete()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        sendWaiting()
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        goDown(Self.lost)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let place = "\(configuration.host):\(configuration.port)"
        goDown(MartletError(connecting: error, to: place, isOpen: connection != nil))
        context.close(promise: nil)
    }

    private static let lost = MartletError(
        .unavailable, reason: .connectionLost, message: "the connection to the server was lost: connect again",
        isRetryable: true)

    private func sayHello() {
        guard session == nil, !isDown else { return }
        let keepaliveMillis = max(1, configuration.limits.keepaliveMillis)
        session = ClientSession(
            welcomeMillis: Int(clamping: TimeAmount(clamping: configuration.connectTimeout).nanoseconds / 1_000_000),
            keepaliveMillis: keepaliveMillis, now: now())
        let name = String(decoding: configuration.clientName.utf8.prefix(256), as: UTF8.self)
        write(ClientFrame(.connection, .hello(Hello(clientName: name.utf8.count <= 256 ? name : ""))))
        tickAt = now()
        tick()
    }

    // MARK: What tasks ask for

    func carryOut(_ commands: [ClientConnection.Command]) {
        isGathering = true
        for command in commands {
            switch command {
            case .start(let call, let sink): start(call, sink)
            case .cancel(let call): cancel(call)
            case .credit(let call, let bytes): grant(bytes, to: call)
            case .reply(let call): reply(call)
            case .close(let failure):
                goDown(failure.error)
                context?.close(promise: nil)
            }
        }
        flush()
    }

    /// Starts a call of a task that runs on the event loop. Where it is the only one, what it writes leaves at once;
    /// otherwise with that of others, at the end of the turn.
    func startHere(_ call: ClientCall, _ sink: ClientCall.Sink) {
        guard calls.isEmpty, waiting.isEmpty else { return start(call, sink) }
        isGathering = true
        start(call, sink)
        flush()
    }

    private func start(_ call: ClientCall, _ sink: ClientCall.Sink) {
        call.sink = sink
        guard case .new = call.state else { return call.end(.cancelled()) }
        guard !isDown, let context else { return call.end(CallFailure(error: Self.lost)) }
        guard context.channel.isWritable, waiting.isEmpty else {
            call.state = .waiting
            waiting.append(call)
            if let deadline = call.activeDeadline { wake(at: deadline) }
            return
        }
        send(call)
    }

    private func sendWaiting() {
        if hasWaitingReplies {
            hasWaitingReplies = false
            for call in calls.values where call.replies != nil { reply(call) }
        }
        while !isDown, context?.channel.isWritable == true, let call = waiting.popFirst() { send(call) }
        flush()
    }

    private func send(_ call: ClientCall) {
        guard let id = session?.nextCallID else { return call.end(CallFailure(error: Self.lost)) }
        let start = now()
        if let deadline = call.deadline, deadline <= start {
            return call.end(.deadlineExceeded(mayHaveRun: false))
        }
        let frameStart = unsent.writerIndex
        ClientFrameCodec.encode(
            ClientFrame(
                id, .request(call.request), timeoutMillis: call.timeoutMillis(now: start),
                creditBytes: call.creditBytes), to: &unsent)
        let bytes = unsent.writerIndex - frameStart - FrameDecoder.prefixBytes
        guard bytes <= frameBytesMax else {
            unsent.moveWriterIndex(to: frameStart)
            return call.end(
                CallFailure(
                    error: .limitExceeded(
                        "frame_bytes_max", limit: frameBytesMax, actual: bytes, "split it into several calls")))
        }
        switch session?.start(call.request, creditBytes: call.creditBytes) {
        case .send(let id):
            calls[id] = call
            call.state = .open(id)
            if let deadline = call.activeDeadline { wake(at: deadline) }
            isHeard(call, at: start)
            // A large request is not gathered with others: the channel must know of it to say that it is full.
            if unsent.readableBytes >= Self.gatheredBytes { flush() } else { scheduleFlush() }
        case .refuse(let error):
            unsent.moveWriterIndex(to: frameStart)
            call.end(CallFailure(error: error))
        case nil: call.end(CallFailure(error: Self.lost))
        }
    }

    private func cancel(_ call: ClientCall) {
        switch call.state {
        case .new: call.state = .ended
        case .waiting:
            waiting.remove(call)
            call.end(.cancelled())
        case .open(let id): abandon(id, call, .cancelled(mayHaveRun: true))
        case .ended: break
        }
    }

    /// Ends a call that the server still works on.
    private func abandon(_ id: CallID, _ call: ClientCall, _ failure: CallFailure) {
        calls[id] = nil
        if session?.cancel(id) == true { write(ClientFrame(id, .cancel)) }
        call.end(failure)
    }

    private func grant(_ bytes: Int, to call: ClientCall) {
        guard case .open(let id) = call.state, session?.credit(id, bytes: UInt64(bytes)) == true else { return }
        write(ClientFrame(id, .credit(UInt64(bytes))))
    }

    /// Sends what a worker has said, as far as the connection takes it; the rest follows when it takes more.
    private func reply(_ call: ClientCall) {
        guard case .open(let id) = call.state, let queue = call.replies, session?.takesReplies(id) == true else {
            return
        }
        while !isDown {
            guard context?.channel.isWritable == true else {
                hasWaitingReplies = true
                return
            }
            let replies = queue.take(bytesMax: min(Self.gatheredBytes, frameBytesMax / 2))
            guard !replies.isEmpty else { return }
            write(ClientFrame(id, .replies(replies)))
            isHeard(call, at: now())
            if unsent.readableBytes >= Self.gatheredBytes { flush() }
        }
    }

    /// The server hears of a worker: the next sign of life has time.
    private func isHeard(_ call: ClientCall, at time: NIODeadline) {
        guard call.replies != nil, let leaseMillis = connection?.welcome.limits.consumerLeaseMillis else { return }
        call.aliveAt = time + .milliseconds(Int64(max(1, leaseMillis / 3)))
        wake(at: call.aliveAt)
    }

    // MARK: What the server says

    private func react(_ reaction: ClientSession.Reaction) {
        switch reaction {
        case .ready(let welcome): open(welcome)
        case .part(let id, let body): deliver(body, to: id)
        case .answer(let id, let body):
            calls.removeValue(forKey: id)?.end(answer: body)
        case .end(let id, let error):
            guard let call = calls.removeValue(forKey: id) else { break }
            call.end(error.map { CallFailure(error: $0, mayHaveRun: $0.mayHaveRun) })
        case .drain(let unseen): drain(unseen)
        case .pong(let token): write(ClientFrame(.connection, .pong(token)))
        case .ignore: break
        case .fail(let error):
            goDown(error)
            context?.close(promise: nil)
        }
        if session?.isDrained == true {
            goDown(ClientSession.draining)
            context?.close(promise: nil)
        }
    }

    private func open(_ welcome: Welcome) {
        guard let channel = context?.channel else { return }
        openBy = .distantFuture
        frameBytesMax = welcome.limits.frameBytesMax
        let connection = ClientConnection(welcome: welcome, channel: channel, handler: self)
        self.connection = connection
        tickAt = session?.tickDue ?? .distantFuture
        wake(at: tickAt)
        welcomed?.succeed(connection)
        welcomed = nil
    }

    private func deliver(_ body: CallMessage, to id: CallID) {
        guard let call = calls[id], case .stream(let buffer) = call.sink else { return }
        call.hasStarted = true
        switch buffer.offer(body) {
        case .none: break
        case .grant(let bytes): grant(bytes, to: call)
        case .giveUp: abandon(id, call, .cancelled())
        }
    }

    private func drain(_ unseen: [CallID]) {
        logger.debug("the server is draining", metadata: ["calls": "\(calls.count)", "unseen": "\(unseen.count)"])
        retire()
        for id in unseen {
            calls.removeValue(forKey: id)?.end(CallFailure(error: ClientSession.draining))
        }
        while let call = waiting.popFirst() { call.end(CallFailure(error: ClientSession.draining)) }
    }

    private func retire() {
        guard let connection else { return }
        connection.retire()
        onUnusable(connection)
    }

    // MARK: The end

    private func goDown(_ error: MartletError) {
        guard !isDown else { return }
        isDown = true
        timer?.cancel()
        timer = nil
        let connection = connection
        retire()
        self.connection = nil
        if connection != nil {
            logger.debug(
                "connection ended", metadata: ["why": "\(PrintableText.escape("\(error)"))", "calls": "\(calls.count)"])
        }
        fault = error
        welcomed?.fail(error)
        welcomed = nil
        let open = session?.close() ?? []
        for id in open { calls[id]?.end(CallFailure(error: error, mayHaveRun: true)) }
        calls = [:]
        while let call = waiting.popFirst() { call.end(CallFailure(error: error)) }
        guard let connection else { return }
        context?.channel.closeFuture.whenComplete { [onClosed] _ in onClosed(connection) }
    }

    // MARK: Time

    /// Makes the timer ring then at the latest.
    private func wake(at deadline: NIODeadline) {
        guard deadline < timerAt, !isDown, let eventLoop = context?.eventLoop else { return }
        timer?.cancel()
        timerAt = deadline
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        timer = eventLoop.scheduleTask(in: max(.zero, deadline - now())) { bound.value.ring() }
    }

    private func ring() {
        timerAt = .distantFuture
        let now = self.now()
        guard now < openBy else {
            goDown(
                MartletError(
                    .unavailable, reason: .connectionLost,
                    message: "\(configuration.host):\(configuration.port) sent no welcome within "
                        + "\(configuration.connectTimeout): check that a Martlet server listens there",
                    isRetryable: true))
            context?.close(promise: nil)
            return
        }
        wake(at: openBy)
        for (id, call) in calls {
            if call.aliveAt <= now {
                write(ClientFrame(id, .replies([.alive])))
                isHeard(call, at: now)
            } else {
                wake(at: call.aliveAt)
            }
            guard let deadline = call.activeDeadline else { continue }
            if deadline <= now {
                abandon(id, call, .deadlineExceeded(mayHaveRun: true))
            } else {
                wake(at: deadline)
            }
        }
        for call in waiting.removeAll(where: { $0.activeDeadline.map { $0 <= now } ?? false }) {
            call.end(.deadlineExceeded(mayHaveRun: false))
        }
        if let next = waiting.earliestDeadline { wake(at: next) }
        tick()
        flush()
    }

    private func tick() {
        let now = self.now()
        if now >= tickAt {
            switch session?.tick(now: now) ?? .none {
            case .none: break
            case .ping(let token): write(ClientFrame(.connection, .ping(token)))
            case .fail(let error):
                goDown(error)
                context?.close(promise: nil)
            }
            tickAt = session?.tickDue ?? .distantFuture
        }
        wake(at: tickAt)
    }

    // MARK: Writing

    private func write(_ frame: ClientFrame) {
        guard !isDown else { return }
        ClientFrameCodec.encode(frame, to: &unsent)
        scheduleFlush()
    }

    private func scheduleFlush() {
        guard !isGathering, !isFlushScheduled, let eventLoop = context?.eventLoop else { return }
        isFlushScheduled = true
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.execute {
            bound.value.isFlushScheduled = false
            bound.value.flush()
        }
    }

    private func flush() {
        isGathering = false
        guard unsent.readableBytes > 0, let context else { return }
        var bytes = unsent
        // Writing may tell of writability, and with it write more.
        unsent = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
        // Mostly the bytes are encrypted by now, and their memory can be used again.
        guard unsent.capacity == 0, bytes.capacity <= 64 << 10 else { return }
        bytes.clear()
        unsent = bytes
    }
}
