import MartletModel
import NIOCore

// Writes frames. They are gathered, and go to TLS together with the next flush.

extension HTTP2Connection {
    private typealias FrameType = HTTP2FrameCutter.FrameType
    private typealias Flag = HTTP2FrameCutter.Flag
    /// From this length on, content goes to TLS as it lies; what is shorter is copied behind its frame's head.
    private static let detachedBytesMin = 8 << 10
    /// What is kept of memory for the next frames.
    private static let keptBytesMax = 64 << 10

    /// The frames that are gathered.
    private func gather(_ write: (inout ByteBuffer) -> Void) {
        if isOutputHandedOn {
            isOutputHandedOn = false
            if output.capacity <= Self.keptBytesMax { output.clear() } else { output = ByteBuffer() }
        }
        write(&output)
    }

    /// Hands on what is gathered.
    func handOnOutput() {
        guard !isOutputHandedOn, output.readableBytes > 0, let context = channelContext else { return }
        isOutputHandedOn = true
        context.write(wrapOutboundOut(output), promise: nil)
    }

    var hasOutput: Bool { !isOutputHandedOn && output.readableBytes > 0 }

    private static func writeHead(
        _ length: Int, type: UInt8, flags: UInt8 = 0, stream: UInt32, to bytes: inout ByteBuffer
    ) {
        bytes.writeMultipleIntegers(UInt32(length) << 8 | UInt32(type), flags, stream)
    }

    func writeFrame(type: UInt8, flags: UInt8 = 0, stream: UInt32, content: some Collection<UInt8>) {
        gather { bytes in
            Self.writeHead(content.count, type: type, flags: flags, stream: stream, to: &bytes)
            bytes.writeBytes(content)
        }
    }

    private func write(word: UInt32, type: UInt8, stream: UInt32) {
        gather { bytes in
            Self.writeHead(4, type: type, stream: stream, to: &bytes)
            bytes.writeInteger(word)
        }
    }

    /// What the client has to know before it sends anything.
    func writeSettings() {
        reading.settingsAwaited += 1
        let settings: [(UInt16, Int)] = [
            (HTTP2SettingName.streamsMax, limits.callsPerConnectionMax),
            (HTTP2SettingName.initialWindow, HTTP2Windows.initial),
            (HTTP2SettingName.headerListSize, HTTP2Windows.headerListBytes),
        ]
        gather { bytes in
            Self.writeHead(6 * settings.count, type: FrameType.settings, stream: 0, to: &bytes)
            for (name, value) in settings { bytes.writeMultipleIntegers(name, UInt32(value)) }
        }
    }

    func writePing(_ data: UInt64, flags: UInt8 = 0) {
        gather { bytes in
            Self.writeHead(8, type: FrameType.ping, flags: flags, stream: 0, to: &bytes)
            bytes.writeInteger(data)
        }
    }

    func writeWindowUpdate(_ size: Int, of stream: UInt32) {
        write(word: UInt32(size), type: FrameType.windowUpdate, stream: stream)
    }

    /// Tells the client that the server is done with a stream. What comes of it is ignored.
    func writeReset(_ stream: UInt32, _ code: HTTP2ErrorCode) {
        pastStreams.reset(stream)
        write(word: code.rawValue, type: FrameType.reset, stream: stream)
    }

    func writeGoAway(_ last: UInt32, _ code: HTTP2ErrorCode, _ text: String) {
        gather { bytes in
            Self.writeHead(8 + text.utf8.count, type: FrameType.goAway, stream: 0, to: &bytes)
            bytes.writeMultipleIntegers(last, code.rawValue)
            bytes.writeString(text)
        }
    }

    // MARK: Fields

    func writeHeaders(_ fields: AnswerField..., of stream: UInt32, isEnd: Bool = false) {
        writeHeaders(of: stream, isEnd: isEnd) { write in for field in fields { write(field) } }
    }

    /// Writes a block of fields; `write` is given what adds one.
    func writeHeaders(of stream: UInt32, isEnd: Bool = false, _ write: ((AnswerField) -> Void) -> Void) {
        let flags = Flag.endHeaders | (isEnd ? Flag.endStream : 0)
        gather { bytes in
            let start = bytes.writerIndex
            Self.writeHead(0, type: FrameType.headers, flags: flags, stream: stream, to: &bytes)
            let begin = bytes.writerIndex
            var isFirst = true
            write { field in
                encoder.write(field, isFirst: isFirst, to: &bytes)
                isFirst = false
            }
            let length = bytes.writerIndex - begin
            if length <= HTTP2FrameCutter.contentBytesMax {
                bytes.setInteger(UInt32(length) << 8 | UInt32(FrameType.headers), at: start)
            } else {
                Self.split(from: start, flags: flags, stream: stream, &bytes)
            }
        }
    }

    /// Cuts a block that is too long for one frame.
    private static func split(from start: Int, flags: UInt8, stream: UInt32, _ bytes: inout ByteBuffer) {
        let begin = start + HTTP2FrameCutter.headBytes
        guard var block = bytes.getSlice(at: begin, length: bytes.writerIndex - begin) else { return }
        bytes.moveWriterIndex(to: start)
        var type = FrameType.headers
        var flags = flags & ~Flag.endHeaders
        while let part = block.readSlice(length: min(block.readableBytes, HTTP2FrameCutter.contentBytesMax)),
            part.readableBytes > 0
        {
            if block.readableBytes == 0 { flags |= Flag.endHeaders }
            writeHead(part.readableBytes, type: type, flags: flags, stream: stream, to: &bytes)
            bytes.writeImmutableBuffer(part)
            (type, flags) = (FrameType.continuation, 0)
        }
    }

    // MARK: DATA

    /// Sends bytes of an answer, as far as the client's windows let it now; the rest waits for them.
    func send(_ bytes: ByteBuffer, of stream: HTTP2Stream) {
        guard bytes.readableBytes > 0 else { return }
        var rest = bytes
        if stream.waiting.isEmpty { writeData(&rest, of: stream, isLast: false) }
        if rest.readableBytes > 0 { wait(rest, stream) }
    }

    private func wait(_ bytes: ByteBuffer, _ stream: HTTP2Stream) {
        stream.waiting.append(bytes)
        stream.waitingBytes += bytes.readableBytes
        waitingBytes += bytes.readableBytes
        queue(stream)
    }

    /// Ends what is sent on a stream, once what waits has been sent.
    func finish(_ stream: HTTP2Stream, _ ending: HTTP2Stream.Ending) {
        guard stream.waiting.isEmpty else { return stream.ending = ending }
        if case .trailers(let status) = ending {
            writeHeaders(of: stream.number, isEnd: true) { status.writeTrailers($0) }
        }
        outputClosed(stream)
    }

    /// Sends the bytes with which a stream ends.
    func sendLast(_ bytes: ByteBuffer, of stream: HTTP2Stream) {
        var rest = bytes
        writeData(&rest, of: stream, isLast: true)
        guard rest.readableBytes > 0 else { return outputClosed(stream) }
        stream.ending = .data
        wait(rest, stream)
    }

    /// All of the answer is written.
    func outputClosed(_ stream: HTTP2Stream) {
        stream.isOutputClosed = true
        // The client is still sending: it may stop.
        if !stream.isInputClosed { writeReset(stream.number, .noError) }
        close(stream)
    }

    /// Writes as many frames as the windows let it.
    /// - Parameter isLast: the stream ends with these bytes.
    private func writeData(
        _ bytes: inout ByteBuffer, of stream: HTTP2Stream, isLast: Bool, framesMax: Int = .max
    ) {
        var frames = 0
        while bytes.readableBytes > 0, frames < framesMax {
            let length = min(
                bytes.readableBytes, HTTP2FrameCutter.contentBytesMax, sendWindow, stream.sendWindow)
            guard length > 0, let part = bytes.readSlice(length: length) else { return }
            sendWindow -= length
            stream.sendWindow -= length
            frames += 1
            gather { output in
                Self.writeHead(
                    length, type: FrameType.data, flags: isLast && bytes.readableBytes == 0 ? Flag.endStream : 0,
                    stream: stream.number, to: &output)
                if length < Self.detachedBytesMin { output.writeImmutableBuffer(part) }
            }
            guard length >= Self.detachedBytesMin, let context = channelContext else { continue }
            handOnOutput()
            output = ByteBuffer()
            isOutputHandedOn = false
            context.write(wrapOutboundOut(part), promise: nil)
        }
    }

    /// Has a stream sent from when the connection's window opens.
    private func queue(_ stream: HTTP2Stream) {
        guard !stream.isQueued, stream.sendWindow > 0 else { return }
        stream.isQueued = true
        queued.append(stream)
    }

    /// Sends what waits, a frame of each stream in turn.
    private func sendWaiting() {
        while sendWindow > 0, let stream = queued.popFirst() {
            stream.isQueued = false
            guard streams[stream.id] === stream, var bytes = stream.waiting.first else { continue }
            let before = bytes.readableBytes
            let isLast = if case .data? = stream.ending { stream.waiting.count == 1 } else { false }
            writeData(&bytes, of: stream, isLast: isLast, framesMax: 1)
            let sent = before - bytes.readableBytes
            stream.waitingBytes -= sent
            waitingBytes -= sent
            if bytes.readableBytes > 0 {
                stream.waiting[0] = bytes
            } else {
                stream.waiting.removeFirst()
            }
            guard stream.waiting.isEmpty, let ending = stream.ending else {
                if !stream.waiting.isEmpty { queue(stream) }
                continue
            }
            stream.ending = nil
            finish(stream, ending)
        }
    }

    /// The client takes more of a stream.
    func windowOpened(of stream: HTTP2Stream) {
        if !stream.waiting.isEmpty {
            queue(stream)
            sendWaiting()
            flushLater()
        }
        if let call = stream as? GRPCCall, call.isBlocked, call.sendWindow > call.waitingBytes { pumpLater() }
    }

    /// The client takes more of all streams together.
    func windowOpened() {
        if !queued.isEmpty {
            sendWaiting()
            flushLater()
        }
        if sendWindow > waitingBytes { pumpLater() }
    }
}
