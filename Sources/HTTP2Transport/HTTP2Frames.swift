import MartletModel
import NIOCore
import NIOHPACK

/// Codes of errors (RFC 9113, 7).
enum HTTP2ErrorCode: UInt32 {
    case noError = 0
    case protocolError = 1
    case internalError = 2
    case flowControlError = 3
    case streamClosed = 5
    case frameSizeError = 6
    case refusedStream = 7
    case cancel = 8
    case compressionError = 9
    case enhanceYourCalm = 11
}

/// Names of settings (RFC 9113, 6.5.2).
enum HTTP2SettingName {
    static let tableSize: UInt16 = 1
    static let enablePush: UInt16 = 2
    static let streamsMax: UInt16 = 3
    static let initialWindow: UInt16 = 4
    static let frameSize: UInt16 = 5
    static let headerListSize: UInt16 = 6
}

/// Why a frame ends its connection.
struct HTTP2Fault: Error {
    var code: HTTP2ErrorCode
    var text: String

    init(_ code: HTTP2ErrorCode, _ text: String) {
        self.code = code
        self.text = text
    }

    static func wrong(_ text: String) -> HTTP2Fault { HTTP2Fault(.protocolError, text) }
    static func length(_ head: HTTP2FrameCutter.Head, _ name: String) -> HTTP2Fault {
        HTTP2Fault(.frameSizeError, "\(name) of \(head.length) bytes")
    }
}

/// Where the bytes of a connection are between two reads.
struct HTTP2ReadState {
    /// DATA whose content has not all come.
    struct OpenData {
        /// nil where nobody waits for it.
        var stream: HTTP2Stream?
        /// Its first byte says how many of them are padding.
        var isPadded: Bool
        var contentLeft: Int
        var paddingLeft = 0
        var endsStream: Bool
    }

    /// A block of fields whose CONTINUATION frames have not all come.
    struct OpenBlock {
        var stream: UInt32
        var endsStream: Bool
        var bytes: ByteBuffer
    }

    private static let rememberedBytesMax = 64
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    /// Bytes of the preface that have come.
    var prefaceCount = 0
    var data: OpenData?
    var block: OpenBlock?
    /// SETTINGS of the server that the client has not acknowledged.
    var settingsAwaited = 0
    /// Answers to PING and SETTINGS since the socket took bytes.
    var answersWaiting = 0
    var decoder: HPACKDecoder
    /// The last block, where it changed nothing in the table: the same bytes mean the same then.
    var lastBlock: (bytes: ByteBuffer, fields: HPACKHeaders, head: RequestHead)?

    /// Keeps a block that is short and consists of numbers of the table, each in a byte: those change nothing.
    mutating func remember(_ block: ByteBuffer, _ fields: HPACKHeaders, _ head: RequestHead) {
        let view = block.readableBytesView
        guard view.count <= Self.rememberedBytesMax, view.allSatisfy({ $0 >= 0x80 && $0 != 0xFF }) else { return }
        lastBlock = (ByteBuffer(bytes: view), fields, head)
    }

    init() {
        decoder = HPACKDecoder(allocator: ByteBufferAllocator())
        decoder.maxHeaderListSize = HTTP2Windows.headerListBytes
    }
}

// Reads frames: RFC 9113, 4 to 6. ``HTTP2FrameGuard`` has cut and counted them.

extension HTTP2Connection {
    private typealias Head = HTTP2FrameCutter.Head
    private typealias FrameType = HTTP2FrameCutter.FrameType
    private typealias Flag = HTTP2FrameCutter.Flag

    /// Takes in a frame; of DATA only its head.
    func takeIn(_ head: HTTP2FrameCutter.Head, _ content: ByteBuffer) {
        heard()
        do throws(HTTP2Fault) {
            guard head.length <= HTTP2FrameCutter.contentBytesMax else {
                throw HTTP2Fault(
                    .frameSizeError,
                    "a frame of \(head.length) bytes: SETTINGS_MAX_FRAME_SIZE is \(HTTP2FrameCutter.contentBytesMax)"
                )
            }
            if head.type == FrameType.data {
                try beginData(head)
                if head.length == 0 { takeInData(ByteBuffer()) }
            } else {
                var content = content
                try takeIn(head, &content)
            }
        } catch { broke(error) }
    }

    /// Takes in what has come of the preface, or of the content of DATA.
    func takeIn(content: ByteBuffer) {
        heard()
        if reading.data != nil { return takeInData(content) }
        var content = content
        do throws(HTTP2Fault) { try takeInPreface(&content) } catch { broke(error) }
    }

    /// Whether DATA of a stream may carry something.
    func awaitsData(of stream: UInt32) -> Bool { streams[UInt64(stream)].map { !$0.isInputClosed } ?? false }

    private func takeInPreface(_ bytes: inout ByteBuffer) throws(HTTP2Fault) {
        while reading.prefaceCount < HTTP2ReadState.preface.count, let byte: UInt8 = bytes.readInteger() {
            guard byte == HTTP2ReadState.preface[reading.prefaceCount] else {
                throw .wrong("the connection does not begin with the preface of HTTP/2")
            }
            reading.prefaceCount += 1
        }
    }

    private func takeIn(_ head: Head, _ content: inout ByteBuffer) throws(HTTP2Fault) {
        if let block = reading.block {
            guard head.type == FrameType.continuation, head.stream == block.stream else {
                throw .wrong("a frame of type \(head.type) inside the fields of stream \(block.stream)")
            }
            return try takeInContinuation(head, content)
        }
        guard isEstablished || head.type == FrameType.settings && !head.has(Flag.acknowledges) else {
            throw .wrong("the first frame is not SETTINGS")
        }
        switch head.type {
        case FrameType.headers: try takeInHeaders(head, &content)
        case FrameType.priority: try takeInPriority(head)
        case FrameType.reset: try takeInReset(head)
        case FrameType.settings: try takeInSettings(head, &content)
        case FrameType.pushPromise: throw .wrong("PUSH_PROMISE, which is a server's")
        case FrameType.ping: try takeInPing(head, &content)
        case FrameType.goAway:
            guard head.stream == 0 else { throw .wrong("GOAWAY on stream \(head.stream)") }
            guard head.length >= 8 else { throw .length(head, "GOAWAY") }
        case FrameType.windowUpdate: try takeInWindowUpdate(head)
        case FrameType.continuation: throw .wrong("CONTINUATION without HEADERS before it")
        default: break
        }
    }

    /// Whether the client has not begun a stream yet, and cannot have ended it therefore.
    private func isIdle(_ stream: UInt32) -> Bool { stream & 1 == 0 || stream > lastStream }

    // MARK: Fields

    private func takeInHeaders(_ head: Head, _ content: inout ByteBuffer) throws(HTTP2Fault) {
        guard head.stream & 1 == 1 else { throw .wrong("HEADERS on stream \(head.stream)") }
        if head.has(Flag.isPadded) {
            guard let count: UInt8 = content.readInteger(), Int(count) <= content.readableBytes else {
                throw .wrong("HEADERS with more padding than it is long")
            }
            content.moveWriterIndex(to: content.writerIndex - Int(count))
        }
        if head.has(Flag.hasPriority) {
            guard let other: UInt32 = content.readInteger(), content.readInteger(as: UInt8.self) != nil else {
                throw .wrong("HEADERS too short for its priority and its padding")
            }
            // RFC 9113 has no more priorities; RFC 7540 (5.3.1) has this as an error.
            guard other & HTTP2Windows.sizeMask != head.stream else {
                throw .wrong("stream \(head.stream) depends on itself")
            }
        }
        let endsStream = head.has(Flag.endStream)
        if head.has(Flag.endHeaders) {
            try takeInFields(content, of: head.stream, endsStream)
        } else {
            reading.block = .init(stream: head.stream, endsStream: endsStream, bytes: content)
        }
    }

    private func takeInContinuation(_ head: Head, _ content: ByteBuffer) throws(HTTP2Fault) {
        reading.block?.bytes.writeImmutableBuffer(content)
        guard head.has(Flag.endHeaders), let block = reading.block else { return }
        reading.block = nil
        try takeInFields(block.bytes, of: block.stream, block.endsStream)
    }

    private func takeInFields(_ block: ByteBuffer, of stream: UInt32, _ isEnd: Bool) throws(HTTP2Fault) {
        let fields: HPACKHeaders
        var head: RequestHead?
        // Of what is no request, nobody counts them.
        var decodedBytes = HTTP2Windows.headerListBytes
        defer { turnWeight += decodedBytes / HTTP2Windows.decodedBytesOfFrame }
        if let last = reading.lastBlock, last.bytes == block {
            (fields, head) = (last.fields, last.head)
        } else {
            fields = try decode(block)
            reading.lastBlock = nil
        }
        if let open = streams[UInt64(stream)] { return try trailers(fields, of: open, isEnd) }
        guard stream > lastStream else {
            switch pastStreams.end(of: stream) {
            // What was under way when the stream was reset has changed the table, and nothing else.
            case .reset: return
            case .other: throw HTTP2Fault(.streamClosed, "HEADERS on stream \(stream), which has ended")
            case .skipped: throw .wrong("HEADERS on stream \(stream) after stream \(lastStream)")
            }
        }
        pastStreams.begins(stream, after: lastStream)
        lastStream = stream
        if head == nil {
            head = RequestHead(fields)
            if let head { reading.remember(block, fields, head) }
        }
        // 32 bytes for each field besides: RFC 9113, 6.5.2.
        if let head { decodedBytes = head.contentBytes + 32 * head.fieldCount }
        guard let head, !isEnd || head.contentLength ?? 0 == 0 else { return reset(stream, .protocolError) }
        begin(head, fields, stream, isEnd)
    }

    private func decode(_ block: ByteBuffer) throws(HTTP2Fault) -> HPACKHeaders {
        var block = block
        do { return try reading.decoder.decodeHeaders(from: &block) } catch {
            throw HTTP2Fault(
                .compressionError,
                "COMPRESSION_ERROR, which is also sent if the fields of a request take more than "
                    + "\(HTTP2Windows.headerListBytes) bytes (SETTINGS_MAX_HEADER_LIST_SIZE): \(error)")
        }
    }

    private func trailers(_ fields: HPACKHeaders, of stream: HTTP2Stream, _ isEnd: Bool) throws(HTTP2Fault) {
        guard !stream.isInputClosed else {
            throw HTTP2Fault(.streamClosed, "HEADERS on stream \(stream.number), which has ended")
        }
        guard isEnd, RequestHead.areTrailers(fields), stream.contentLeft ?? 0 == 0 else {
            return reset(stream.number, .protocolError)
        }
        stream.isInputClosed = true
        received(nil, of: stream)
    }

    // MARK: DATA

    private func beginData(_ head: Head) throws(HTTP2Fault) {
        guard isEstablished else { throw .wrong("the first frame is not SETTINGS") }
        if let block = reading.block { throw .wrong("DATA inside the fields of stream \(block.stream)") }
        let isPadded = head.has(Flag.isPadded)
        guard !isPadded || head.length > 0 else { throw .wrong("DATA without the length of its padding") }
        guard head.length <= receiveWindow else {
            throw HTTP2Fault(
                .flowControlError, "DATA of \(head.length) bytes, and the connection's window has \(receiveWindow)")
        }
        var stream = streams[UInt64(head.stream)]
        if let open = stream {
            if open.isInputClosed {
                reset(head.stream, .streamClosed)
                stream = nil
            } else if head.length > open.receiveWindow {
                reset(head.stream, .flowControlError)
                stream = nil
            }
        } else {
            guard !isIdle(head.stream) else { throw .wrong("DATA on stream \(head.stream), which has not begun") }
            guard pastStreams.end(of: head.stream) == .reset else {
                throw HTTP2Fault(.streamClosed, "DATA on stream \(head.stream), which has ended")
            }
        }
        reading.data = .init(
            stream: stream, isPadded: isPadded, contentLeft: head.length, endsStream: head.has(Flag.endStream))
    }

    private func takeInData(_ content: ByteBuffer) {
        var bytes = content
        guard var data = reading.data else { return }
        var taken = 0
        if data.isPadded, let count: UInt8 = bytes.readInteger() {
            data.isPadded = false
            data.contentLeft -= 1
            taken = 1
            guard Int(count) <= data.contentLeft else {
                return broke(.wrong("DATA with more padding than it is long"))
            }
            data.paddingLeft = Int(count)
            data.contentLeft -= Int(count)
        }
        let content = data.isPadded ? nil : bytes.readSlice(length: min(data.contentLeft, bytes.readableBytes))
        if let content { data.contentLeft -= content.readableBytes }
        if data.contentLeft == 0, !data.isPadded {
            let count = min(data.paddingLeft, bytes.readableBytes)
            bytes.moveReaderIndex(forwardBy: count)
            data.paddingLeft -= count
            taken += count
        }
        taken += content?.readableBytes ?? 0
        receiveWindow -= taken
        let isWhole = data.contentLeft == 0 && data.paddingLeft == 0 && !data.isPadded
        reading.data = isWhole ? nil : data
        guard let stream = data.stream, streams[stream.id] === stream else { return replenish() }
        stream.receiveWindow -= taken
        let isLast = isWhole && data.endsStream
        let count = content?.readableBytes ?? 0
        if let left = stream.contentLeft {
            stream.contentLeft = left - count
            guard left >= count, !isLast || left == count else { return reset(stream.number, .protocolError) }
        }
        if isLast { stream.isInputClosed = true }
        if count > 0 || isWhole { received(content ?? ByteBuffer(), of: stream) }
    }

    // MARK: The other frames

    /// Nobody goes by priorities (RFC 9113, 5.3.2), but what is none is a fault.
    private func takeInPriority(_ head: Head) throws(HTTP2Fault) {
        guard head.stream != 0 else { throw .wrong("PRIORITY on stream 0") }
        let code: HTTP2ErrorCode
        if head.length != 5 {
            code = .frameSizeError
        } else if head.firstWord & HTTP2Windows.sizeMask == head.stream {
            code = .protocolError
        } else {
            return
        }
        guard streams[UInt64(head.stream)] != nil else {
            throw HTTP2Fault(
                code,
                "PRIORITY of stream \(head.stream), which is not open, has a wrong length or depends on itself")
        }
        reset(head.stream, code)
    }

    private func takeInReset(_ head: Head) throws(HTTP2Fault) {
        guard head.length == 4 else { throw .length(head, "RST_STREAM") }
        if let stream = streams[UInt64(head.stream)] { return close(stream) }
        guard !isIdle(head.stream) else { throw .wrong("RST_STREAM on stream \(head.stream), which has not begun") }
    }

    private func takeInSettings(_ head: Head, _ content: inout ByteBuffer) throws(HTTP2Fault) {
        guard head.stream == 0 else { throw .wrong("SETTINGS on stream \(head.stream)") }
        guard !head.has(Flag.acknowledges) else {
            guard head.length == 0 else { throw .length(head, "an acknowledgement of SETTINGS") }
            guard reading.settingsAwaited > 0 else { throw .wrong("an acknowledgement of SETTINGS that were not sent") }
            return reading.settingsAwaited -= 1
        }
        guard head.length % 6 == 0 else { throw .length(head, "SETTINGS") }
        let before = initialSendWindow
        while let (name, value) = content.readMultipleIntegers(as: (UInt16, UInt32).self) {
            switch name {
            case HTTP2SettingName.tableSize: encoder.tableSizeChanged(Int(value))
            case HTTP2SettingName.enablePush: guard value <= 1 else { throw .wrong("SETTINGS_ENABLE_PUSH \(value)") }
            case HTTP2SettingName.initialWindow: try sendWindowsChange(to: Int(value))
            case HTTP2SettingName.frameSize:
                guard (16_384..<1 << 24).contains(value) else { throw .wrong("SETTINGS_MAX_FRAME_SIZE \(value)") }
            default: break
            }
        }
        establish()
        writeFrame(type: FrameType.settings, flags: Flag.acknowledges, stream: 0, content: [])
        try countAnswer()
        // Only now: until it reads the acknowledgement, the client counts by the windows that it had.
        if initialSendWindow > before { for stream in streams.values { windowOpened(of: stream) } }
    }

    private func sendWindowsChange(to size: Int) throws(HTTP2Fault) {
        guard size <= HTTP2Windows.sizeMax else {
            throw HTTP2Fault(.flowControlError, "SETTINGS_INITIAL_WINDOW_SIZE \(size)")
        }
        let change = size - initialSendWindow
        initialSendWindow = size
        for stream in streams.values {
            stream.sendWindow += change
            guard stream.sendWindow <= HTTP2Windows.sizeMax else {
                throw HTTP2Fault(
                    .flowControlError, "SETTINGS_INITIAL_WINDOW_SIZE takes the window of a stream above 2^31 - 1")
            }
        }
    }

    private func takeInPing(_ head: Head, _ content: inout ByteBuffer) throws(HTTP2Fault) {
        guard head.stream == 0 else { throw .wrong("PING on stream \(head.stream)") }
        guard let data: UInt64 = content.readInteger(), head.length == 8 else { throw .length(head, "PING") }
        if head.has(Flag.acknowledges) { return pinged(data) }
        writePing(data, flags: Flag.acknowledges)
        try countAnswer()
    }

    /// What a client does not read of these must not grow for ever.
    private func countAnswer() throws(HTTP2Fault) {
        flushLater()
        guard channelContext?.channel.isWritable == false else { return reading.answersWaiting = 0 }
        reading.answersWaiting += 1
        guard reading.answersWaiting > HTTP2Windows.answersWaitingMax else { return }
        throw HTTP2Fault(
            .enhanceYourCalm, "more than \(HTTP2Windows.answersWaitingMax) answers to PING and SETTINGS wait to be read"
        )
    }

    private func takeInWindowUpdate(_ head: Head) throws(HTTP2Fault) {
        guard head.length == 4 else { throw .length(head, "WINDOW_UPDATE") }
        let size = Int(head.firstWord & HTTP2Windows.sizeMask)
        guard head.stream != 0 else {
            guard size > 0 else { throw .wrong("WINDOW_UPDATE of 0 on the connection") }
            sendWindow += size
            guard sendWindow <= HTTP2Windows.sizeMax else {
                throw HTTP2Fault(.flowControlError, "WINDOW_UPDATE takes the connection's window above 2^31 - 1")
            }
            return windowOpened()
        }
        guard let stream = streams[UInt64(head.stream)] else {
            guard !isIdle(head.stream) else {
                throw .wrong("WINDOW_UPDATE on stream \(head.stream), which has not begun")
            }
            return
        }
        guard size > 0 else { return reset(head.stream, .protocolError) }
        stream.sendWindow += size
        guard stream.sendWindow <= HTTP2Windows.sizeMax else { return reset(head.stream, .flowControlError) }
        windowOpened(of: stream)
    }

    // MARK: Faults

    /// Ends a stream that is at fault.
    func reset(_ stream: UInt32, _ code: HTTP2ErrorCode) {
        writeReset(stream, code)
        foundFault(code)
        if let open = streams[UInt64(stream)] { close(open) }
        flushLater()
    }

    /// The peer broke HTTP/2's rules; what is open is of no use to it.
    func broke(_ fault: HTTP2Fault) {
        fail(
            fault.code,
            MartletError(
                .internal, reason: .badFrame,
                message: "the client broke the rules of HTTP/2: \(PrintableText.escape(fault.text))"))
    }
}
