import MartletModel
import MartletService
import MartletSession
public import NIOCore

/// Stands before ``HTTP2Connection``: cuts what comes into frames, and hands on those that are paid for.
///
/// Frames that carry nothing are paid for from the connection's budget before anybody works for them. A client that has spent
/// it is told so, and nothing more is read. A turn of the event loop takes in a bounded number of frames of a connection:
/// while some wait, nothing more is read from its socket.
final class HTTP2FrameGuard: ChannelInboundHandler, ChannelOutboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    private typealias Head = HTTP2FrameCutter.Head
    private typealias FrameType = HTTP2FrameCutter.FrameType
    private typealias Flag = HTTP2FrameCutter.Flag

    /// How many frames one turn takes in at most.
    static let framesPerTurn = 1_024
    /// A frame with fields counts as this many of a turn's, besides what ``HTTP2Windows/decodedBytesOfFrame`` says.
    private static let fieldsWeight = 8
    /// Settings in one frame; HTTP/2 and its extensions know 8.
    static let settingsMax = 32
    /// One setting counts as this many frames, because it may change the windows of all streams.
    static let settingCost = 16

    private let connection: HTTP2Connection
    private var cutter = HTTP2FrameCutter()
    private var framesLeft = framesPerTurn
    /// Frames wait for the next turn.
    private var isPausing = false
    private var isReadOwed = false
    private var channelContext: ChannelHandlerContext?
    /// A block of fields that has begun and not ended, with the frames and bytes that have come of it.
    private var block: (frames: Int, bytes: Int)?

    init(_ connection: HTTP2Connection) { self.connection = connection }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !connection.isClosing else { return cutter.drop() }
        cutter.feed(unwrapInboundIn(data))
        if !isPausing { handOn(context) }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if !isPausing { framesLeft = Self.framesPerTurn }
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        if isPausing { isReadOwed = true } else { context.read() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        cutter.drop()
        context.fireChannelInactive()
    }

    func handlerAdded(context: ChannelHandlerContext) { channelContext = context }

    func handlerRemoved(context: ChannelHandlerContext) { channelContext = nil }

    private func handOn(_ context: ChannelHandlerContext) {
        while !connection.isClosing {
            if let content = cutter.nextContent() {
                connection.takeIn(content: content)
            } else if let head = cutter.nextHead {
                guard framesLeft > 0 else {
                    isPausing = true
                    return connection.service.frameTurns(of: context.eventLoop).await { self.takeTurn() }
                }
                take(head)
            } else {
                return cutter.keepRest()
            }
            framesLeft -= connection.turnWeight
            connection.turnWeight = 0
        }
        cutter.drop()
    }

    private func take(_ head: Head) {
        framesLeft -= 1
        let content = cutter.take(head)
        guard let (code, error) = fault(of: head) else { return connection.takeIn(head, content) }
        connection.fail(code, error)
    }

    /// Goes on with the frames that wait, and reads when none are left.
    private func takeTurn() {
        isPausing = false
        framesLeft = Self.framesPerTurn
        guard let context = channelContext else { return cutter.drop() }
        if connection.isClosing {
            cutter.drop()
        } else {
            handOn(context)
            context.fireChannelReadComplete()
        }
        guard !isPausing, isReadOwed else { return }
        isReadOwed = false
        framesLeft = Self.framesPerTurn
        context.read()
    }

    // MARK: Frames

    /// Why nothing more is read from the connection, if its frame is not to be looked at.
    private func fault(of head: Head) -> (code: HTTP2ErrorCode, error: MartletError)? {
        switch head.type {
        // Whatever is refused for its length, or stands inside a block of fields, ends the connection.
        case _ where head.length > HTTP2FrameCutter.contentBytesMax: return nil
        case FrameType.continuation: return fault(ofContinuation: head)
        case _ where block != nil: return nil
        case FrameType.headers:
            framesLeft -= Self.fieldsWeight - 1
            if !head.has(Flag.endHeaders) { block = (0, head.length) }
            return nil
        case FrameType.data: return connection.awaitsData(of: head.stream) ? nil : calm(connection.pay(1))
        case FrameType.settings where !head.has(Flag.acknowledges): return fault(ofSettings: head)
        case FrameType.settings where connection.reading.settingsAwaited > 0: return nil
        default: return calm(connection.pay(1))
        }
    }

    private func calm(_ error: MartletError?) -> (code: HTTP2ErrorCode, error: MartletError)? {
        error.map { (.enhanceYourCalm, $0) }
    }

    private func fault(ofContinuation head: Head) -> (code: HTTP2ErrorCode, error: MartletError)? {
        framesLeft -= Self.fieldsWeight - 1
        guard let (frames, bytes) = block else { return nil }
        block = head.has(Flag.endHeaders) ? nil : (frames + 1, bytes + head.length)
        if frames >= HTTP2Windows.continuationFramesMax { return (.enhanceYourCalm, .tooManyContinuations) }
        return bytes + head.length > HTTP2Windows.headerListBytes ? (.enhanceYourCalm, .fieldsTooLong) : nil
    }

    private func fault(ofSettings head: Head) -> (code: HTTP2ErrorCode, error: MartletError)? {
        let count = head.length / 6
        guard count <= Self.settingsMax else { return (.enhanceYourCalm, .tooManySettings(count)) }
        let cost = Self.settingCost * max(1, count)
        framesLeft -= cost
        return calm(connection.pay(cost))
    }
}

extension HTTP2Connection {
    /// A stream that is at fault counts as this many frames: a correct client has none.
    static let faultCost = 10

    /// The handler that is to stand before the one of frames.
    public func makeFrameGuard() -> any ChannelHandler { HTTP2FrameGuard(self) }

    /// Takes frames that open no call and carry nothing off the budget.
    /// - Returns: that there are not that many left.
    func pay(_ count: Int) -> MartletError? {
        let now = eventLoop.now
        guard !(0..<count).allSatisfy({ _ in control.spend(now: now) }) else { return nil }
        return MartletError(
            .resourceExhausted, reason: .tooManyControlFrames,
            message: "too_many_pings: control_frames_per_second_max is \(limits.controlFramesPerSecondMax), with "
                + "at most control_frames_max, \(limits.controlFramesMax), at once: send fewer pings, resets and "
                + "window updates")
    }

    /// Takes them off, and ends the connection where there are not that many left.
    func spend(_ count: Int = 1) { if let error = pay(count) { fail(.enhanceYourCalm, error) } }

    /// A stream is being reset because the peer broke the rules, or had too many.
    func foundFault(_ code: HTTP2ErrorCode) {
        let isFirst = faultCount == 0
        faultCount += code == .refusedStream ? 1 : Self.faultCost
        guard isFirst else { return }
        eventLoop.execute { [bound] in
            let connection = bound.value
            let count = connection.faultCount
            connection.faultCount = 0
            connection.spend(count)
        }
    }
}

extension MartletError {
    fileprivate static let tooManyContinuations = MartletError(
        .resourceExhausted, reason: .frameTooLarge,
        message: "a request has more than \(HTTP2Windows.continuationFramesMax) CONTINUATION frames: "
            + "send fewer and longer ones")
    fileprivate static let fieldsTooLong = MartletError(
        .resourceExhausted, reason: .frameTooLarge,
        message: "SETTINGS_MAX_HEADER_LIST_SIZE is \(HTTP2Windows.headerListBytes), but the fields of a request "
            + "are longer: send fewer")
    fileprivate static func tooManySettings(_ count: Int) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .tooManyControlFrames,
            message: "a SETTINGS frame has \(count) settings: send at most \(HTTP2FrameGuard.settingsMax)")
    }
}
