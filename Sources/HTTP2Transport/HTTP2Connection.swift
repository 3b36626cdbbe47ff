import Logging
public import MartletAccess
import MartletFrameCodec
public import MartletModel
public import MartletService
import MartletSession
import MartletTLSOpenSSL
import MartletTenants
public import NIOCore

/// One connection of HTTP/2: its streams are calls over gRPC. Stands behind ``makeFrameGuard()``, and has no channel for each
/// stream. Bound to its channel's event loop.
///
/// What a peer can make the server hold is bounded. Of what comes in, the window of the connection bounds what waits to be
/// a whole message, and messages longer than ``Limits/inboundFreeBytes`` are on the account of its tenants before more of
/// them is let in. Of what goes out, a call is asked for more only while its stream and the connection have window for it;
/// what waits nevertheless is on the account too.
public final class HTTP2Connection: ChannelInboundHandler, AdmittedConnection {
    /// Nothing: what comes in comes from the guard.
    public typealias InboundIn = Never
    /// Frames.
    public typealias OutboundOut = ByteBuffer

    let service: EventService
    let limits: Limits
    let eventLoop: any EventLoop
    let services: GRPCServices
    var channelContext: ChannelHandlerContext?
    private var channelOptions: (any NIOSynchronousChannelOptions)?
    /// Those that are open on either side, or whose answers wait, by their numbers.
    var streams: [UInt64: HTTP2Stream] = [:]
    private(set) var martletCalls: MartletCalls?
    var principal = Principal(identity: "", tenants: .only([]))
    private var warrant: (any ConnectionWarrant)?
    /// Why its calls are not carried out.
    private var refusal: MartletError?
    /// The client's SETTINGS have come.
    private(set) var isEstablished = false
    private let openedAt: NIODeadline

    // What comes in.
    var reading = HTTP2ReadState()
    /// The newest stream that the client has begun.
    var lastStream: UInt32 = 0
    /// What the peer may still send on all streams together.
    var receiveWindow = HTTP2Windows.initial
    /// What is held of messages that are not whole and on no account.
    var heldBytes = 0
    var holder: FairPool.Holder?
    var control: ControlFrameBudget
    /// What streams that were reset cost, for the peer broke the rules or had too many, and what is not off ``control`` yet.
    var faultCount = 0
    var pastStreams = PastStreams()
    /// What the frame that was taken in has cost beyond itself, in frames of the turn.
    var turnWeight = 0
    /// Bytes of DATA for which crumbs are free.
    var crumbBytes = 0
    var openCalls: OpenCallsAccount?
    private var lastHeard: NIODeadline
    private var pingSent: NIODeadline?

    // What goes out.
    /// Frames that the next flush sends.
    var output = ByteBuffer()
    /// ``output`` was handed to TLS, and is not to be sent again.
    var isOutputHandedOn = false
    var encoder = HeaderBlockEncoder()
    /// What the peer takes on all streams together.
    var sendWindow = HTTP2Windows.initial
    /// What a stream's window is in the beginning, as the peer has set it.
    var initialSendWindow = HTTP2Windows.initial
    /// Bytes of all streams that wait for the peer's windows.
    var waitingBytes = 0
    /// Streams that have some, and windows of their own for them.
    var queued: CircularBuffer<HTTP2Stream> = []
    var blocked: [UInt64: GRPCCall] = [:]
    var isPumpScheduled = false
    var outbound: OutboundAccount?
    var isFlushScheduled = false
    private var stalledSince: NIODeadline?
    private var socketCheck: Scheduled<Void>?

    // Its end.
    /// Goes away for good when the last call has ended.
    enum Farewell {
        case none
        /// No more calls were asked for; some may be on their way.
        case announced
        /// Later calls are not looked at.
        case final
    }

    var farewell = Farewell.none
    var isClosing = false
    private var tickTask: RepeatedTask?
    private var deadlineTimer: (task: Scheduled<Void>, deadline: NIODeadline)?
    var bound: NIOLoopBound<HTTP2Connection> { NIOLoopBound(self, eventLoop: eventLoop) }

    /// A connection of the event loop that this is called on.
    public init(service: EventService, services: GRPCServices, eventLoop: any EventLoop) {
        self.service = service
        self.services = services
        self.eventLoop = eventLoop
        limits = service.limits
        lastHeard = eventLoop.now
        openedAt = eventLoop.now
        control = ControlFrameBudget(service.limits, now: eventLoop.now)
    }

    var peerName: String { channelContext?.remoteAddress.map { "\($0)" } ?? "unknown" }

    // MARK: The channel

    /// Joins the channel.
    public func handlerAdded(context: ChannelHandlerContext) {
        channelContext = context
        channelOptions = context.channel.syncOptions
    }

    /// Leaves the channel.
    public func handlerRemoved(context: ChannelHandlerContext) {
        channelContext = nil
        channelOptions = nil
    }

    /// Ends everything that the connection had open.
    public func channelInactive(context: ChannelHandlerContext) {
        tearDown()
        context.fireChannelInactive()
    }

    /// The peer is there.
    func heard() {
        lastHeard = eventLoop.now
        pingSent = nil
    }

    /// Sends what the frames of one read were answered with.
    public func channelReadComplete(context: ChannelHandlerContext) {
        flushIfWritten()
        context.fireChannelReadComplete()
    }

    /// Calls pause, or go on.
    public func channelWritabilityChanged(context: ChannelHandlerContext) {
        chargeSocket()
        updateWritability()
        context.fireChannelWritabilityChanged()
    }

    /// The transport has failed.
    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
        service.logger.debug(
            "HTTP/2 fault", metadata: ["peer": "\(peerName)", "error": "\(PrintableText.escape("\(error)"))"])
        context.close(promise: nil)
    }

    // MARK: Who calls

    /// The peer's identity is known: frames may come.
    public func open(_ principal: Principal, warrant: any ConnectionWarrant) {
        guard !isClosing else { return }
        self.principal = principal
        self.warrant = warrant
        let holder = principal.holder(of: self)
        self.holder = holder
        openCalls = OpenCallsAccount(pool: service.pools.calls, holder: holder, limits: limits)
        outbound = OutboundAccount(pool: service.pools.outbound, holder: holder, limits: limits)
        martletCalls = MartletCalls(self)
        begin()
        if service.isDraining { drain() }
    }

    /// The peer may not use the server: its calls are told why, and it has as long as for a handshake.
    public func refuse(_ error: MartletError) {
        refusal = error
        begin()
    }

    private func begin() {
        guard tickTask == nil else { return }
        let millis = max(10, min(limits.keepaliveMillis, limits.handshakeMillis) / 4)
        let bound = bound
        tickTask = eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(Int64(millis)), delay: .milliseconds(Int64(millis))
        ) { _ in bound.value.tick() }
        writeSettings()
        replenish()
        flushLater()
    }

    /// The peer has begun to speak HTTP/2.
    func establish() {
        guard !isEstablished else { return }
        isEstablished = true
        guard let error = warrant?.establish() else { return }
        refusal = error
    }

    /// Why a new call is not carried out, if it is not.
    var refusalOfCalls: MartletError? { refusal }

    private func tick() {
        let now = eventLoop.now
        if let stalledSince, now - stalledSince >= .milliseconds(Int64(limits.writeStallMillis)) {
            service.logger.info(
                "closing a stalled connection: its peer does not read", metadata: ["peer": "\(peerName)"])
            return abort()
        }
        if let error = warrant?.fault() { return fail(.noError, error) }
        for case let call as GRPCCall in streams.values {
            if let error = call.account?.fault(now: now) { end(call, error) }
        }
        let handshake = TimeAmount.milliseconds(Int64(limits.handshakeMillis))
        if !isEstablished || refusal != nil, now - openedAt >= handshake {
            return fail(.noError, refusal ?? .noPreface(millis: limits.handshakeMillis))
        }
        if limits.connectionAgeMillis > 0, now - openedAt >= connectionAgeMax { drain() }
        keepAlive(now)
    }

    /// A tenth more or less, so that connections that began together do not end together.
    private var connectionAgeMax: TimeAmount {
        let spread = Int64(openedAt.uptimeNanoseconds % 201) - 100
        return .milliseconds(Int64(limits.connectionAgeMillis) * (1_000 + spread) / 1_000)
    }

    private func keepAlive(_ now: NIODeadline) {
        let patience = TimeAmount.milliseconds(Int64(limits.keepaliveMillis))
        if let pingSent {
            guard now - pingSent >= patience else { return }
            service.logger.info(
                "closing a connection", metadata: ["peer": "\(peerName)", "why": "no answer to a ping"])
            abort()
        } else if now - lastHeard >= patience {
            pingSent = now
            writePing(0)
            flush()
        }
    }

    // MARK: Deadlines

    /// Sees to it that a call ends at its deadline.
    func watch(_ deadline: NIODeadline) {
        if let deadlineTimer, deadlineTimer.deadline <= deadline { return }
        deadlineTimer?.task.cancel()
        let bound = bound
        deadlineTimer = (eventLoop.scheduleTask(deadline: deadline) { bound.value.endOverdue() }, deadline)
    }

    private func endOverdue() {
        deadlineTimer = nil
        let now = eventLoop.now
        var next = NIODeadline.distantFuture
        for case let call as GRPCCall in streams.values where !call.isOver {
            guard let deadline = call.deadline else { continue }
            if deadline <= now {
                end(call, .deadlineExceeded(millis: call.timeoutMillis))
            } else {
                next = min(next, deadline)
            }
        }
        if next < .distantFuture { watch(next) }
    }

    // MARK: The end

    /// Ends the connection unless the server still trusts what it was let in by.
    public func recheck() { if let error = warrant?.recheck() { fail(.noError, error) } }

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
        deadlineTimer?.task.cancel()
        socketCheck?.cancel()
        let open = streams
        streams = [:]
        blocked = [:]
        queued = []
        reading.data = nil
        for stream in open.values { release(stream) }
        martletCalls?.close()
        martletCalls = nil
        outbound?.close()
        openCalls?.close()
        openCalls = nil
        service.connectionClosed(self)
    }

    /// Both ends are done with a stream, or one of them has reset it.
    func close(_ stream: HTTP2Stream) {
        guard streams.removeValue(forKey: stream.id) != nil else { return }
        blocked[stream.id] = nil
        release(stream)
        replenish()
        leaveIfDone()
    }

    private func release(_ stream: HTTP2Stream) {
        waitingBytes -= stream.waitingBytes
        stream.waitingBytes = 0
        stream.waiting = []
        guard let call = stream as? GRPCCall else { return }
        call.account?.close()
        call.account = nil
        openCalls?.give(call.stateBytes)
        call.reader.drop()
        count(call)
        if let handler = call.handler {
            call.handler = nil
            handler.ended(call)
        }
        call.connection = nil
    }

    // MARK: The socket

    /// The system tells nobody when it took some of what a socket owes; while it owes much, it is asked this often.
    private static let recheckTime = TimeAmount.milliseconds(20)

    /// Whether the socket takes bytes, and what is owed is within the connection's account.
    var takesBytes: Bool { channelContext?.channel.isWritable == true && outbound?.isOverdrawn != true }

    /// Brings the account of what is owed to the peer up to date, now and for as long as something is.
    func chargeSocket() {
        guard let channelOptions else { return }
        let owed = (try? channelOptions.getOption(.bufferedWritableBytes)) ?? 0
        let hasChanged = outbound?.update(owedBytes: owed + waitingBytes) ?? false
        if let outbound, outbound.chargedBytes > 0, socketCheck == nil {
            socketCheck = eventLoop.scheduleTask(in: Self.recheckTime) { [bound] in
                bound.value.socketCheck = nil
                bound.value.chargeSocket()
            }
        }
        if hasChanged { updateWritability() }
    }

    private func updateWritability() {
        let takesBytes = channelContext?.channel.isWritable == true
        stalledSince = takesBytes ? nil : stalledSince ?? eventLoop.now
        if self.takesBytes { pumpLater() }
    }
}

extension MartletError {
    fileprivate static func noPreface(millis: Int) -> MartletError {
        MartletError(
            .deadlineExceeded, reason: .helloExpected,
            message: "no HTTP/2 preface within \(millis) ms: send it as the first bytes")
    }
}
