import Logging
import MartletFrameCodec
import MartletModel
import MartletService
import NIOCore
import NIOHPACK
public import NIOHTTP2

// What goes out.

extension HTTP2Connection {
    private static let answerHeaders: HPACKHeaders = [":status": "200", "content-type": "application/grpc"]
    private static let gzipHeaders: HPACKHeaders = [
        ":status": "200", "content-type": "application/grpc", "grpc-encoding": "gzip",
    ]

    func write(_ frame: HTTP2Frame) {
        guard let context = channelContext else { return }
        hasWritten = true
        context.write(wrapOutboundOut(frame), promise: nil)
    }

    /// Sends what was written in this turn, if anything was: a turn that only takes a request in costs no flush.
    func flushIfWritten() {
        if hasWritten || outbound?.chargedBytes != 0 { flush() }
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
        hasWritten = false
        guard let context = channelContext else { return }
        context.flush()
        if !streamsToReset.isEmpty {
            let streams = streamsToReset
            streamsToReset = []
            for stream in streams { write(HTTP2Frame(streamID: stream, payload: .rstStream(.noError))) }
            hasWritten = false
            context.flush()
        }
        chargeSocket()
    }

    // MARK: Answers

    /// The answer of a call begins.
    private func beginAnswer(_ call: GRPCCall) {
        guard call.answer == .nothing else { return }
        call.answer = .headers
        var headers = call.compresses ? Self.gzipHeaders : Self.answerHeaders
        for field in call.metadataToSend { headers.add(name: field.name, value: field.value, indexing: .nonIndexable) }
        call.metadataToSend = []
        write(HTTP2Frame(streamID: call.streamID, payload: .headers(.init(headers: headers))))
    }

    func send(_ message: BareMessages.Prefixed, of call: GRPCCall) {
        beginAnswer(call)
        send(message.head, of: call)
        if let entries = message.entries { send(entries, of: call) }
        flushLater()
    }

    private func send(_ bytes: ByteBuffer, of call: GRPCCall) {
        guard bytes.readableBytes > 0 else { return }
        call.pendingBytes += bytes.readableBytes
        pendingBytes += bytes.readableBytes
        write(HTTP2Frame(streamID: call.streamID, payload: .data(.init(data: .byteBuffer(bytes)))))
    }

    /// Ends a call; its handler is not asked for anything any more.
    func end(_ call: GRPCCall, _ status: GRPCStatus) {
        blocked[call.id] = nil
        let headers: HPACKHeaders
        if call.answer == .nothing, call.metadataToSend.isEmpty {
            headers = status.onlyHeaders
        } else {
            beginAnswer(call)
            headers = status.trailers
        }
        call.answer = .all
        call.reader.drop()
        call.account?.close()
        call.account = nil
        count(call)
        write(HTTP2Frame(streamID: call.streamID, payload: .headers(.init(headers: headers, endStream: true))))
        flushLater()
    }

    /// Answers a request that opens no call.
    func endAtOnce(_ streamID: HTTP2StreamID, _ status: GRPCStatus, _ isInputClosed: Bool) {
        service.callRefused()
        answer(streamID, HTTPAnswer(headers: status.onlyHeaders, body: nil), isInputClosed)
    }

    func answer(_ streamID: HTTP2StreamID, _ answer: HTTPAnswer, _ isInputClosed: Bool) {
        let headers = HTTP2Frame.FramePayload.Headers(headers: answer.headers, endStream: answer.body == nil)
        write(HTTP2Frame(streamID: streamID, payload: .headers(headers)))
        if let body = answer.body {
            bodies.insert(UInt64(Int(streamID)))
            write(HTTP2Frame(streamID: streamID, payload: .data(.init(data: .byteBuffer(body), endStream: true))))
        }
        if !isInputClosed { streamsToReset.append(streamID) }
        flushLater()
    }

    // MARK: Room

    /// How many bytes the client takes of a call now, as one message: a power of two, so that those who read the same pages
    /// have them in common.
    func room(of call: GRPCCall) -> Int {
        let window = min(call.sendWindow - call.pendingBytes, sendWindow - pendingBytes)
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
    private static let farewellPing = HTTP2PingData(withInteger: 0x6D_61_72_74_6C_65_74)

    /// Ends subscriptions, lets other calls finish, asks for no new ones; closes when nothing is open.
    public func drain() {
        guard farewell == .none, !isClosing else { return }
        farewell = .announced
        sayGoodbye(.maxID, .noError, Self.drainMessage)
        // The answer to a ping comes after all calls that were begun before the client knew.
        write(HTTP2Frame(streamID: .rootStream, payload: .ping(Self.farewellPing, ack: false)))
        flush()
        for call in calls.values { call.handler?.drain(call) }
        eventLoop.scheduleTask(in: Self.farewellTime) { [bound] in bound.value.leave() }
    }

    func pinged(_ data: HTTP2PingData) {
        if data == Self.farewellPing { leave() }
    }

    private func leave() {
        guard farewell == .announced, !isClosing else { return }
        farewell = .final
        sayGoodbye(lastStreamID, .noError, Self.drainMessage)
        flush()
        leaveIfDone()
    }

    func leaveIfDone() {
        guard farewell == .final, calls.isEmpty else { return }
        closeAfterFlush()
    }

    func sayGoodbye(_ last: HTTP2StreamID, _ code: HTTP2ErrorCode, _ text: String) {
        isSayingGoodbye = true
        defer { isSayingGoodbye = false }
        write(
            HTTP2Frame(
                streamID: .rootStream,
                payload: .goAway(lastStreamID: last, errorCode: code, opaqueData: ByteBuffer(string: text))))
    }

    /// Says why, then closes.
    func fail(_ code: HTTP2ErrorCode, _ error: MartletError) {
        guard !isClosing else { return }
        service.logger.info(
            "closing a connection",
            metadata: [
                "peer": "\(peerName)", "reason": "\(error.reason)", "why": "\(PrintableText.escape("\(error)"))",
            ])
        sayGoodbye(lastStreamID, code, "\(error)")
        closeAfterFlush()
    }

    func closeAfterFlush() {
        guard !isClosing else { return }
        flush()
        isClosing = true
        channelContext?.close(promise: nil)
    }
}

extension HTTP2Connection: NIOHTTP2FrameDelegate {
    /// Takes note of what has left for the socket, and of the end that HTTP/2 makes of a connection.
    public func wroteFrame(_ frame: HTTP2Frame) {
        switch frame.payload {
        case .data(let content):
            guard let call = calls[UInt64(Int(frame.streamID))] else { return }
            let bytes = min(call.pendingBytes, content.data.readableBytes)
            call.pendingBytes -= bytes
            pendingBytes -= bytes
        case .headers(let content):
            // The client is still sending: it may stop.
            guard content.endStream, let call = calls[UInt64(Int(frame.streamID))], !call.isInputClosed else { return }
            streamsToReset.append(frame.streamID)
            flushLater()
        case .rstStream(let code):
            clientStreams.ended(UInt32(Int(frame.streamID)))
            if code != .noError { foundFault(code) }
        case .goAway(let last, let code, _) where !isSayingGoodbye:
            // What is said after it must not name a later one.
            lastStreamID = min(lastStreamID, last)
            // The peer broke HTTP/2's rules; what is open is of no use to it.
            let name = "\(code)"
            eventLoop.execute { [bound] in bound.value.broke(name, code) }
        default: break
        }
    }

    private func broke(_ name: String, _ code: HTTP2ErrorCode) {
        guard !isClosing else { return }
        // When both sides have said goodbye and nothing is open, the library takes an answer to our ping for a fault.
        guard farewell == .none || !calls.isEmpty else { return closeAfterFlush() }
        fail(
            code,
            MartletError(
                .internal, reason: .badFrame,
                message: "the client broke the rules of HTTP/2: \(PrintableText.escape(name))"
                    + Self.explanation(code)))
    }

    private static func explanation(_ code: HTTP2ErrorCode) -> String {
        switch code {
        case .compressionError:
            ", which is also sent if the fields of a request take more than \(HTTP2Windows.headerListBytes) bytes "
                + "(SETTINGS_MAX_HEADER_LIST_SIZE)"
        case .enhanceYourCalm:
            ", because more than \(HTTP2Windows.controlFramesWaitingMax) answers to PING and SETTINGS wait to be read"
        default: ""
        }
    }
}
