public import NIOCore

/// What a ``TLSHandler`` says to those behind it, as a user inbound event.
public enum TLSEvent: Hashable, Sendable {
    /// The connection is safe to use: who the peer is (nil without a certificate), what ALPN agreed on, and
    /// whether an earlier session was resumed.
    case handshakeCompleted(PeerIdentity?, alpn: String?, resumed: Bool)
}

/// TLS in a channel: encrypted bytes towards the socket, plain bytes behind.
///
/// Writes wait for the handshake and for a flush; what is flushed together is encrypted together, in full
/// records, and leaves in one write. Closing says so to the peer (close_notify) and waits a moment for its
/// answer, so that what was written last is not lost to a reset.
public final class TLSHandler: ChannelDuplexHandler {
    /// Encrypted bytes.
    public typealias InboundIn = ByteBuffer
    /// Plain bytes.
    public typealias InboundOut = ByteBuffer
    /// Plain bytes.
    public typealias OutboundIn = ByteBuffer
    /// Encrypted bytes.
    public typealias OutboundOut = ByteBuffer

    /// The time that a handshake may take unless told otherwise, in milliseconds.
    public static let handshakeMillis = 10_000

    private enum State {
        case handshaking
        case open
        /// close_notify or an alert was sent: what still comes in is dropped.
        case closing
        case closed
    }

    private static let lingerMillis: Int64 = 1_000
    /// Plain bytes are handed on in pieces of about this size.
    private static let inboundPieceBytes = 64 << 10

    private let connection: TLSConnection
    private let isServer: Bool
    private let handshakeMillis: Int
    private var state = State.handshaking
    private var pending: [(ByteBuffer, EventLoopPromise<Void>?)] = []
    private var flushedCount = 0
    private var timer: Scheduled<Void>?
    private var closePromise: EventLoopPromise<Void>?

    init(_ connection: TLSConnection, isServer: Bool, handshakeMillis: Int) {
        self.connection = connection
        self.isServer = isServer
        self.handshakeMillis = handshakeMillis
    }

    // MARK: Inbound

    /// Starts the handshake where the channel is active already.
    public func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { begin(context) }
    }

    /// Fails what was not written.
    public func handlerRemoved(context: ChannelHandlerContext) {
        timer?.cancel()
        failPending(ChannelError.ioOnClosedChannel)
    }

    /// Starts the handshake.
    public func channelActive(context: ChannelHandlerContext) {
        begin(context)
        context.fireChannelActive()
    }

    private func begin(_ context: ChannelHandlerContext) {
        guard timer == nil, state == .handshaking else { return }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .milliseconds(Int64(handshakeMillis))) {
            let (handler, context) = bound.value
            handler.fail(
                TLSError(
                    .handshakeTimeout, "the TLS handshake was not finished within \(handler.handshakeMillis) ms"),
                context)
        }
        handshake(context)
    }

    /// Decrypts.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard state == .handshaking || state == .open || state == .closing else { return }
        connection.receive(unwrapInboundIn(data))
        if state == .handshaking { handshake(context) }
        if state == .open || state == .closing { readPlain(context) }
    }

    /// Says so where the peer went without a word.
    public func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        switch state {
        case .handshaking:
            context.fireErrorCaught(TLSError(.truncated, "the connection ended during the TLS handshake"))
        case .open:
            context.fireErrorCaught(TLSError(.truncated, "the connection ended without close_notify"))
        case .closing, .closed: break
        }
        state = .closed
        failPending(ChannelError.ioOnClosedChannel)
        closePromise?.succeed()
        closePromise = nil
        context.fireChannelInactive()
    }

    private func handshake(_ context: ChannelHandlerContext) {
        let result = connection.handshake()
        sendOutbound(context, promise: nil)
        switch result {
        case .wantRead: return
        case .failed(let error): fail(error, context)
        case .done:
            let alpn = connection.negotiatedProtocol
            guard alpn != nil else {
                return fail(
                    TLSError(
                        .noCommonProtocol,
                        isServer
                            ? "the client offers no ALPN protocol: it must offer martlet/1"
                            : "the server agreed to no ALPN protocol: it does not speak martlet/1"), context)
            }
            timer?.cancel()
            timer = nil
            state = .open
            context.fireUserInboundEventTriggered(
                TLSEvent.handshakeCompleted(connection.peerIdentity, alpn: alpn, resumed: connection.isResumed))
            if state == .open { encryptFlushed(context) }
        }
    }

    private func readPlain(_ context: ChannelHandlerContext) {
        var plain = context.channel.allocator.buffer(capacity: 0)
        defer { handOn(&plain, context) }
        while true {
            switch connection.read(into: &plain) {
            case .read:
                if plain.readableBytes >= Self.inboundPieceBytes { handOn(&plain, context) }
            case .wantRead:
                // TLS 1.3 has messages of its own after the handshake, which may ask for an answer.
                return sendOutbound(context, promise: nil)
            case .closed:
                handOn(&plain, context)
                if state == .open { startClosing(context) }
                return finishClosing(context)
            case .failed(let error):
                handOn(&plain, context)
                if state == .open { return fail(error, context) }
                return finishClosing(context)
            }
            guard state == .open || state == .closing else { return }
        }
    }

    private func handOn(_ plain: inout ByteBuffer, _ context: ChannelHandlerContext) {
        guard plain.readableBytes > 0 else { return }
        let piece = plain
        plain = context.channel.allocator.buffer(capacity: 0)
        guard state == .open else { return }
        context.fireChannelRead(wrapInboundOut(piece))
    }

    // MARK: Outbound

    /// Keeps plain bytes until they are flushed.
    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard state == .handshaking || state == .open else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        pending.append((unwrapOutboundIn(data), promise))
    }

    /// Encrypts what was written, and sends it.
    public func flush(context: ChannelHandlerContext) {
        flushedCount = pending.count
        if state == .open { encryptFlushed(context) } else { context.flush() }
    }

    /// Tells the peer, then closes.
    public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard mode == .all else {
            promise?.fail(ChannelError.operationUnsupported)
            return
        }
        switch state {
        case .open:
            flushedCount = pending.count
            encryptFlushed(context)
            closePromise = promise
            startClosing(context)
        case .closing:
            if let promise { closePromise.map { $0.futureResult.cascade(to: promise) } ?? (closePromise = promise) }
        case .handshaking, .closed:
            state = .closed
            timer?.cancel()
            context.close(promise: promise)
        }
    }

    private func encryptFlushed(_ context: ChannelHandlerContext) {
        guard flushedCount > 0 else { return context.flush() }
        let writes = pending.prefix(flushedCount)
        var plain = writes[0].0
        for (more, _) in writes.dropFirst() { plain.writeImmutableBuffer(more) }
        let promises = writes.compactMap(\.1)
        pending.removeFirst(flushedCount)
        flushedCount = 0
        do throws(TLSError) {
            try connection.write(plain)
        } catch {
            for promise in promises { promise.fail(error) }
            return fail(error, context)
        }
        let promise: EventLoopPromise<Void>?
        if promises.count > 1 {
            let all = context.eventLoop.makePromise(of: Void.self)
            for one in promises { all.futureResult.cascade(to: one) }
            promise = all
        } else {
            promise = promises.first
        }
        sendOutbound(context, promise: promise)
    }

    private func sendOutbound(_ context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
        guard let bytes = connection.takeOutbound() else {
            promise?.succeed()
            return
        }
        context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
    }

    // MARK: The end

    private func startClosing(_ context: ChannelHandlerContext) {
        state = .closing
        connection.closeOutput()
        sendOutbound(context, promise: nil)
        linger(context)
    }

    /// Closes when the peer has closed, or after a moment.
    private func linger(_ context: ChannelHandlerContext) {
        timer?.cancel()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .milliseconds(Self.lingerMillis)) {
            let (handler, context) = bound.value
            handler.finishClosing(context)
        }
        // Reading goes on, or the peer's answer would never be seen.
        context.channel.setOption(.autoRead, value: true).whenFailure { _ in }
    }

    private func finishClosing(_ context: ChannelHandlerContext) {
        guard state != .closed else { return }
        state = .closed
        timer?.cancel()
        let promise = closePromise
        closePromise = nil
        context.close(promise: promise)
    }

    private func fail(_ error: TLSError, _ context: ChannelHandlerContext) {
        guard state == .handshaking || state == .open else { return }
        state = .closing
        sendOutbound(context, promise: nil)
        failPending(error)
        // An alert may be on its way to the peer; what it still sends is dropped.
        if error.kind == .handshakeTimeout { finishClosing(context) } else { linger(context) }
        context.fireErrorCaught(error)
    }

    private func failPending(_ error: any Error) {
        let writes = pending
        pending = []
        flushedCount = 0
        for (_, promise) in writes { promise?.fail(error) }
    }
}
