import MartletFrameCodec
import MartletModel
import MartletSession
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A peer that sends whole floods, keeps count of what comes back, and stops reading when told to.
final class AttackPeer: Sendable {
    /// Floods and what answers them stay off the loop that measures times.
    private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    private let channel: any Channel
    private let log: NIOLockedValueBox<AttackLog>

    private init(channel: any Channel, log: NIOLockedValueBox<AttackLog>) {
        self.channel = channel
        self.log = log
    }

    /// Connects with TLS and says hello.
    static func connect(port: Int, on group: MultiThreadedEventLoopGroup = AttackPeer.group) async throws -> AttackPeer
    {
        let context = try TLSClientContext(
            TLSClientConfiguration(
                caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"))
        let log = NIOLockedValueBox(AttackLog())
        let channel = try await ClientBootstrap(group: group)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(context.makeHandler())
                    try channel.pipeline.syncOperations.addHandler(AttackHandler(log: log))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        let peer = AttackPeer(channel: channel, log: log)
        try await peer.send([ClientFrame(.connection, .hello(Hello(clientName: "attack")))])
        guard try await peer.waits(seconds: 10, until: { $0.isWelcome }) else {
            throw ProcessFailure("no welcome came")
        }
        return peer
    }

    /// What came back so far.
    var received: AttackLog { log.withLockedValue { $0 } }

    /// Writes the frames in one go.
    func send(_ frames: [ClientFrame]) async throws {
        var buffer = ByteBuffer()
        for frame in frames { ClientFrameCodec.encode(frame, to: &buffer) }
        try await send(bytes: buffer)
    }

    func send(bytes: ByteBuffer) async throws { try await channel.writeAndFlush(bytes).get() }

    /// Writes without waiting until the socket takes the bytes.
    func push(_ frames: [ClientFrame]) {
        var buffer = ByteBuffer()
        for frame in frames { ClientFrameCodec.encode(frame, to: &buffer) }
        push(bytes: buffer)
    }

    func push(bytes: ByteBuffer) { channel.writeAndFlush(bytes, promise: nil) }

    /// Opens calls with the ids from `first` on.
    func call(_ requests: [CallRequest], from first: UInt64 = 1, creditBytes: UInt64 = 0) async throws {
        try await send(Self.frames(requests, from: first, creditBytes: creditBytes))
    }

    static func frames(
        _ requests: [CallRequest], from first: UInt64 = 1, creditBytes: UInt64 = 0
    ) -> [ClientFrame] {
        requests.enumerated().map { index, request in
            ClientFrame(CallID(first + UInt64(index)), .request(request), creditBytes: creditBytes)
        }
    }

    static func encode(_ frame: ClientFrame, to buffer: inout ByteBuffer) {
        ClientFrameCodec.encode(frame, to: &buffer)
    }

    func stopReading() async throws { try await channel.setOption(.autoRead, value: false).get() }

    func readAgain() async throws { try await channel.setOption(.autoRead, value: true).get() }

    /// Waits for a state of what came back.
    /// - Returns: false where that does not come in time, or the server closes the connection before.
    func waits(seconds: Double, until isDone: (AttackLog) -> Bool) async throws -> Bool {
        try await waits(seconds: seconds, checking: { true }, until: isDone)
    }

    /// - Parameter isWorthwhile: ends the wait where it is not.
    func waits(
        seconds: Double, checking isWorthwhile: () throws -> Bool, until isDone: (AttackLog) -> Bool
    ) async throws -> Bool {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            let (isOver, isClosed) = log.withLockedValue { (isDone($0), $0.isClosed) }
            if isOver { return true }
            guard !isClosed, ContinuousClock.now < end, try isWorthwhile() else { return false }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    func close() { channel.close(promise: nil) }
}

/// What a server sent to a peer.
struct AttackLog: Sendable {
    var isWelcome = false
    var isClosed = false
    /// Why the server closes the connection.
    var fault: MartletError?
    /// The last status of each call that ended with one; nil is OK.
    var statuses: [CallID: MartletError?] = [:]
    /// Calls that ended with an answer.
    var answered: Set<CallID> = []
    /// Calls that got an end twice, or anything after their end.
    var doubled: Set<CallID> = []
    /// Parts with events, and those events, by call.
    var parts: [CallID: Int] = [:]
    var events: [CallID: Int] = [:]
    var entryBytes: [CallID: Int] = [:]
    /// The credit that a stream last said it waits for.
    var waitingBytes: [CallID: UInt64] = [:]
    var caughtUp: Set<CallID> = []
    var pongs = 0
    /// The message in the largest frame, beyond the limit or not.
    var largestFrameBytes = 0

    /// Calls that are over.
    var endCount: Int { answered.count + statuses.count }

    mutating func add(_ frame: ServerFrame) {
        let id = frame.callID
        guard id != .connection else { return addConnectionFrame(frame.body) }
        if answered.contains(id) || statuses[id] != nil { doubled.insert(id) }
        switch frame.body {
        case .status(let error): statuses[id] = .some(error)
        case .message(.load(let entries, _)), .message(.read(let entries, _)): addPart(id, entries)
        case .message(.subscribe(let message)):
            addPart(id, message.entries)
            switch message.signal {
            case .caughtUp: caughtUp.insert(id)
            case .heartbeat(_, let bytes) where bytes > 0: waitingBytes[id] = bytes
            default: break
            }
        case .message(.loadWaits(let bytes)), .message(.readWaits(let bytes)): waitingBytes[id] = bytes
        case .message: answered.insert(id)
        case .welcome, .goAway, .ping, .pong: break
        }
    }

    private mutating func addPart(_ id: CallID, _ entries: ByteBuffer) {
        guard entries.readableBytes > 0 else { return }
        parts[id, default: 0] += 1
        entryBytes[id, default: 0] += entries.readableBytes
        events[id, default: 0] += Self.eventCount(entries)
    }

    /// Entries are fields of a message: a byte of key, the length, and so many bytes.
    private static func eventCount(_ entries: ByteBuffer) -> Int {
        var (rest, count) = (entries, 0)
        while rest.readInteger(as: UInt8.self) != nil {
            var (length, shift) = (0, 0)
            while let byte = rest.readInteger(as: UInt8.self) {
                length |= Int(byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 { break }
            }
            guard rest.readSlice(length: length) != nil else { return count }
            count += 1
        }
        return count
    }

    private mutating func addConnectionFrame(_ body: ServerFrame.Body) {
        switch body {
        case .welcome: isWelcome = true
        case .pong: pongs += 1
        case .status(let error): fault = error
        default: break
        }
    }
}

/// Cuts frames of any length, answers pings, and keeps the log.
private final class AttackHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let log: NIOLockedValueBox<AttackLog>
    private var bytes = ByteBuffer()
    /// Of a message beyond the limit: so much of it is still to come.
    private var bytesToSkip = 0
    private let limits: Limits

    init(log: NIOLockedValueBox<AttackLog>) {
        self.log = log
        var limits = Limits()
        limits.frameBytesMax = 1 << 30
        self.limits = limits
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var data = unwrapInboundIn(data)
        if bytes.readableBytes == 0 { bytes = data } else { bytes.writeBuffer(&data) }
        while let message = nextMessage() {
            guard let frame = try? ServerFrameCodec.decode(message, limits: limits) else { continue }
            if case .ping(let token) = frame.body {
                var pong = ByteBuffer()
                ClientFrameCodec.encode(ClientFrame(.connection, .pong(token)), to: &pong)
                context.writeAndFlush(wrapOutboundOut(pong), promise: nil)
            }
            log.withLockedValue { $0.add(frame) }
        }
    }

    private func nextMessage() -> ByteBuffer? {
        if bytesToSkip > 0 {
            let skipped = min(bytesToSkip, bytes.readableBytes)
            bytes.moveReaderIndex(forwardBy: skipped)
            bytesToSkip -= skipped
            if bytesToSkip > 0 { return nil }
        }
        guard let length = bytes.getInteger(at: bytes.readerIndex + 1, as: UInt32.self).map(Int.init) else {
            return nil
        }
        log.withLockedValue { $0.largestFrameBytes = max($0.largestFrameBytes, length) }
        if length > Limits().frameBytesMax {
            bytes.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
            bytesToSkip = length
            return nextMessage()
        }
        guard bytes.readableBytes >= FrameDecoder.prefixBytes + length else { return nil }
        bytes.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
        defer { bytes.discardReadBytes() }
        return bytes.readSlice(length: length)
    }

    func channelInactive(context: ChannelHandlerContext) { log.withLockedValue { $0.isClosed = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
