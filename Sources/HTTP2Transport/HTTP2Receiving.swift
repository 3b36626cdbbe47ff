import MartletFrameCodec
import MartletModel
import MartletService
import MartletSession
import MartletTenants
import NIOCore
import NIOHPACK

// What comes in.

extension HTTP2Connection {
    /// A request begins.
    func begin(_ head: RequestHead, _ fields: HPACKHeaders, _ stream: UInt32, _ isEnd: Bool) {
        guard farewell != .final, streams.count < limits.callsPerConnectionMax else {
            return reset(stream, .refusedStream)
        }
        guard head.isGRPC else {
            let refusal = services.refusal(ofPath: head.path)
            let request = PlainRequest(
                UInt64(stream), sendWindow: initialSendWindow, status: refusal.status, text: refusal.text,
                isHead: head.method == "HEAD")
            request.contentLeft = head.contentLength
            request.isInputClosed = isEnd
            streams[request.id] = request
            if isEnd { answer(request) }
            return
        }
        guard let method = services.method(at: head.path) else {
            return endAtOnce(stream, services.unimplemented(head.path), isEnd)
        }
        if let refusal = refusalOfCalls {
            endAtOnce(stream, GRPCStatus(refusal), isEnd)
            // One who is told so often need not ask again.
            return spend()
        }
        let call = GRPCCall(stream, method, fields, head, self)
        switch head.encoding {
        case nil, "identity": break
        case "gzip":
            call.hasGzip = true
        case let other?: return endAtOnce(stream, .unknownEncoding(other), isEnd)
        }
        if let timeout = head.timeout {
            guard let nanoseconds = GRPCTimeout.nanoseconds(timeout) else {
                return endAtOnce(
                    stream,
                    GRPCStatus(
                        .invalidField("grpc-timeout", "is not 1 to 8 digits and one of H, M, S, m, u, n: correct it")),
                    isEnd)
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
            return endAtOnce(stream, GRPCStatus(.openCallsFull(limits)), isEnd)
        }
        streams[call.id] = call
        call.handler = method.begin(call)
        if farewell != .none { call.handler?.drain(call) }
        call.isInputClosed = isEnd
        if isEnd { deliver(call) } else { replenish(call) }
    }

    /// Bytes of a stream have come, or its trailers: then it has ended.
    func received(_ bytes: ByteBuffer?, of stream: HTTP2Stream) {
        switch stream {
        case let call as GRPCCall: received(bytes, of: call)
        case let request as PlainRequest: received(bytes?.readableBytes ?? 0, of: request)
        default: break
        }
        replenish()
    }

    /// Answers a request that is no call when it has ended, or is longer than anybody waits for.
    private func received(_ bytes: Int, of request: PlainRequest) {
        guard !request.isAnswered else { return spendUnlessEnd(of: request, bytes) }
        request.bytes += bytes
        if request.isInputClosed || request.bytes >= HTTP2Windows.initial / 2 { return answer(request) }
        spendUnlessEnd(of: request, bytes)
    }

    private func spendUnlessEnd(of request: PlainRequest, _ bytes: Int) {
        if !request.isInputClosed, bytes < HTTP2Windows.crumbBytes { spend() }
    }

    private func received(_ bytes: ByteBuffer?, of call: GRPCCall) {
        guard !call.isOver else { return }
        guard let bytes else { return deliver(call) }
        let (receivedCount, isInside) = (call.receivedCount, !call.reader.isBetweenMessages)
        let length = bytes.readableBytes
        if length > 0 { call.reader.feed(bytes) }
        deliver(call)
        // Nothing, or a crumb of a message: no client that works sends many of those.
        crumbBytes = min(crumbBytes + length, HTTP2Windows.bytesOfFreeCrumb * HTTP2Windows.freeCrumbsMax)
        guard length == 0 || isInside && length < HTTP2Windows.crumbBytes, !call.isInputClosed,
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
            turnWeight += inflated.readableBytes / HTTP2Windows.inflatedBytesOfFrame
            spend(Gzip.controlFrames(inflatedBytes: inflated.readableBytes, compressedBytes: compressedBytes))
            return inflated
        } catch {
            // It has taken as long as the longest that is let through, and nobody sends such by mistake.
            let bytes = Gzip.inflatedBytesMax(
                compressedBytes: compressedBytes, messageBytesMax: limits.frameBytesMax)
            turnWeight += bytes / HTTP2Windows.inflatedBytesOfFrame
            spend(4 * Gzip.controlFrames(inflatedBytes: bytes, compressedBytes: compressedBytes))
            throw error
        }
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
        guard let call = streams[id] as? GRPCCall else { return }
        call.account?.granted(wait, isOpen: !isClosing)
        count(call)
        replenish(call)
        replenish()
        flush()
    }

    /// Lets the client send more on a stream, once it has half of what it may.
    func replenish(_ call: GRPCCall) {
        guard !call.isInputClosed, !call.isOver, !isClosing else { return }
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
        writeWindowUpdate(missing, of: call.number)
        flushLater()
    }

    /// Lets the client send more on the connection, once it has half of what it may. What waits to be a whole message, and is
    /// on no account, is taken off.
    func replenish() {
        guard !isClosing else { return }
        let missing = HTTP2Windows.connectionBytes - heldBytes - receiveWindow
        guard missing >= HTTP2Windows.connectionBytes / 2 else { return }
        receiveWindow += missing
        writeWindowUpdate(missing, of: 0)
        flushLater()
    }

    /// Brings up to date what is held of a call's messages and is on no account.
    func count(_ call: GRPCCall) {
        let isOnAccount = call.account.map { !$0.isWaiting } ?? false
        let bytes = isOnAccount ? 0 : call.reader.heldBytes
        heldBytes += bytes - call.countedBytes
        call.countedBytes = bytes
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
