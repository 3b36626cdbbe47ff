import Logging
public import MartletAccess
import MartletFrameCodec
public import MartletModel
public import MartletService
import MartletSession
import MartletTLSOpenSSL
import MartletTenants
public import NIOCore

/// One connection of the native protocol: bytes become frames, the session says what they mean, and messages of calls
/// become frames again. What calls do is the service's matter. Bound to its channel's event loop.
///
/// What a peer can make the server hold is bounded. Of what comes in, a frame longer than
/// ``Limits/inboundFreeBytes`` is on the account of its tenants; while there is no room, nothing more is read. Of what
/// goes out, so is what the socket owes beyond ``Limits/outboundFreeBytes``. While the socket takes no bytes nothing
/// more is read from it, and when that lasts the connection is closed.
public final class ServerConnection: ChannelInboundHandler, CallTransport, AdmittedConnection {
    /// Plaintext.
    public typealias InboundIn = ByteBuffer
    /// Plaintext.
    public typealias OutboundOut = ByteBuffer

    /// The system tells nobody when it took some of what a socket owes; while it owes much, it is asked this often.
    private static let recheckTime = TimeAmount.milliseconds(20)
    /// Frames that one connection has decoded in a turn of its event loop.
    private static let framesPerTurn = 128

    private let service: EventService
    private let limits: Limits
    private let eventLoop: any EventLoop
    private let logger: Logger
    private var decoder: FrameDecoder
    private var session: ServerSession?
    private var calls: ConnectionCalls?
    private var principal = Principal(identity: "", tenants: .only([]))
    private var inbound: InboundAccount?
    private var outbound: OutboundAccount?
    private var warrant: (any ConnectionWarrant)?
    private var channelContext: ChannelHandlerContext?
    private var isClosing = false
    private var isFlushScheduled = false
    private var isReading = true
    /// The last turn left frames that came in to the next one.
    private var hasMoreFrames = false
    private var stalledSince: NIODeadline?
    private var tickTask: RepeatedTask?
    private var unsent = ByteBuffer()
    private var socketCheck: Scheduled<Void>?
    private var bound: NIOLoopBound<ServerConnection> { NIOLoopBound(self, eventLoop: eventLoop) }

    /// A connection of the event loop that this is called on.
    public init(service: EventService, eventLoop: any EventLoop) {
        self.service = service
        limits = service.limits
        self.eventLoop = eventLoop
        logger = service.logger
        decoder = FrameDecoder(limits: limits)
    }

    // MARK: The channel

    /// Joins the channel.
    public func handlerAdded(context: ChannelHandlerContext) { channelContext = context }

    /// Leaves the channel.
    public func handlerRemoved(context: ChannelHandlerContext) { channelContext = nil }

    /// Ends everything that the connection had open.
    public func channelInactive(context: ChannelHandlerContext) {
        tearDown()
        context.fireChannelInactive()
    }

    /// Cuts frames out of what came in, and reacts to each.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        decoder.feed(unwrapInboundIn(data))
        decodeFrames()
    }

    /// Sends what the frames of one read were answered with.
    public func channelReadComplete(context: ChannelHandlerContext) {
        flush()
        context.fireChannelReadComplete()
    }

    /// Calls pause, or go on.
    public func channelWritabilityChanged(context: ChannelHandlerContext) {
        chargeSocket()
        updateWritability()
        context.fireChannelWritabilityChanged()
    }

    /// Closes the channel.
    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
        logger.debug(
            "connection failed", metadata: ["peer": "\(peerName)", "error": "\(PrintableText.escape("\(error)"))"])
        context.close(promise: nil)
    }

    private var peerName: String { channelContext?.remoteAddress.map { "\($0)" } ?? "unknown" }

    /// The peer's identity is known: frames may come.
    public func open(_ principal: Principal, warrant: any ConnectionWarrant) {
        guard !isClosing else { return }
        self.principal = principal
        self.warrant = warrant
        let holder = principal.holder(of: self)
        let calls = ConnectionCalls(service: service, principal: principal, transport: self, eventLoop: eventLoop)
        self.calls = calls
        inbound = InboundAccount(pool: service.pools.inbound, holder: holder, limits: limits)
        outbound = OutboundAccount(pool: service.pools.outbound, holder: holder, limits: limits)
        session = ServerSession(limits: limits, now: eventLoop.now)
        startTicking()
        if service.isDraining { drain() }
    }

    /// The peer may not use the server: says why, then closes.
    public func refuse(_ error: MartletError) { fail(error) }

    private func startTicking() {
        let millis = max(10, min(limits.keepaliveMillis, limits.handshakeMillis) / 4)
        let bound = bound
        tickTask = eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(Int64(millis)), delay: .milliseconds(Int64(millis))
        ) { _ in bound.value.tick() }
    }

    private func tick() {
        let now = eventLoop.now
        if let stalledSince, now - stalledSince >= .milliseconds(Int64(limits.writeStallMillis)) {
            logger.info("closing a stalled connection: its peer does not read", metadata: ["peer": "\(peerName)"])
            abort()
            return
        }
        if let error = warrant?.fault() ?? inbound?.fault(now: now) { return fail(error) }
        switch session?.tick(now: now) ?? .none {
        case .none: break
        case .ping(let token): write(ServerFrame(.connection, .ping(token)))
        case .fail(let error): fail(error)
        }
    }

    // MARK: Frames

    private func decodeFrames() {
        guard !hasMoreFrames else { return }
        var count = 0
        while !isClosing {
            count += 1
            guard count <= Self.framesPerTurn else { return decodeMoreLater() }
            do throws(MartletError) {
                guard let message = try decoder.next() else { break }
                let frame = try ClientFrameCodec.decode(message, limits: limits)
                guard let reaction = session?.receive(frame, now: eventLoop.now) else { break }
                react(reaction)
            } catch {
                guard let reaction = session?.receiveFault(error) else { return fail(error) }
                react(reaction)
            }
        }
        hold(frameBytes: decoder.awaitedFrameBytes)
    }

    /// A read may hold thousands of small frames: other connections of the loop come in between.
    private func decodeMoreLater() {
        hasMoreFrames = true
        updateReading()
        service.frameTurns(of: eventLoop).await {
            self.hasMoreFrames = false
            self.decodeFrames()
            self.updateReading()
        }
    }

    /// Takes room for the frame that is under way, and reads on when there is room.
    private func hold(frameBytes: Int) {
        guard !isClosing, inbound?.isUpToDate(frameBytes) == false else { return }
        let bound = bound
        inbound?.hold(frameBytes, now: eventLoop.now) { wait in
            bound.eventLoop.execute { bound.value.inboundGranted(wait) }
        }
        updateReading()
    }

    private func inboundGranted(_ wait: InboundAccount.WaitNumber) {
        inbound?.granted(wait, isOpen: !isClosing)
        updateReading()
    }

    private func updateReading() {
        guard let channel = channelContext?.channel else { return }
        let reads = isWritable && inbound?.isWaiting != true && !hasMoreFrames
        guard reads != isReading else { return }
        isReading = reads
        channel.setOption(.autoRead, value: reads).whenFailure { _ in }
    }

    private func react(_ reaction: ServerSession.Reaction) {
        switch reaction {
        case .welcome(let version, let clientName):
            if let error = warrant?.establish() { return fail(error) }
            logger.debug(
                "connection opened",
                metadata: [
                    "peer": "\(peerName)", "client": "\(PrintableText.escape(clientName))",
                    "identity": "\(PrintableText.escape(principal.identity))",
                ])
            write(
                ServerFrame(
                    .connection,
                    .welcome(
                        Welcome(
                            protocolVersion: version, serverVersion: service.serverVersion, scope: principal.tenants,
                            identity: principal.identity, limits: limits, serverTime: service.clock()))))
        case .start(let id, let request, let timeoutMillis, let creditBytes):
            calls?.start(id.rawValue, request, timeoutMillis: timeoutMillis, creditBytes: creditBytes)
        case .refuse(let id, let error):
            service.callRefused()
            write(ServerFrame(id, .status(error)))
        case .credit(let id, let bytes): calls?.addCredit(id.rawValue, bytes: bytes)
        case .reply(let id, let replies): calls?.take(replies, of: id.rawValue)
        case .cancel(let id): calls?.cancel(id.rawValue)
        case .end(let id, let error): calls?.refuseReplies(error, of: id.rawValue)
        case .pong(let token): write(ServerFrame(.connection, .pong(token)))
        case .ignore: break
        case .fail(let error): fail(error)
        }
    }

    // MARK: Calls

    /// Whether the socket takes bytes, and what it owes is within its account.
    public var isWritable: Bool {
        channelContext?.channel.isWritable == true && outbound?.isOverdrawn != true
    }

    /// Sends a message of an open call.
    public func send(_ message: CallMessage, of call: CallKey, isLast: Bool) {
        session?.sent(message)
        write(ServerFrame(CallID(call), message))
        if isLast { finish(call) }
    }

    /// Ends an open call with a status.
    public func end(_ call: CallKey, _ error: MartletError?) {
        write(ServerFrame(CallID(call), .status(error)))
        finish(call)
    }

    private func finish(_ call: CallKey) {
        switch session?.finish(CallID(call)) ?? .none {
        case .none, .goAway: break
        case .goAwayAndClose, .close: closeAfterFlush()
        }
    }

    // MARK: The end

    /// Ends subscriptions, lets other calls finish, takes no new ones; closes when nothing is open.
    public func drain() {
        let reaction = session?.drain() ?? .none
        switch reaction {
        case .none, .close: if session == nil { closeAfterFlush() }
        case .goAway(let last): write(ServerFrame(.connection, .goAway(lastCallID: last, message: Self.drainMessage)))
        case .goAwayAndClose(let last):
            write(ServerFrame(.connection, .goAway(lastCallID: last, message: Self.drainMessage)))
            closeAfterFlush()
        }
        calls?.drain(Self.drainMessage)
    }

    /// Ends the connection unless the server still trusts what it was let in by.
    public func recheck() { if let error = warrant?.recheck() { fail(error) } }

    private static let drainMessage = "the server is shutting down: subscribe again elsewhere, or when it is back"

    /// Says why, then closes.
    private func fail(_ error: MartletError) {
        guard !isClosing else { return }
        logger.info(
            "closing a connection",
            metadata: [
                "peer": "\(peerName)", "reason": "\(error.reason)", "why": "\(PrintableText.escape("\(error)"))",
            ])
        write(ServerFrame(.connection, .status(error)))
        closeAfterFlush()
    }

    private func closeAfterFlush() {
        guard !isClosing else { return }
        flush()
        isClosing = true
        channelContext?.close(promise: nil)
    }

    /// Closes at once: without waiting for calls, nor for the peer to take or answer anything.
    public func abort() {
        isClosing = true
        guard let context = channelContext else { return }
        // Past TLS, which would say goodbye first and wait for the answer.
        let tls = try? context.pipeline.syncOperations.context(handlerType: TLSHandler.self)
        (tls ?? context).close(promise: nil)
    }

    private func tearDown() {
        isClosing = true
        tickTask?.cancel()
        tickTask = nil
        socketCheck?.cancel()
        _ = session?.close()
        calls?.close()
        calls = nil
        inbound?.close()
        outbound?.close()
        service.connectionClosed(self)
    }

    // MARK: Writing

    /// From this length on, the entries of a frame cost more to copy than a write of their own does.
    private static let detachedBytesMin = 64 << 10

    /// Adds a frame to what the next flush sends; everything of one turn of the event loop goes out at once.
    private func write(_ frame: ServerFrame) {
        guard let context = channelContext, !isClosing else { return }
        if unsent.capacity == 0 { unsent = context.channel.allocator.buffer(capacity: 4096) }
        if let entries = ServerFrameCodec.encode(frame, to: &unsent, detachedBytesMin: Self.detachedBytesMin) {
            context.write(wrapOutboundOut(unsent), promise: nil)
            unsent = entries
            return flush()
        }
        // A large answer is not gathered with others: the channel must know of it to apply back-pressure.
        if unsent.readableBytes >= 64 << 10 { return flush() }
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        if let calls { calls.flushLater() } else { service.flushLater(self, on: eventLoop) }
    }

    /// Sends what was written.
    public func flush() {
        isFlushScheduled = false
        guard unsent.readableBytes > 0, let context = channelContext else { return }
        let bytes = unsent
        unsent = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
        chargeSocket()
    }

    /// Brings the account of what the socket owes up to date, now and for as long as it owes something.
    private func chargeSocket() {
        guard let channel = channelContext?.channel else { return }
        let owed = (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
        let hasChanged = outbound?.update(owedBytes: owed) ?? false
        if let outbound, outbound.chargedBytes > 0, socketCheck == nil {
            socketCheck = eventLoop.scheduleTask(in: Self.recheckTime) { [bound] in
                bound.value.socketCheck = nil
                bound.value.chargeSocket()
            }
        }
        if hasChanged { updateWritability() }
    }

    /// Calls go on or pause, and frames are read or not.
    private func updateWritability() {
        let takesBytes = channelContext?.channel.isWritable == true
        stalledSince = takesBytes ? nil : stalledSince ?? eventLoop.now
        updateReading()
        calls?.pump()
    }
}
