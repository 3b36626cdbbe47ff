public import NIOCore

/// What a `TLSHandler` tells the handlers behind it, as a user inbound event.
public enum TLSEvent: Sendable {
    /// The connection is secure. The peer's identity is nil if it showed no certificate, `alpn` if ALPN is unused.
    case handshakeCompleted(PeerIdentity?, alpn: String?, resumed: Bool)
}

/// TLS on a channel: ciphertext towards the network, plaintext towards the handlers behind it.
///
/// The handshake starts when the channel becomes active; `TLSEvent.handshakeCompleted` tells of its end. Until then writes
/// wait, up to 16 MiB. Every failure is fired as an error, a `TLSError` but for the transport's own, and ends the channel:
/// the peer gets the alert and a moment to read it.
///
/// `close` says goodbye in TLS, ends the transport's output, and waits for the peer to do either, for a bounded time.
/// Writes that have not been flushed by then fail. `close(mode: .output)` says goodbye and goes on reading. A peer that
/// says goodbye gets the same answer at once, unless the channel allows remote half-closure: then
/// `ChannelEvent.inputClosed` is fired and writing goes on.
public final class TLSHandler: ChannelDuplexHandler {
    /// Ciphertext.
    public typealias InboundIn = ByteBuffer
    /// Plaintext.
    public typealias InboundOut = ByteBuffer
    /// Plaintext.
    public typealias OutboundIn = ByteBuffer
    /// Ciphertext.
    public typealias OutboundOut = ByteBuffer

    private enum State {
        /// The channel is not active yet.
        case idle
        case handshaking
        case established
        /// We have said goodbye, and wait for the peer's.
        case closing
        /// The peer has been told what went wrong, and has a moment to read it.
        case failed
        /// Nothing is left to do but to wait for the channel.
        case closed
    }

    /// Before the end of the handshake so much may be written: two frames of the greatest size.
    private static let earlyBytesMax = 16 * 1_024 * 1_024
    /// After a failure the peer has so long to take the alert. Closing at once with its bytes unread would reset the
    /// connection, and take the alert away.
    private static let lingerTime = TimeAmount.seconds(1)

    /// So many bytes may have been under way when the peer heard our goodbye. Of one that sends more, no more is read: it can
    /// still read what it was told, until the close times out.
    static let closingBytesMax = 1 << 20

    let connection: SSLConnection
    private let isALPNRequired: Bool
    private let handshakeTimeout: TimeAmount
    private let closeTimeout: TimeAmount

    private var state = State.idle
    private var pending = PendingWrites()
    /// The peer has said goodbye.
    private var isInputClosed = false
    /// We have said goodbye.
    private var isOutputClosed = false
    /// `close(mode: .output)` came before the end of the handshake.
    private var earlyOutputClose: Promises?
    /// Who waits for the channel to be closed.
    private var closePromises = Promises()
    private var deadline: Scheduled<Void>?
    /// Bytes that came after our goodbye.
    private(set) var closingBytes = 0
    /// Handlers behind us wait for bytes that the transport has not been able to give yet.
    private var isReadWanted = false
    private var hasReadSinceComplete = false

    init(
        _ connection: SSLConnection, isALPNRequired: Bool, handshakeTimeout: TimeAmount, closeTimeout: TimeAmount
    ) {
        self.connection = connection
        self.isALPNRequired = isALPNRequired
        self.handshakeTimeout = handshakeTimeout
        self.closeTimeout = closeTimeout
    }

    // MARK: Life of the channel

    /// Starts the handshake if the channel is active.
    public func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { start(context) }
    }

    /// Fails what still waits.
    public func handlerRemoved(context: ChannelHandlerContext) {
        finish(ChannelError.ioOnClosedChannel)
        closePromises.take()?.fail(ChannelError.ioOnClosedChannel)
    }

    /// Starts the handshake.
    public func channelActive(context: ChannelHandlerContext) {
        start(context)
        context.fireChannelActive()
    }

    /// Tells of an end without a goodbye.
    public func channelInactive(context: ChannelHandlerContext) {
        let before = state
        state = .closed
        switch before {
        case .handshaking:
            let error = TLSError(.handshake, "the peer closed the connection during the handshake")
            finish(error)
            context.fireErrorCaught(error)
        case .established where !isInputClosed:
            finish(Self.truncated)
            context.fireErrorCaught(Self.truncated)
        case .idle, .established, .closing, .failed, .closed:
            finish(ChannelError.ioOnClosedChannel)
        }
        closePromises.take()?.succeed()
        context.fireChannelInactive()
    }

    /// Takes the transport's half-closure for what it means in TLS.
    public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event as? ChannelEvent {
        case .inputClosed: transportInputClosed(context)
        case .outputClosed where state == .failed || state == .closing: break
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    private static let truncated = TLSError(
        .truncated, "the peer closed the connection without a TLS close_notify; bytes may be missing")

    private func transportInputClosed(_ context: ChannelHandlerContext) {
        switch state {
        case .handshaking: fail(context, TLSError(.handshake, "the peer closed the connection during the handshake"))
        case .established where !isInputClosed: fail(context, Self.truncated)
        case .closing, .failed: closeTransport(context)
        // With a goodbye before it, it is what the handlers behind us know already.
        case .idle, .established, .closed: break
        }
    }

    private func start(_ context: ChannelHandlerContext) {
        guard state == .idle else { return }
        state = .handshaking
        setDeadline(context, after: handshakeTimeout) { handler, context in
            let millis = handler.handshakeTimeout.nanoseconds / 1_000_000
            handler.fail(context, TLSError(.handshakeTimeout, "the handshake took more than \(millis) ms"))
        }
        _ = stepHandshake(context)
        // Without autoRead nobody else asks for the peer's part of it.
        context.read()
    }

    private func setDeadline(
        _ context: ChannelHandlerContext, after time: TimeAmount,
        _ action: @escaping (TLSHandler, ChannelHandlerContext) -> Void
    ) {
        deadline?.cancel()
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: time) { [weak self] in
            if let self { action(self, context) }
        }
    }

    /// Everybody who waits for something learns that it will not come.
    private func finish(_ error: any Error) {
        deadline?.cancel()
        deadline = nil
        pending.fail(error)
        let early = earlyOutputClose
        earlyOutputClose = nil
        early?.first?.fail(error)
    }

    // MARK: Reading

    /// Decrypts.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        // What comes after the end is of no use.
        case .idle, .failed, .closed: return
        case .handshaking, .established, .closing: break
        }
        let bytes = unwrapInboundIn(data)
        if state == .closing { closingBytes += bytes.readableBytes }
        connection.receive(bytes)
        if state == .handshaking {
            guard stepHandshake(context) else { return }
        }
        decrypt(context)
    }

    /// Passes it on if there was plaintext; otherwise asks for more bytes if somebody waits for them.
    public func channelReadComplete(context: ChannelHandlerContext) {
        if hasReadSinceComplete {
            hasReadSinceComplete = false
            context.fireChannelReadComplete()
        } else if isReadWanted || state != .established, closingBytes <= Self.closingBytesMax {
            context.read()
        }
    }

    /// Remembers that bytes are wanted.
    public func read(context: ChannelHandlerContext) {
        isReadWanted = true
        if closingBytes <= Self.closingBytesMax { context.read() }
    }

    /// Goes on with the handshake. Answers whether it is complete and the connection is to be read.
    private func stepHandshake(_ context: ChannelHandlerContext) -> Bool {
        switch connection.handshake() {
        case .wantRead:
            send(context)
            return false
        case .failed(let error):
            fail(context, error)
            return false
        case .done:
            let alpn = connection.alpn
            guard alpn != nil || !isALPNRequired else {
                fail(context, TLSError(.noApplicationProtocol, "the server does not use ALPN"))
                return false
            }
            deadline?.cancel()
            deadline = nil
            state = .established
            // The end of the handshake and what has been waiting for it leave together.
            encryptFlushed(context)
            let event = TLSEvent.handshakeCompleted(
                connection.peerIdentity, alpn: alpn, resumed: connection.isResumed)
            context.fireUserInboundEventTriggered(event)
            if state == .established, let early = earlyOutputClose {
                earlyOutputClose = nil
                closeOutput(context, early.first)
            }
            return state == .established || state == .closing
        }
    }

    private func decrypt(_ context: ChannelHandlerContext) {
        var plaintext = ByteBuffer()
        let stop = connection.read(into: &plaintext)
        // A goodbye of our own (`close`) means that nobody wants to read any more.
        if plaintext.readableBytes > 0, state == .established {
            isReadWanted = false
            hasReadSinceComplete = true
            context.fireChannelRead(wrapInboundOut(plaintext))
        }
        switch stop {
        case .wantRead: send(context)
        case .closed: peerClosed(context)
        case .failed(let error): fail(context, error)
        }
    }

    // MARK: Writing

    /// Keeps the plaintext until the flush.
    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch state {
        case .idle, .handshaking, .established: break
        case .closing, .failed, .closed:
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        guard !isOutputClosed, earlyOutputClose == nil else {
            promise?.fail(ChannelError.outputClosed)
            return
        }
        pending.append(unwrapOutboundIn(data), promise: promise)
        if state != .established, pending.bytes > Self.earlyBytesMax {
            let message = "more than \(Self.earlyBytesMax) bytes were written before the end of the handshake"
            fail(context, TLSError(.bufferFull, message))
        }
    }

    /// Encrypts what has been written since the last flush, and sends it in one write.
    public func flush(context: ChannelHandlerContext) {
        pending.flush()
        if state == .established { encryptFlushed(context) }
    }

    private func encryptFlushed(_ context: ChannelHandlerContext) {
        guard pending.isFlushed else { return send(context) }
        let (promise, error) = pending.encrypt(with: connection)
        if let error {
            fail(context, error)
            promise?.fail(error)
        } else {
            send(context, promise)
        }
    }

    /// Sends the ciphertext that there is.
    private func send(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>? = nil) {
        if let ciphertext = connection.takeOutbound() {
            context.writeAndFlush(wrapOutboundOut(ciphertext), promise: promise)
        } else if let promise {
            // After all that is still on its way out.
            context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: promise)
        }
    }

    // MARK: Closing

    /// Says goodbye in TLS before it closes the channel.
    public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        switch (mode, state) {
        case (.input, _): promise?.fail(ChannelError.operationUnsupported)
        case (.output, .idle), (.output, .handshaking):
            earlyOutputClose = earlyOutputClose ?? Promises()
            earlyOutputClose?.add(promise)
        case (.output, .established) where !isOutputClosed: closeOutput(context, promise)
        case (.output, _): promise?.fail(ChannelError.outputClosed)
        case (.all, .established):
            closePromises.add(promise)
            close(context)
        // It is about to close anyway, within a bounded time.
        case (.all, .closing), (.all, .failed): closePromises.add(promise)
        case (.all, .idle), (.all, .handshaking):
            state = .closed
            finish(ChannelError.ioOnClosedChannel)
            context.close(mode: .all, promise: promise)
        case (.all, .closed): context.close(mode: .all, promise: promise)
        }
    }

    private func close(_ context: ChannelHandlerContext) {
        state = .closing
        finish(ChannelError.ioOnClosedChannel)
        setDeadline(context, after: closeTimeout) { handler, context in handler.closeTransport(context) }
        if isInputClosed {
            sayGoodbye(context, nil)
            closeTransportWhenSent(context)
        } else {
            // A peer that does not answer the goodbye, as gRPC's C core, closes when the transport ends.
            let said = context.eventLoop.makePromise(of: Void.self)
            said.futureResult.assumeIsolated().whenSuccess { [weak self] _ in
                guard let self, state == .closing, !isInputClosed else { return }
                context.close(mode: .output, promise: nil)
            }
            sayGoodbye(context, said)
            context.read()
        }
    }

    private func closeOutput(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
        pending.fail(ChannelError.outputClosed)
        if isInputClosed {
            closePromises.add(promise)
            close(context)
        } else {
            sayGoodbye(context, promise)
        }
    }

    private func sayGoodbye(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
        if !isOutputClosed {
            isOutputClosed = true
            connection.shutDown()
        }
        send(context, promise)
    }

    /// The peer's close_notify has come.
    private func peerClosed(_ context: ChannelHandlerContext) {
        guard !isInputClosed else { return send(context) }
        isInputClosed = true
        switch state {
        case .closing: closeTransportWhenSent(context)
        case .established:
            let allowsHalfClosure = try? context.channel.syncOptions?.getOption(.allowRemoteHalfClosure)
            if !isOutputClosed, allowsHalfClosure ?? false {
                send(context)
                context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
            } else {
                close(context)
            }
        case .idle, .handshaking, .failed, .closed: break
        }
    }

    /// Both sides have said goodbye: nothing keeps the channel but what is still on its way out.
    private func closeTransportWhenSent(_ context: ChannelHandlerContext) {
        let sent = context.eventLoop.makePromise(of: Void.self)
        sent.futureResult.assumeIsolated().whenComplete { [weak self] _ in self?.closeTransport(context) }
        send(context, sent)
    }

    private func closeTransport(_ context: ChannelHandlerContext) {
        guard state != .closed else { return }
        state = .closed
        finish(ChannelError.ioOnClosedChannel)
        context.close(mode: .all, promise: closePromises.take())
    }

    /// Sends the alert that OpenSSL has made of the failure, tells of it, and closes.
    private func fail(_ context: ChannelHandlerContext, _ error: TLSError) {
        guard state != .failed, state != .closed else { return }
        state = .failed
        finish(error)
        setDeadline(context, after: Self.lingerTime) { handler, context in handler.closeTransport(context) }
        send(context)
        context.fireErrorCaught(error)
        guard state == .failed else { return }
        let halfClosed = context.eventLoop.makePromise(of: Void.self)
        halfClosed.futureResult.assumeIsolated().whenFailure { [weak self] _ in self?.closeTransport(context) }
        context.close(mode: .output, promise: halfClosed)
        context.read()
    }
}
