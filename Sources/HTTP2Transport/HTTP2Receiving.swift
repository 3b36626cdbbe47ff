import MartletFrameCodec
import MartletModel
import MartletService
import MartletSession
import MartletTenants
import NIOCore
import NIOHPACK
import NIOHTTP2

// What comes in.

extension HTTP2Connection {
    func receive(_ frame: HTTP2Frame) {
        switch frame.payload {
        case .headers(let content): headers(content, of: frame.streamID)
        case .data(let content): data(content, of: frame.streamID)
        case .settings(.settings(let settings)): receive(settings)
        case .settings(.ack): break
        case .ping(let data, let isAnswer): if isAnswer { pinged(data) }
        case .windowUpdate, .priority, .rstStream, .goAway, .pushPromise, .alternativeService,
            .origin:
            break
        }
    }

    private func receive(_ settings: HTTP2Settings) {
        establish()
        for setting in settings where setting.parameter == .initialWindowSize {
            let change = setting.value - initialSendWindow
            initialSendWindow = setting.value
            for call in calls.values { call.sendWindow += change }
            if change > 0 { pumpLater() }
        }
    }

    // MARK: Calls

    private func headers(_ content: HTTP2Frame.FramePayload.Headers, of streamID: HTTP2StreamID) {
        guard RequestHead.isTrimmed(content.headers) else {
            lastStreamID = max(lastStreamID, streamID)
            return write(HTTP2Frame(streamID: streamID, payload: .rstStream(.protocolError)))
        }
        if let call = calls[UInt64(Int(streamID))] {
            // Trailers, which gRPC's clients have no use for.
            if content.endStream { inputClosed(call) }
            return
        }
        if requests[UInt64(Int(streamID))] != nil { return requestGoesOn(streamID, bytes: 0, content.endStream) }
        lastStreamID = max(lastStreamID, streamID)
        guard farewell != .final, calls.count + bodies.count + requests.count < limits.callsPerConnectionMax else {
            return write(HTTP2Frame(streamID: streamID, payload: .rstStream(.refusedStream)))
        }
        begin(content, streamID)
    }

    private func begin(_ content: HTTP2Frame.FramePayload.Headers, _ streamID: HTTP2StreamID) {
        let head = RequestHead(content.headers)
        guard head.isGRPC else {
            let refusal = services.refusal(ofPath: head.path)
            let request = PlainRequest(status: refusal.status, text: refusal.text, isHead: head.method == "HEAD")
            guard !content.endStream else { return answer(streamID, request.answer, true) }
            return requests[UInt64(Int(streamID))] = request
        }
        guard let method = services.method(at: head.path) else {
            return endAtOnce(streamID, services.unimplemented(head.path), content.endStream)
        }
        if let refusal = refusalOfCalls {
            endAtOnce(streamID, GRPCStatus(refusal), content.endStream)
            // One who is told so often need not ask again.
            return spend()
        }
        let call = GRPCCall(
            streamID, method, content.headers, self, messageBytesMax: limits.frameBytesMax,
            receiveWindow: HTTP2Windows.initial, sendWindow: initialSendWindow)
        call.acceptsGzip = head.acceptsGzip
        switch head.encoding {
        case nil, "identity": break
        case "gzip":
            call.hasGzip = true
            hasInflated = true
        case let other?: return endAtOnce(streamID, .unknownEncoding(other), content.endStream)
        }
        if let timeout = head.timeout {
            guard let nanoseconds = GRPCTimeout.nanoseconds(timeout) else {
                return endAtOnce(
                    streamID,
                    GRPCStatus(
                        .invalidField("grpc-timeout", "is not 1 to 8 digits and one of H, M, S, m, u, n: correct it")),
                    content.endStream)
            }
            // What is longer than 49 days is no deadline.
            let millis = nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 > 0 ? 1 : 0)
            call.timeoutMillis = UInt32(exactly: max(1, millis)) ?? 0
            if call.timeoutMillis > 0 {
                let deadline = eventLoop.now + .nanoseconds(nanoseconds)
                call.deadline = deadline
                watch(deadline)
            }
        }
        guard openCalls?.take(call.stateBytes) != false else {
            return endAtOnce(streamID, GRPCStatus(.openCallsFull(limits)), content.endStream)
        }
        calls[call.id] = call
        call.handler = method.begin(call)
        if farewell != .none { call.handler?.drain(call) }
        if content.endStream { inputClosed(call) } else { replenish(call) }
    }

    /// Answers a request that is no call when it has ended, or is longer than anybody waits for.
    private func requestGoesOn(_ streamID: HTTP2StreamID, bytes: Int, _ isEnd: Bool) {
        guard var request = requests.removeValue(forKey: UInt64(Int(streamID))) else { return }
        request.bytes += bytes
        if isEnd || request.bytes >= HTTP2Windows.initial / 2 { return answer(streamID, request.answer, isEnd) }
        requests[UInt64(Int(streamID))] = request
        if bytes < HTTP2Windows.crumbBytes { spend() }
    }

    private func data(_ content: HTTP2Frame.FramePayload.Data, of streamID: HTTP2StreamID) {
        guard let call = calls[UInt64(Int(streamID))], !call.isOver else {
            return requestGoesOn(streamID, bytes: content.data.readableBytes, content.endStream)
        }
        let (receivedCount, isInside) = (call.receivedCount, !call.reader.isBetweenMessages)
        if case .byteBuffer(let bytes) = content.data, bytes.readableBytes > 0 { call.reader.feed(bytes) }
        if content.endStream { call.isInputClosed = true }
        deliver(call)
        // Nothing, or a crumb of a message: no client that works sends many of those.
        let length = content.data.readableBytes
        crumbBytes = min(crumbBytes + length, HTTP2Windows.bytesOfFreeCrumb * HTTP2Windows.freeCrumbsMax)
        guard length == 0 || isInside && length < HTTP2Windows.crumbBytes, !content.endStream,
            call.receivedCount == receivedCount, !call.isPaused || length < HTTP2Windows.shortestMessageBytes
        else { return }
        if crumbBytes >= HTTP2Windows.bytesOfFreeCrumb {
            crumbBytes -= HTTP2Windows.bytesOfFreeCrumb
        } else {
            spend()
        }
    }

    private func inflate(_ message: ByteBuffer) throws(MartletError) -> ByteBuffer {
        let compressedBytes = message.readableBytes
        do throws(MartletError) {
            let inflated = try Gzip.inflate(message, messageBytesMax: limits.frameBytesMax)
            inflatingWeight += inflated.readableBytes / HTTP2Windows.inflatedBytesOfFrame
            spend(Gzip.controlFrames(inflatedBytes: inflated.readableBytes, compressedBytes: compressedBytes))
            return inflated
        } catch {
            // It has taken as long as the longest that is let through, and nobody sends such by mistake.
            let bytes = Gzip.inflatedBytesMax(
                compressedBytes: compressedBytes, messageBytesMax: limits.frameBytesMax)
            inflatingWeight += bytes / HTTP2Windows.inflatedBytesOfFrame
            spend(4 * Gzip.controlFrames(inflatedBytes: bytes, compressedBytes: compressedBytes))
            throw error
        }
    }

    private func inputClosed(_ call: GRPCCall) {
        call.isInputClosed = true
        deliver(call)
    }

    /// Hands the handler what has come of a call and is whole.
    func deliver(_ call: GRPCCall) {
        do throws(MartletError) {
            while !call.isPaused, let handler = call.handler, let message = try call.reader.next() {
                call.receivedCount += 1
                guard call.method.streamsRequests || call.receivedCount == 1 else { throw .tooManyMessages }
                var bytes = message.bytes
                if message.isCompressed {
                    guard call.hasGzip else { throw .unannouncedCompression }
                    bytes = try inflate(bytes)
                }
                call.isMessageCompressed = message.isCompressed
                handler.received(bytes, of: call)
            }
            if call.isInputClosed, !call.isPaused, !call.isEndDelivered, let handler = call.handler {
                guard call.reader.isBetweenMessages else { throw .cutMessage }
                guard call.method.streamsRequests || call.receivedCount == 1 else { throw .noMessage }
                call.isEndDelivered = true
                handler.receivedEnd(of: call)
            }
        } catch {
            end(call, error)
        }
        hold(call)
        count(call)
        replenish(call)
        replenish()
    }

    /// Ends a call because of what its client did or did not send; its handler gives back what it holds.
    func end(_ call: GRPCCall, _ error: MartletError) {
        guard let handler = call.handler else { return }
        service.callRefused()
        call.end(GRPCStatus(error))
        handler.ended(call)
    }

    // MARK: What may be sent

    /// Takes room for what is held of a call, where the windows would not let in the rest: for a large message, and for any
    /// once half of the connection's window is held. What is on the account gives its part of that window back, so that
    /// neither messages that come in pieces nor calls that are paused hold up the others of the connection.
    private func hold(_ call: GRPCCall) {
        let awaited = call.isOver ? 0 : call.reader.awaitedBytes
        let held = call.isOver || !call.isPaused ? 0 : call.reader.heldBytes
        let needed = max(awaited, held)
        if call.account == nil {
            let isCrowded =
                heldBytes - call.countedBytes + call.reader.heldBytes > HTTP2Windows.connectionBytes / 2
            // What the stream's window holds comes by itself.
            guard awaited > HTTP2Windows.initial || isCrowded && needed > 0, let holder else { return }
            call.account = InboundAccount(pool: service.pools.inbound, holder: holder, limits: limits)
        }
        let (bound, id) = (bound, call.id)
        // Less is on no account.
        let bytes = needed == 0 ? 0 : max(needed, limits.inboundFreeBytes + 1)
        call.account?.hold(bytes, now: eventLoop.now) { wait in
            bound.eventLoop.execute { bound.value.granted(wait, id) }
        }
        if needed == 0 { call.account = nil }
    }

    private func granted(_ wait: InboundAccount.WaitNumber, _ id: UInt64) {
        guard let call = calls[id] else { return }
        call.account?.granted(wait, isOpen: !isClosing)
        count(call)
        replenish(call)
        replenish()
        flush()
    }

    /// Lets the client send more on a stream, once it has half of what it may.
    func replenish(_ call: GRPCCall) {
        guard !isReceiving, !call.isInputClosed, !call.isOver, !isClosing else { return }
        var target = call.method.streamsRequests ? HTTP2Windows.requestStreamBytes : HTTP2Windows.initial
        let held = call.reader.heldBytes
        if let account = call.account {
            // The rest of the message, when there is room for it.
            guard !account.isWaiting else { return }
            target = max(target, call.reader.awaitedBytes)
        }
        let missing = target - held - call.receiveWindow
        guard missing >= target / 2 || call.receiveWindow == 0 && missing > 0 else { return }
        call.receiveWindow += missing
        write(HTTP2Frame(streamID: call.streamID, payload: .windowUpdate(windowSizeIncrement: missing)))
        flushLater()
    }

    /// Lets the client send more on the connection, once it has half of what it may. What waits to be a whole message, and is
    /// on no account, is taken off.
    func replenish() {
        guard !isReceiving, !isClosing else { return }
        let missing = HTTP2Windows.connectionBytes - heldBytes - receiveWindow
        guard missing >= HTTP2Windows.connectionBytes / 2 else { return }
        receiveWindow += missing
        write(HTTP2Frame(streamID: .rootStream, payload: .windowUpdate(windowSizeIncrement: missing)))
        flushLater()
    }

    /// Lets the client send more where that could not be said within a frame. All windows of a read have been told by now.
    func replenishLeft() {
        let streams = streamsToReplenish
        streamsToReplenish = []
        for id in streams { if let call = calls[id] { replenish(call) } }
        replenish()
    }

    /// Brings up to date what is held of a call's messages and is on no account.
    func count(_ call: GRPCCall) {
        let isOnAccount = call.account.map { !$0.isWaiting } ?? false
        let bytes = isOnAccount ? 0 : call.reader.heldBytes
        heldBytes += bytes - call.countedBytes
        call.countedBytes = bytes
    }

    // MARK: What HTTP/2 tells

    func windowUpdated(_ event: NIOHTTP2WindowUpdatedEvent) {
        guard event.streamID != .rootStream else {
            if let size = event.inboundWindowSize, size != receiveWindow {
                receiveWindow = size
                replenish()
            }
            if let size = event.outboundWindowSize {
                let wasOpen = sendWindow > pendingBytes
                sendWindow = size
                if !wasOpen, sendWindow > pendingBytes { pumpLater() }
            }
            return
        }
        guard let call = calls[UInt64(Int(event.streamID))] else { return }
        if let size = event.inboundWindowSize, size != call.receiveWindow {
            call.receiveWindow = size
            if isReceiving, streamsToReplenish.last != call.id { streamsToReplenish.append(call.id) }
            replenish(call)
        }
        if let size = event.outboundWindowSize {
            call.sendWindow = size
            if call.isBlocked, call.sendWindow > call.pendingBytes { pumpLater() }
        }
    }

    /// Both ends are done with a stream, or one of them has reset it.
    func streamClosed(_ id: UInt64) {
        clientStreams.ended(UInt32(truncatingIfNeeded: id))
        bodies.remove(id)
        requests[id] = nil
        guard let call = calls.removeValue(forKey: id) else { return }
        blocked[id] = nil
        close(call)
        replenish()
        leaveIfDone()
    }
}

extension MartletError {
    fileprivate static func openCallsFull(_ limits: Limits) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .tooManyCalls,
            message: "call_bytes_max is \(limits.callBytesMax), and the share of this connection's open calls is used "
                + "up: end some, send fewer fields, or retry later",
            isRetryable: true)
    }
    fileprivate static let tooManyMessages = MartletError(
        .unimplemented, reason: .badFrame, message: "the method takes one message, and more came: send one")
    fileprivate static let noMessage = MartletError(
        .unimplemented, reason: .badFrame, message: "the method takes one message, and none came: send one")
    fileprivate static let cutMessage = MartletError(
        .internal, reason: .badFrame, message: "the stream ended inside a message")
    fileprivate static let unannouncedCompression = MartletError(
        .internal, reason: .badFrame, message: "a message is compressed, and the call's grpc-encoding is identity")
}
