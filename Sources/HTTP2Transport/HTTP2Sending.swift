import Logging
import MartletFrameCodec
import MartletModel
import MartletService
import NIOCore

// What goes out.

extension HTTP2Connection {
    /// Sends what was written in this turn, if anything was: a turn that only takes a request in costs no flush.
    func flushIfWritten() {
        if hasOutput || outbound?.chargedBytes != 0 { flush() }
    }

    /// Sends what was written, at the end of this turn of the event loop.
    func flushLater() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        if let martletCalls {
            martletCalls.flushLater()
        } else {
            eventLoop.execute { [bound] in bound.value.flush() }
        }
    }

    /// Sends what was written.
    func flush() {
        isFlushScheduled = false
        guard let context = channelContext else { return }
        handOnOutput()
        context.flush()
        chargeSocket()
    }

    // MARK: Answers

    /// The answer of a call begins.
    private func beginAnswer(_ call: GRPCCall) {
        guard call.answer == .nothing else { return }
        call.answer = .headers
        writeHeaders(of: call.number) { write in
            write(.status(200))
            write(.common(.grpcContent))
            if call.compresses { write(.common(.gzipEncoding)) }
            for field in call.metadataToSend { write(.literal(field.name, field.value)) }
        }
        call.metadataToSend = []
    }

    func send(_ message: BareMessages.Prefixed, of call: GRPCCall) {
        beginAnswer(call)
        send(message.head, of: call)
        if let entries = message.entries { send(entries, of: call) }
        flushLater()
    }

    /// Ends a call; its handler is not asked for anything any more.
    func end(_ call: GRPCCall, _ status: GRPCStatus) {
        blocked[call.id] = nil
        call.reader.drop()
        call.account?.close()
        call.account = nil
        count(call)
        if call.answer == .nothing, call.metadataToSend.isEmpty {
            writeHeaders(of: call.number, isEnd: true) { status.writeAnswer($0) }
            call.answer = .all
            outputClosed(call)
        } else {
            beginAnswer(call)
            call.answer = .all
            finish(call, .trailers(status))
        }
        flushLater()
    }

    /// Answers a request that opens no call.
    func endAtOnce(_ stream: UInt32, _ status: GRPCStatus, _ isInputClosed: Bool) {
        service.callRefused()
        writeHeaders(of: stream, isEnd: true) { status.writeAnswer($0) }
        if !isInputClosed { writeReset(stream, .noError) }
        flushLater()
    }

    func answer(_ request: PlainRequest) {
        request.isAnswered = true
        let body = request.body
        writeHeaders(of: request.number, isEnd: body == nil) { write in for field in request.fields { write(field) } }
        if let body { sendLast(body, of: request) } else { outputClosed(request) }
        flushLater()
    }

    // MARK: Room

    /// How many bytes the client takes of a call now, as one message: a power of two, so that those who read the same pages
    /// have them in common.
    func room(of call: GRPCCall) -> Int {
        let window = min(call.sendWindow - call.waitingBytes, sendWindow - waitingBytes)
        guard window > 0, takesBytes, !isClosing, !call.isOver else {
            call.isBlocked = true
            blocked[call.id] = call
            return 0
        }
        return max(HTTP2Windows.roomMin, 1 << (Int.bitWidth - 1 - window.leadingZeroBitCount))
    }

    /// Has those look again that were told that there is no room. In a task of its own: within a write, it would write.
    func pumpLater() {
        guard !isPumpScheduled, !blocked.isEmpty else { return }
        isPumpScheduled = true
        eventLoop.execute { [bound] in bound.value.pump() }
    }

    private func pump() {
        isPumpScheduled = false
        let waiting = blocked
        blocked = [:]
        for call in waiting.values {
            call.isBlocked = false
            call.handler?.pump(call)
        }
        flush()
    }

    // MARK: The end

    private static let drainMessage = "the server is shutting down: call again elsewhere, or when it is back"
    /// So long a client has to send the calls that it began before it knew.
    private static let farewellTime = TimeAmount.seconds(1)
    private static let farewellPing: UInt64 = 0x6D_61_72_74_6C_65_74

    /// Ends subscriptions, lets other calls finish, asks for no new ones; closes when nothing is open.
    public func drain() {
        guard farewell == .none, !isClosing else { return }
        farewell = .announced
        writeGoAway(HTTP2Windows.sizeMask, .noError, Self.drainMessage)
        // The answer to a ping comes after all calls that were begun before the client knew.
        writePing(Self.farewellPing)
        flush()
        for case let call as GRPCCall in streams.values { call.handler?.drain(call) }
        eventLoop.scheduleTask(in: Self.farewellTime) { [bound] in bound.value.leave() }
    }

    func pinged(_ data: UInt64) {
        if data == Self.farewellPing { leave() }
    }

    private func leave() {
        guard farewell == .announced, !isClosing else { return }
        farewell = .final
        writeGoAway(lastStream, .noError, Self.drainMessage)
        flush()
        leaveIfDone()
    }

    func leaveIfDone() {
        guard farewell == .final, streams.isEmpty else { return }
        closeAfterFlush()
    }

    /// Says why, then closes.
    func fail(_ code: HTTP2ErrorCode, _ error: MartletError) {
        guard !isClosing else { return }
        service.logger.info(
            "closing a connection",
            metadata: [
                "peer": "\(peerName)", "reason": "\(error.reason)", "why": "\(PrintableText.escape("\(error)"))",
            ])
        writeGoAway(lastStream, code, "\(error)")
        closeAfterFlush()
    }

    func closeAfterFlush() {
        guard !isClosing else { return }
        flush()
        isClosing = true
        channelContext?.close(promise: nil)
    }
}
