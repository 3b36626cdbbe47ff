import FoundationEssentials
import MartletAccess
import MartletFrameCodec
import MartletHTTP2Transport
import MartletModel
import MartletService
import MartletStorage
import MartletStorageMemory
import MartletTenants
import MartletTesting
import NIOCore
import NIOEmbedded
import NIOHPACK
import NIOHTTP2

/// A connection of HTTP/2 of a server without threads, and the peer at its other end, which gives no window but what it is
/// told to give.
final class HTTP2Peer {
    final class Warrant: ConnectionWarrant {
        var fault_: MartletError?
        func establish() -> MartletError? { nil }
        func fault() -> MartletError? { fault_ }
        func recheck() -> MartletError? { fault_ }
    }

    /// What came of a stream.
    struct Answer {
        var headers: [HPACKHeaders] = []
        var bytes = ByteBuffer()
        var isEnded = false
        var reset: HTTP2ErrorCode?

        /// The messages that are whole.
        var messages: [ByteBuffer] {
            var rest = bytes
            var messages: [ByteBuffer] = []
            while let length: UInt32 = rest.getInteger(at: rest.readerIndex + 1),
                rest.readableBytes >= 5 + Int(length)
            {
                rest.moveReaderIndex(forwardBy: 5)
                if let message = rest.readSlice(length: Int(length)) { messages.append(message) }
            }
            return messages
        }

        /// The code that it ended with; nil while it is open.
        var code: StatusCode? {
            guard isEnded, let text = headers.last?.first(name: "grpc-status") else { return nil }
            return UInt32(text).map { StatusCode(rawValue: $0) }
        }

        var message: String { headers.last?.first(name: "grpc-message") ?? "" }
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = HTTP2Frame
        var frames: [HTTP2Frame] = []
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { frames.append(unwrapInboundIn(data)) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) {}
    }

    let loop: EmbeddedEventLoop
    let service: EventService
    let warrant = Warrant()
    private let hands: StorageHands
    private let server: EmbeddedChannel
    private let client: EmbeddedChannel
    private let connection: HTTP2Connection
    private let collector = Collector()
    private var answers: [UInt64: Answer] = [:]
    private var lastStream = -1
    /// What came on the connection.
    private(set) var goAways: [(last: HTTP2StreamID, code: HTTP2ErrorCode, text: String)] = []
    /// What the server lets the peer send, beyond what HTTP/2 begins with.
    private(set) var windowUpdates: [UInt64: Int] = [:]

    /// - Parameter window: what each stream takes in the beginning.
    init(
        _ limits: Limits = Limits(), window: Int = 1 << 20, principal: Principal? = .anybody,
        services: [GRPCService] = GRPCService.martlet
    ) throws {
        server = EmbeddedChannel()
        loop = server.embeddedEventLoop
        client = EmbeddedChannel(loop: loop)
        (service, hands) = try EventService.startByHand(
            engine: MemoryEngine(), limits: limits, serverVersion: "1", clock: { Timestamp(microseconds: 1) },
            logger: .silent, uptime: { .uptimeNanoseconds(0) })
        connection = HTTP2Connection(service: service, services: GRPCServices(services), eventLoop: loop)
        try server.pipeline.syncOperations.addHandlers([connection.makeFrameGuard(), connection])
        let settings: HTTP2Settings = [HTTP2Setting(parameter: .initialWindowSize, value: window)]
        try client.pipeline.syncOperations.addHandlers([
            NIOHTTP2Handler(mode: .client, initialSettings: settings), collector,
        ])
        for channel in [server, client] {
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        }
        service.connectionOpened(connection, eventLoop: loop)
        if let principal {
            connection.open(principal, warrant: warrant)
        } else {
            connection.refuse(Principal.certificateMissing)
        }
        try run()
    }

    deinit {
        _ = try? client.finish(acceptAlreadyClosed: true)
        _ = try? server.finish(acceptAlreadyClosed: true)
        service.release()
    }

    var holder: FairPool.Holder { .connection(ObjectIdentifier(connection)) }
    var isOpen: Bool { server.isActive }

    func drain() throws {
        connection.drain()
        try run()
    }

    func advance(_ time: TimeAmount) throws {
        loop.advanceTime(by: time)
        try run()
    }

    // MARK: What the peer sends

    func write(_ frame: HTTP2Frame) throws {
        client.writeAndFlush(frame, promise: nil)
        try run()
    }

    /// Begins calls by what comes in one read, and takes in the first turn of it.
    func beginTogether(_ count: Int, _ path: String, _ fields: [(String, String)]) throws {
        for _ in 0..<count {
            lastStream += 2
            let payload = HTTP2Frame.FramePayload.headers(.init(headers: Self.request(path, fields)))
            client.write(HTTP2Frame(streamID: HTTP2StreamID(lastStream), payload: payload), promise: nil)
        }
        client.flush()
        var together = ByteBuffer()
        while let bytes = try client.readOutbound(as: ByteBuffer.self) { together.writeImmutableBuffer(bytes) }
        try server.writeInbound(together)
    }

    private static func request(_ path: String, _ fields: [(String, String)]) -> HPACKHeaders {
        var headers: HPACKHeaders = [
            ":method": "POST", ":scheme": "https", ":path": path, ":authority": "localhost", "te": "trailers",
            "content-type": "application/grpc",
        ]
        headers.add(contentsOf: fields)
        return headers
    }

    /// Begins a call.
    func begin(_ path: String, _ fields: [(String, String)] = []) throws -> UInt64 {
        lastStream += 2
        let headers = Self.request(path, fields)
        try write(HTTP2Frame(streamID: HTTP2StreamID(lastStream), payload: .headers(.init(headers: headers))))
        return UInt64(lastStream)
    }

    func send(_ bytes: ByteBuffer, on stream: UInt64, isLast: Bool = false) throws {
        let payload = HTTP2Frame.FramePayload.data(.init(data: .byteBuffer(bytes), endStream: isLast))
        try write(HTTP2Frame(streamID: HTTP2StreamID(Int(stream)), payload: payload))
    }

    func send(message: ByteBuffer, flag: UInt8 = 0, on stream: UInt64, isLast: Bool = false) throws {
        try send(Self.prefixed(message, flag: flag), on: stream, isLast: isLast)
    }

    static func prefixed(_ message: ByteBuffer, flag: UInt8 = 0) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeInteger(flag)
        bytes.writeInteger(UInt32(message.readableBytes))
        bytes.writeImmutableBuffer(message)
        return bytes
    }

    /// Makes a call of one message.
    func call(_ path: String, _ message: ByteBuffer, _ fields: [(String, String)] = []) throws -> UInt64 {
        let stream = try begin(path, fields)
        try send(message: message, on: stream, isLast: true)
        return stream
    }

    func append(_ request: AppendRequest) throws -> UInt64 {
        try call("/martlet.v1.AppendService/Append", BareMessages.encode(.append(request)).message)
    }

    /// Takes so much more of a stream; 0 is the connection.
    func giveWindow(_ bytes: Int, on stream: UInt64) throws {
        try write(
            HTTP2Frame(
                streamID: HTTP2StreamID(Int(stream)), payload: .windowUpdate(windowSizeIncrement: bytes)))
    }

    func reset(_ stream: UInt64) throws {
        try write(HTTP2Frame(streamID: HTTP2StreamID(Int(stream)), payload: .rstStream(.cancel)))
    }

    // MARK: What comes

    func answer(_ stream: UInt64) -> Answer { answers[stream] ?? Answer() }

    /// Has everything done that is to be done now.
    func run() throws {
        var isBusy = true
        while isBusy {
            isBusy = false
            loop.run()
            while let bytes = try client.readOutbound(as: ByteBuffer.self) {
                try server.writeInbound(bytes)
                isBusy = true
            }
            while let bytes = try server.readOutbound(as: ByteBuffer.self) {
                try client.writeInbound(bytes)
                isBusy = true
            }
            while hands.commitOne() || hands.readOne() { isBusy = true }
        }
        for frame in collector.frames { take(frame) }
        collector.frames = []
    }

    private func take(_ frame: HTTP2Frame) {
        let stream = UInt64(Int(frame.streamID))
        switch frame.payload {
        case .headers(let content):
            answers[stream, default: Answer()].headers.append(content.headers)
            if content.endStream { answers[stream]?.isEnded = true }
        case .data(let content):
            guard case .byteBuffer(let bytes) = content.data else { return }
            answers[stream, default: Answer()].bytes.writeImmutableBuffer(bytes)
            if content.endStream { answers[stream]?.isEnded = true }
        case .rstStream(let code): answers[stream, default: Answer()].reset = code
        case .goAway(let last, let code, let data):
            goAways.append((last, code, data.map { String(buffer: $0) } ?? ""))
        case .windowUpdate(let bytes): windowUpdates[stream, default: 0] += bytes
        default: break
        }
    }
}
