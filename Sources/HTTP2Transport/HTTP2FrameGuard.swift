import MartletModel
import MartletSession
public import NIOCore
import NIOHTTP2

/// Stands before `NIOHTTP2Handler`, and sees of each frame the head.
///
/// Frames that carry nothing are paid for from the connection's budget before anybody works for them; who has spent it is
/// told so, and nothing more is read. A turn of the event loop takes in a bounded number of frames of a connection: while
/// some wait, nothing more is read from its socket.
final class HTTP2FrameGuard: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Frames that one turn takes in.
    static let framesPerTurn = 1_024
    /// Settings in one frame; HTTP/2 and its extensions know 8.
    static let settingsMax = 32
    /// For so many other frames one setting counts: it may change the windows of all streams.
    static let settingCost = 16
    /// Others have their turn for so long.
    private static let pauseTime = TimeAmount.microseconds(50)

    private let connection: HTTP2Connection
    private var cutter = HTTP2FrameCutter()
    private var framesLeft = framesPerTurn
    /// Frames wait for the next turn.
    private var isPausing = false
    private var isReadOwed = false
    private var pause: Scheduled<Void>?

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
        pause?.cancel()
        cutter.drop()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { pause?.cancel() }

    private func handOn(_ context: ChannelHandlerContext) {
        var refusal: MartletError?
        let piece = cutter.next(framesMax: framesLeft) { head in
            framesLeft -= 1
            refusal = connection.refusal(of: head)
            return refusal == nil
        }
        if let refusal { return connection.fail(.enhanceYourCalm, refusal) }
        // Cut short or not, that may end the connection.
        isPausing = cutter.isCutShort
        if let piece { context.fireChannelRead(wrapInboundOut(piece)) }
        guard isPausing else { return }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        // A task that is due at once would run before anything is read of other connections.
        pause = context.eventLoop.scheduleTask(in: Self.pauseTime) {
            let (handler, context) = bound.value
            handler.goOn(context)
        }
    }

    private func goOn(_ context: ChannelHandlerContext) {
        isPausing = false
        framesLeft = Self.framesPerTurn
        guard !connection.isClosing else { return cutter.drop() }
        handOn(context)
        context.fireChannelReadComplete()
        guard !isPausing, isReadOwed else { return }
        isReadOwed = false
        framesLeft = Self.framesPerTurn
        context.read()
    }
}

extension HTTP2Connection {
    /// Frames for which one stands that is at fault: no client that works sends such.
    static let faultCost = 10

    /// The handler that is to stand before the one of frames.
    public func makeFrameGuard() -> any ChannelHandler { HTTP2FrameGuard(self) }

    /// Why a frame is not looked at.
    fileprivate func refusal(of head: HTTP2FrameCutter.Head) -> MartletError? {
        switch head.type {
        case HTTP2FrameCutter.FrameType.data, HTTP2FrameCutter.FrameType.headers,
            HTTP2FrameCutter.FrameType.continuation:
            return nil
        // Refused for that.
        case _ where head.length > HTTP2FrameCutter.contentBytesMax: return nil
        case HTTP2FrameCutter.FrameType.settings where head.flags & HTTP2FrameCutter.acknowledges == 0:
            let count = head.length / 6
            guard count <= HTTP2FrameGuard.settingsMax else {
                return MartletError(
                    .resourceExhausted, reason: .tooManyControlFrames,
                    message: "a SETTINGS frame has \(count) settings: send at most \(HTTP2FrameGuard.settingsMax)")
            }
            return pay(HTTP2FrameGuard.settingCost * max(1, count))
        default: return pay(1)
        }
    }

    /// Takes so many frames that open no call and carry nothing off the budget.
    /// - Returns: that there are not so many left.
    func pay(_ count: Int) -> MartletError? {
        let now = eventLoop.now
        guard !(0..<count).allSatisfy({ _ in control.spend(now: now) }) else { return nil }
        return MartletError(
            .resourceExhausted, reason: .tooManyControlFrames,
            message: "too_many_pings: control_frames_per_second_max is \(limits.controlFramesPerSecondMax), with "
                + "at most control_frames_max, \(limits.controlFramesMax), at once: send fewer pings, resets and "
                + "window updates")
    }

    /// Takes them off, and ends the connection where there are not so many left.
    func spend(_ count: Int = 1) { if let error = pay(count) { fail(.enhanceYourCalm, error) } }

    /// A stream was reset because the peer broke the rules. Called while that is written.
    func foundFault() {
        faultCount += 1
        guard faultCount == 1 else { return }
        eventLoop.execute { [bound] in
            let connection = bound.value
            let count = connection.faultCount
            connection.faultCount = 0
            connection.spend(count * Self.faultCost)
        }
    }
}
