import Foundation
import MartletFrameCodec
import MartletClient
import MartletModel
import MartletRecordCodec
import MartletTLSOpenSSL
import NIOConcurrencyHelpers
import NIOCore
import NIOHPACK
import NIOHTTP2
import NIOPosix

/// A client that speaks gRPC, for tests: one connection, each call a stream of it, answers taken as they come.
public final class GRPCPeer: CallPeer {
    private let channel: any Channel
    private let multiplexer: NIOHTTP2Handler.StreamMultiplexer
    private let session = NIOLockedValueBox<AppendSession?>(nil)
    private let appendCount = NIOLockedValueBox(0)

    private init(_ channel: any Channel, _ multiplexer: NIOHTTP2Handler.StreamMultiplexer) {
        self.channel = channel
        self.multiplexer = multiplexer
    }

    /// Connects to a server of this process.
    public static func connect(to server: TestServer) async throws -> GRPCPeer {
        var tls = server.clientConfiguration.tls
        tls.alpn = ["h2"]
        let context = try TLSClientContext(tls)
        let multiplexer = NIOLockedValueBox<NIOHTTP2Handler.StreamMultiplexer?>(nil)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(context.makeHandler())
                    var streams = NIOHTTP2Handler.StreamConfiguration()
                    streams.targetWindowSize = 1 << 20
                    let made = try pipeline.configureHTTP2Pipeline(
                        mode: .client, connectionConfiguration: .init(), streamConfiguration: streams,
                        inboundStreamInitializer: { $0.close() })
                    multiplexer.withLockedValue { $0 = made }
                }
            }
            .connect(host: "127.0.0.1", port: server.port).get()
        guard let made = multiplexer.withLockedValue({ $0 }) else { throw ConformanceFailure("there is no connection") }
        return GRPCPeer(channel, made)
    }

    /// Runs `body` with a peer, which is closed afterwards.
    public static func with<Result: Sendable>(
        _ server: TestServer, _ body: @Sendable (GRPCPeer) async throws -> Result
    ) async throws -> Result {
        let peer = try await connect(to: server)
        do {
            let result = try await body(peer)
            await peer.close()
            return result
        } catch {
            await peer.close()
            throw error
        }
    }

    /// Closes the connection.
    public func close() async { try? await channel.close() }

    // MARK: Calls

    func open(_ request: CallRequest, creditBytes: UInt64, timeout: Duration?) -> ServiceCall {
        let (parts, continuation) = AsyncStream.makeStream(of: ServiceCall.Part.self)
        if case .append = request, isForSession(request) {
            let session = appendSession()
            session.append(request, continuation)
            return ServiceCall(parts: parts, addCredit: { _ in }, say: { _ in }, cancel: {})
        }
        let (kind, message) = BareMessages.encode(request)
        guard let kind, let path = Self.paths[kind] else { preconditionFailure("every request has a method") }
        let isWorker = kind == .consume
        let stream = start(path, timeout) { part in
            switch part {
            case .message(let bytes):
                do throws(MartletError) {
                    let answer = try BareMessages.answer(bytes, to: kind, limits: Self.limits)
                    continuation.yield(.message(answer))
                } catch { continuation.yield(.end(error)) }
            case .end(let error):
                continuation.yield(.end(error))
                continuation.finish()
            }
        }
        stream.send(isWorker ? Self.wrap(message, field: 1) : message, isLast: !isWorker)
        if isWorker { stream.sayAlive() }
        return ServiceCall(
            parts: parts, addCredit: { _ in },
            say: { stream.send(Self.wrap(BareMessages.encode([$0]), field: 2), isLast: false) },
            cancel: { stream.cancel() })
    }

    /// The bytes of a frame, and of what they hold, are those of the server under test.
    private static let limits = Limits()

    private static func wrap(_ message: ByteBuffer, field: UInt32) -> ByteBuffer {
        var wrapped = ByteBuffer()
        wrapped.writeField(field, length: message.readableBytes)
        wrapped.writeImmutableBuffer(message)
        return wrapped
    }

    /// Every other append goes through a session, and those that ask for events must: trailers hold none.
    private func isForSession(_ request: CallRequest) -> Bool {
        guard case .append(let append) = request else { return false }
        let count = appendCount.withLockedValue { count in
            count += 1
            return count
        }
        return append.includeConflictingEvents || count % 2 == 0
    }

    private func appendSession() -> AppendSession {
        session.withLockedValue { session in
            if let session { return session }
            let made = AppendSession { [self] take in
                start("/martlet.v1.AppendService/AppendSession", nil, take)
            }
            session = made
            return made
        }
    }

    /// What a stream brings.
    fileprivate enum Part {
        case message(ByteBuffer)
        case end(MartletError?)
    }

    private func start(_ path: String, _ timeout: Duration?, _ take: @escaping @Sendable (Part) -> Void) -> PeerStream {
        let stream = PeerStream(path, timeout, take)
        multiplexer.createStreamChannel { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(PeerStream.Handler(stream, take))
            }
        }.whenComplete { result in
            switch result {
            case .success(let channel): stream.open(channel)
            case .failure: take(.end(.closed))
            }
        }
        return stream
    }

    private static let paths: [RequestKind: String] = [
        .append: "AppendService/Append", .load: "QueryService/Load", .read: "QueryService/Read",
        .subscribe: "SubscribeService/Subscribe", .getHead: "QueryService/GetHead",
        .getServerInfo: "AdminService/GetServerInfo", .getStatus: "AdminService/GetStatus",
        .saveSnapshot: "SnapshotService/SaveSnapshot",
        .loadSnapshot: "SnapshotService/LoadSnapshot", .listSnapshots: "SnapshotService/ListSnapshots",
        .deleteSnapshots: "SnapshotService/DeleteSnapshots", .putSettings: "SettingsService/PutSettings",
        .getSettings: "SettingsService/GetSettings", .putConsumer: "ConsumerService/PutConsumer",
        .getConsumer: "ConsumerService/GetConsumer", .listConsumers: "ConsumerService/ListConsumers",
        .deleteConsumer: "ConsumerService/DeleteConsumer", .resetConsumer: "ConsumerService/ResetConsumer",
        .listBlockedKeys: "ConsumerService/ListBlockedKeys", .unblockKeys: "ConsumerService/UnblockKeys",
        .awaitConsumer: "ConsumerService/AwaitConsumer", .consume: "ConsumerService/Consume",
        .changeSchedules: "ScheduleService/ChangeSchedules", .listSchedules: "ScheduleService/ListSchedules",
    ].mapValues { "/martlet.v1.\($0)" }
}

/// The appends of a peer that go through one stream.
private final class AppendSession: Sendable {
    private struct State {
        var last: UInt64 = 0
        var open: [UInt64: AsyncStream<ServiceCall.Part>.Continuation] = [:]
    }

    private let state = NIOLockedValueBox(State())
    private let stream = NIOLockedValueBox<PeerStream?>(nil)

    init(_ start: (@escaping @Sendable (GRPCPeer.Part) -> Void) -> PeerStream) {
        let made = start { [state] in Self.take($0, state) }
        stream.withLockedValue { $0 = made }
    }

    func append(_ request: CallRequest, _ continuation: AsyncStream<ServiceCall.Part>.Continuation) {
        // In the order of their numbers.
        state.withLockedValue { state in
            state.last += 1
            state.open[state.last] = continuation
            var message = ByteBuffer()
            message.writeVarint(1 << 3)
            message.writeVarint(state.last)
            let append = BareMessages.encode(request).message
            message.writeField(2, length: append.readableBytes)
            message.writeImmutableBuffer(append)
            stream.withLockedValue { $0?.send(message, isLast: false) }
        }
    }

    private static func take(_ part: GRPCPeer.Part, _ state: NIOLockedValueBox<State>) {
        switch part {
        case .message(let message):
            var requestID: UInt64 = 0
            var outcome = ServiceCall.Part.end(.noAnswer)
            for field in PeerStream.fields(of: message) {
                switch field.number {
                case 1: requestID = field.varint
                case 2:
                    if let answer = try? BareMessages.answer(field.content, to: .append, limits: Limits()) {
                        outcome = .message(answer)
                    }
                case 3:
                    if let error = try? BareMessages.callStatus(decoding: field.content, limits: Limits()) {
                        outcome = .end(error)
                    }
                default: break
                }
            }
            let continuation = state.withLockedValue { $0.open.removeValue(forKey: requestID) }
            continuation?.yield(outcome)
            continuation?.finish()
        case .end(let error):
            let open = state.withLockedValue { state in
                defer { state.open = [:] }
                return state.open.values
            }
            for continuation in open {
                continuation.yield(.end(error ?? .closed))
                continuation.finish()
            }
        }
    }
}

/// One call of a peer.
private final class PeerStream: Sendable {
    private struct State {
        var channel: (any Channel)?
        var waiting: [(ByteBuffer, Bool)] = []
        var isCancelled = false
    }

    private let path: String
    private let timeout: Duration?
    private let state = NIOLockedValueBox(State())

    init(_ path: String, _ timeout: Duration?, _ take: @escaping @Sendable (GRPCPeer.Part) -> Void) {
        self.path = path
        self.timeout = timeout
    }

    func open(_ channel: any Channel) {
        var headers: HPACKHeaders = [
            ":method": "POST", ":scheme": "https", ":path": path, ":authority": "localhost", "te": "trailers",
            "content-type": "application/grpc",
        ]
        if let timeout { headers.add(name: "grpc-timeout", value: "\(TimeAmount(timeout).nanoseconds / 1_000)u") }
        channel.write(HTTP2Frame.FramePayload.headers(.init(headers: headers)), promise: nil)
        state.withLockedValue { state in
            state.channel = channel
            for (message, isLast) in state.waiting { Self.write(message, isLast, to: channel) }
            state.waiting = []
            channel.flush()
            if state.isCancelled { channel.close(promise: nil) }
        }
    }

    func send(_ message: ByteBuffer, isLast: Bool) {
        state.withLockedValue { state in
            guard let channel = state.channel else { return state.waiting.append((message, isLast)) }
            Self.write(message, isLast, to: channel)
            channel.flush()
        }
    }

    private static func write(_ message: ByteBuffer, _ isLast: Bool, to channel: any Channel) {
        var prefixed = ByteBuffer()
        prefixed.writeInteger(UInt8(0))
        prefixed.writeInteger(UInt32(message.readableBytes))
        prefixed.writeImmutableBuffer(message)
        channel.write(
            HTTP2Frame.FramePayload.data(.init(data: .byteBuffer(prefixed), endStream: isLast)), promise: nil)
    }

    /// Says now and then that the worker is there.
    func sayAlive() {
        let alive = BareMessages.encode([.alive])
        var message = ByteBuffer()
        message.writeField(2, length: alive.readableBytes)
        message.writeImmutableBuffer(alive)
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        loop.scheduleRepeatedTask(initialDelay: .seconds(3), delay: .seconds(3)) { [weak self, message] task in
            guard let self, !self.state.withLockedValue({ $0.isCancelled }) else { return task.cancel() }
            self.send(message, isLast: false)
        }
    }

    func cancel() {
        state.withLockedValue { state in
            state.isCancelled = true
            state.channel?.close(promise: nil)
        }
    }

    /// The fields of a message, with what the length-delimited ones hold.
    static func fields(of message: ByteBuffer) -> [(number: UInt32, varint: UInt64, content: ByteBuffer)] {
        var walk = LenientFields(0..<message.readableBytes)
        var found: [(UInt32, UInt64, ByteBuffer)] = []
        while true {
            let next = unsafe message.withUnsafeReadableBytes { bytes in
                let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
                return unsafe walk.next(in: typed.span)
            }
            guard let field = next else { return found }
            let content = field.content.flatMap {
                message.getSlice(at: message.readerIndex + $0.lowerBound, length: $0.count)
            }
            found.append((field.number, field.varint ?? 0, content ?? ByteBuffer()))
        }
    }

    /// Takes what comes of the call.
    final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTP2Frame.FramePayload

        private let stream: PeerStream
        private let take: @Sendable (GRPCPeer.Part) -> Void
        private var buffer = ByteBuffer()
        private var isOver = false

        init(_ stream: PeerStream, _ take: @escaping @Sendable (GRPCPeer.Part) -> Void) {
            self.stream = stream
            self.take = take
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .headers(let content): if content.endStream { finish(content.headers) }
            case .data(let content):
                guard case .byteBuffer(var bytes) = content.data else { return }
                buffer.writeBuffer(&bytes)
                while let length: UInt32 = buffer.getInteger(at: buffer.readerIndex + 1),
                    buffer.readableBytes >= 5 + Int(length)
                {
                    buffer.moveReaderIndex(forwardBy: 5)
                    if let message = buffer.readSlice(length: Int(length)) { take(.message(message)) }
                }
            default: break
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            end(.closed)
            context.fireChannelInactive()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        private func end(_ error: MartletError?) {
            guard !isOver else { return }
            isOver = true
            take(.end(error))
        }

        private func finish(_ headers: HPACKHeaders) {
            let code = headers.first(name: "grpc-status").flatMap { UInt32($0) } ?? 2
            guard code != 0 else { return end(nil) }
            let message = headers.first(name: "grpc-message").flatMap(\.removingPercentEncoding) ?? ""
            end(error(StatusCode(rawValue: code), message, headers.first(name: "grpc-status-details-bin") ?? ""))
        }

        /// What the trailers say, which must agree with one another.
        private func error(_ code: StatusCode, _ message: String, _ details: String) -> MartletError {
            func broken(_ what: String) -> MartletError {
                MartletError(.internal, reason: .internalError, message: "the trailers hold \(what): \(details)")
            }
            guard details.utf8.count <= 4_096 else { return broken("more than 4 KiB of details") }
            let padded = details + String(repeating: "=", count: (4 - details.utf8.count % 4) % 4)
            guard let bytes = Data(base64Encoded: padded) else { return broken("no base64") }
            let status = PeerStream.fields(of: ByteBuffer(bytes: bytes))
            guard status.first(where: { $0.number == 1 })?.varint == UInt64(code.rawValue) else {
                return broken("another code")
            }
            var details: [String: ByteBuffer] = [:]
            for any in status where any.number == 3 {
                let fields = PeerStream.fields(of: any.content)
                guard let type = fields.first(where: { $0.number == 1 }) else { return broken("no type") }
                details[String(buffer: type.content)] = fields.first { $0.number == 2 }?.content ?? ByteBuffer()
            }
            let prefix = "type.googleapis.com/"
            guard let ours = details["\(prefix)martlet.v1.CallStatus"],
                let error = try? BareMessages.callStatus(decoding: ours, limits: Limits()),
                let info = details["\(prefix)google.rpc.ErrorInfo"].map({ PeerStream.fields(of: $0) }),
                let reason = info.first(where: { $0.number == 1 }).map({ String(buffer: $0.content) })
            else { return broken("no details of ours") }
            guard error.code == code, error.reason.rawValue == reason else { return broken("another reason") }
            guard error.isRetryable == (details["\(prefix)google.rpc.RetryInfo"] != nil) else {
                return broken("RetryInfo where there is none to be, or none")
            }
            return MartletError(
                code, reason: error.reason, message: message, isRetryable: error.isRetryable,
                conflicts: error.conflicts, reusedEventIDs: error.reusedEventIDs, limit: error.limit,
                failedUpcast: error.failedUpcast, comparablePosition: error.comparablePosition,
                conflictsCount: error.conflictsCount, reusedEventIDsCount: error.reusedEventIDsCount)
        }
    }
}
