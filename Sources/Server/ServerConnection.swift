import MartletTenants
import Logging
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletStorage
import MartletTLSOpenSSL
import NIOCore

/// One connection: bytes become frames, the session says what they mean, calls are carried out, and their
/// answers are written. Bound to its channel's event loop, which never waits for storage.
///
/// What a peer can make the server hold is bounded: one frame and one read inbound, the credit of
/// its streams and one answer a call outbound. While the socket takes no bytes nothing more is read
/// from it, and when that lasts the connection is closed.
final class ServerConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let shared: ServerShared
    private let requiresClientCertificate: Bool
    private var decoder: FrameDecoder
    private var session: ServerSession?
    private var calls: [CallID: OpenCall] = [:]
    private var identity = ""
    /// Its place in the server's books; set before anything else happens.
    var number: ConnectionAdmission.Number?
    private var trust: ConnectionTrust?
    private var channelContext: ChannelHandlerContext?
    private var isClosing = false
    private var isFlushScheduled = false
    private var stalledSince: NIODeadline?
    private var tickTask: RepeatedTask?
    private var deadlines = CallDeadlines()
    private var unsent = ByteBuffer()
    private let eventLoop: any EventLoop
    private let mailbox: LoopMailbox
    private var bound: NIOLoopBound<ServerConnection> { NIOLoopBound(self, eventLoop: eventLoop) }

    /// A connection of the event loop that this is called on.
    init(shared: ServerShared, eventLoop: any EventLoop, requiresClientCertificate: Bool) {
        self.shared = shared
        self.eventLoop = eventLoop
        mailbox = shared.mailbox(of: eventLoop)
        self.requiresClientCertificate = requiresClientCertificate
        decoder = FrameDecoder(limits: shared.limits)
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) { channelContext = context }

    func handlerRemoved(context: ChannelHandlerContext) { channelContext = nil }

    func channelInactive(context: ChannelHandlerContext) {
        tearDown()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted(let peer, _, _)? = event as? TLSEvent { open(peer, context: context) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        decoder.feed(unwrapInboundIn(data))
        decodeFrames()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        flush()
        context.fireChannelReadComplete()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        let isWritable = context.channel.isWritable
        stalledSince = isWritable ? nil : eventLoop.now
        context.channel.setOption(.autoRead, value: isWritable).whenFailure { _ in }
        for call in calls.values { call.pump(isWritable: isWritable) }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        shared.logger.debug(
            "connection failed", metadata: ["peer": "\(peerName)", "error": "\(PrintableText.escape("\(error)"))"])
        context.close(promise: nil)
    }

    private var peerName: String { channelContext?.remoteAddress.map { "\($0)" } ?? "unknown" }

    private func open(_ peer: PeerIdentity?, context: ChannelHandlerContext) {
        identity = peer?.subject ?? ""
        let scope = ConnectionIdentity.scope(of: peer, isRequired: requiresClientCertificate)
        switch scope {
        case .failure(let error): fail(error)
        case .success(let scope):
            trust = ConnectionTrust(context.pipeline)
            guard recheckTrust() else { return }
            guard !shared.door.established.isFull else { return fail(tooManyConnections) }
            session = ServerSession(limits: shared.limits, scope: scope, now: eventLoop.now)
            self.scope = scope
            startTicking()
            if shared.counters.isDraining { drain() }
        }
    }

    /// Ends the connection unless the server still trusts what it was let in by.
    @discardableResult
    func recheckTrust() -> Bool {
        guard let error = trust?.recheck(under: shared.tls, now: shared.clock()) else { return true }
        fail(error)
        return false
    }

    private var tooManyConnections: MartletError {
        MartletError(
            .resourceExhausted, reason: .tooManyConnections,
            message: "connections_max is \(shared.limits.connectionsMax): close some, or connect later",
            isRetryable: true,
            limit: .init(
                name: "connections_max", limit: UInt64(shared.limits.connectionsMax),
                actual: UInt64(shared.door.established.count + 1)))
    }

    private var scope = TenantScope.only([])

    private func startTicking() {
        let millis = max(10, min(shared.limits.keepaliveMillis, shared.limits.handshakeMillis) / 4)
        let bound = bound
        tickTask = eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(Int64(millis)), delay: .milliseconds(Int64(millis))
        ) { _ in bound.value.tick() }
    }

    private func tick() {
        let now = eventLoop.now
        if let stalledSince, now - stalledSince >= .milliseconds(Int64(shared.limits.writeStallMillis)) {
            shared.logger.info("connection takes no bytes, closing it", metadata: ["peer": "\(peerName)"])
            abort()
            return
        }
        if let error = trust?.fault(now: shared.clock()) { return fail(error) }
        switch session?.tick(now: now) ?? .none {
        case .none: break
        case .ping(let token): write(ServerFrame(.connection, .ping(token)))
        case .fail(let error): fail(error)
        }
    }

    // MARK: Frames

    private func decodeFrames() {
        while !isClosing {
            do throws(MartletError) {
                guard let message = try decoder.next() else { return }
                let frame = try ClientFrameCodec.decode(message, limits: shared.limits)
                guard let reaction = session?.receive(frame, now: eventLoop.now) else { return }
                react(reaction)
            } catch {
                guard let reaction = session?.receiveFault(error) else { return fail(error) }
                react(reaction)
            }
        }
    }

    private func react(_ reaction: ServerSession.Reaction) {
        switch reaction {
        case .welcome(let version, let clientName):
            guard let number, shared.door.establish(number) else { return fail(tooManyConnections) }
            shared.logger.debug(
                "connection opened",
                metadata: [
                    "peer": "\(peerName)", "client": "\(PrintableText.escape(clientName))",
                    "identity": "\(PrintableText.escape(identity))",
                ])
            write(
                ServerFrame(
                    .connection,
                    .welcome(
                        Welcome(
                            protocolVersion: version, serverVersion: shared.serverVersion, scope: scope,
                            identity: identity, limits: shared.limits, serverTime: shared.clock()))))
        case .start(let id, let request, let timeoutMillis, let creditBytes):
            start(id, request, timeoutMillis: timeoutMillis, creditBytes: creditBytes)
        case .refuse(let id, let error):
            shared.counters.callFailed()
            write(ServerFrame(id, .status(error)))
        case .credit(let id, let bytes): calls[id]?.add(credit: bytes)
        case .cancel(let id):
            end(
                id,
                MartletError(
                    .cancelled, reason: .cancelled,
                    message: "the call was cancelled; an append may have been stored all the same"))
        case .pong(let token): write(ServerFrame(.connection, .pong(token)))
        case .ignore: break
        case .fail(let error): fail(error)
        }
    }

    // MARK: Calls

    private func start(_ id: CallID, _ request: CallRequest, timeoutMillis: UInt32, creditBytes: UInt64) {
        shared.counters.callStarted()
        var deadline = NIODeadline.distantFuture
        if timeoutMillis > 0 {
            deadline = eventLoop.now + .milliseconds(Int64(timeoutMillis))
            watch(deadline)
        }
        if case .append(let append) = request, start(id, append, OpenCall(deadline, timeoutMillis)) { return }
        let context = makeContext(id)
        let work = CallWork(request, creditBytes: creditBytes, context: context, shared: shared) {
            [weak self] body in self?.answer(id, body)
        }
        calls[id] = OpenCall(deadline, timeoutMillis, work: work)
        work.start()
    }

    /// Appends at once where nothing is to be looked up before; false where something is.
    private func start(_ id: CallID, _ request: AppendRequest, _ call: OpenCall) -> Bool {
        let known = shared.settings.known(request.tenant, now: eventLoop.now)
        guard let known, !(known.isOld && shared.store.isShared) else { return false }
        calls[id] = call
        let summary = LoopMailbox.AppendSummary(tenant: request.tenant, eventCount: request.eventCount)
        shared.store.append(request.under(known.settings.policies)) { [mailbox, bound] result in
            mailbox.deliver(.init(connection: bound, call: id, request: summary, result: result))
        }
        return true
    }

    /// An append was decided.
    func finish(_ append: LoopMailbox.Answer) {
        switch append.result {
        case .success(let receipt):
            if !receipt.replayed { shared.counters.append(append.request.eventCount) }
            answer(append.call, .append(receipt))
        case .failure(let error):
            let call = append.call
            TenantCalls(shared, makeContext(call)) { [weak self] in self?.answer(call, $0) }
                .refuse(append.request.tenant, error)
        }
    }

    private func watch(_ deadline: NIODeadline) {
        let bound = bound
        deadlines.add(deadline, on: eventLoop) { bound.value.endOverdue() }
    }

    private func endOverdue() {
        deadlines.due()
        let now = eventLoop.now
        for (id, call) in calls where call.deadline <= now {
            end(
                id,
                MartletError(
                    .deadlineExceeded, reason: .deadlineExceeded,
                    message: "the call was not done within its \(call.timeoutMillis) ms; "
                        + "an append may have been stored: retry it with the same event ids",
                    isRetryable: true))
        }
        if let next = calls.values.map(\.deadline).min(), next < .distantFuture { watch(next) }
    }

    private func makeContext(_ id: CallID) -> CallContext {
        CallContext(
            limits: shared.limits,
            isWritable: { [weak self] in self?.channelContext?.channel.isWritable ?? false },
            send: { [weak self] body in self?.send(id, body) },
            end: { [weak self] error in self?.end(id, error) },
            delivered: { [counters = shared.counters] in counters.deliver($0) },
            skippedSnapshots: { [counters = shared.counters] in counters.skipSnapshots($0) },
            failedUpcasts: { [counters = shared.counters] in counters.failUpcasts($0) },
            store: shared.store, eventLoop: eventLoop)
    }

    /// Sends the one answer of a unary call.
    private func answer(_ id: CallID, _ body: CallMessage) {
        send(id, body)
        close(id)
    }

    private func send(_ id: CallID, _ body: CallMessage) {
        guard calls[id] != nil else { return }
        session?.sent(body)
        write(ServerFrame(id, body))
    }

    /// Ends an open call with a status.
    private func end(_ id: CallID, _ error: MartletError?) {
        guard calls[id] != nil else { return }
        if error != nil { shared.counters.callFailed() }
        write(ServerFrame(id, .status(error)))
        close(id)
    }

    /// Takes a call that was answered off the books.
    private func close(_ id: CallID) {
        guard let call = calls.removeValue(forKey: id) else { return }
        call.cancel()
        switch session?.finish(id) ?? .none {
        case .none, .goAway: break
        case .goAwayAndClose, .close: closeAfterFlush()
        }
    }

    // MARK: The end

    /// Ends subscriptions, lets other calls finish, takes no new ones; closes when nothing is open.
    func drain() {
        let reaction = session?.drain() ?? .none
        switch reaction {
        case .none, .close: if session == nil { closeAfterFlush() }
        case .goAway(let last): write(ServerFrame(.connection, .goAway(lastCallID: last, message: Self.drainMessage)))
        case .goAwayAndClose(let last):
            write(ServerFrame(.connection, .goAway(lastCallID: last, message: Self.drainMessage)))
            closeAfterFlush()
        }
        for (id, call) in calls where call.isSubscription {
            end(
                id,
                MartletError(.unavailable, reason: .draining, message: Self.drainMessage, isRetryable: true))
        }
    }

    private static let drainMessage = "the server is shutting down: subscribe again elsewhere, or when it is back"

    /// Says why, then closes.
    private func fail(_ error: MartletError) {
        guard !isClosing else { return }
        shared.logger.info(
            "closing a connection",
            metadata: [
                "peer": "\(peerName)", "reason": "\(error.reason)", "why": "\(PrintableText.escape("\(error)"))",
            ])
        write(ServerFrame(.connection, .status(error)))
        closeAfterFlush()
    }

    private func closeAfterFlush() {
        guard !isClosing else { return }
        isClosing = true
        flush()
        channelContext?.close(promise: nil)
    }

    /// Closes at once: without waiting for calls, nor for the peer to take or answer anything.
    func abort() {
        isClosing = true
        guard let context = channelContext else { return }
        let tls = try? context.pipeline.syncOperations.context(handlerType: TLSHandler.self)
        (tls ?? context).close(promise: nil)
    }

    private func tearDown() {
        isClosing = true
        tickTask?.cancel()
        tickTask = nil
        deadlines.cancel()
        _ = session?.close()
        for call in calls.values { call.cancel() }
        calls = [:]
        shared.connectionClosed(self)
    }

    // MARK: Writing

    /// Adds a frame to what the next flush sends; everything of one turn of the event loop goes out at once.
    private func write(_ frame: ServerFrame) {
        guard let context = channelContext, !isClosing else { return }
        if unsent.capacity == 0 { unsent = context.channel.allocator.buffer(capacity: 4096) }
        ServerFrameCodec.encode(frame, to: &unsent)
        // A large answer is not gathered with others: the channel must know of it to apply back-pressure.
        if unsent.readableBytes >= 64 << 10 { return flush() }
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        mailbox.flushLater(self)
    }

    /// Sends what was written.
    func flush() {
        isFlushScheduled = false
        guard unsent.readableBytes > 0, let context = channelContext else { return }
        let bytes = unsent
        unsent = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    }
}
