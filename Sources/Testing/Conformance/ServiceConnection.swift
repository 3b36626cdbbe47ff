import MartletAccess
import MartletModel
import MartletService
import NIOConcurrencyHelpers
import NIOCore

/// A connection to a service in this process: what a transport does, without frames and sockets.
final class ServiceConnection: CallPeer {
    private let eventLoop: any EventLoop
    private let desk: NIOLoopBoundBox<Desk?>
    private let lastKey = NIOLockedValueBox<CallKey>(0)

    init(_ service: EventService, on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        desk = .makeEmptyBox(eventLoop: eventLoop)
        eventLoop.execute { [desk] in
            let opened = Desk(service, eventLoop)
            desk.value = opened
            opened.begin(every: .milliseconds(Int64(service.limits.consumerLeaseMillis) / 3)) { desk.value?.sayAlive() }
        }
    }

    /// The connection is gone: its calls end.
    func close() async {
        let desk = desk
        _ = try? await eventLoop.submit {
            desk.value?.close()
            desk.value = nil
        }.get()
    }

    /// Starts a call.
    func open(_ request: CallRequest, creditBytes: UInt64, timeout: Duration?) -> ServiceCall {
        let key = lastKey.withLockedValue { key in
            key += 1
            return key
        }
        let (parts, continuation) = AsyncStream.makeStream(of: ServiceCall.Part.self)
        let millis = timeout.map { UInt32(clamping: TimeAmount($0).nanoseconds / 1_000_000) } ?? 0
        run { desk in
            desk.start(key, request, timeoutMillis: millis, creditBytes: creditBytes, continuation)
        }
        return ServiceCall(
            parts: parts,
            addCredit: { [self] bytes in run { $0.addCredit(bytes, of: key) } },
            say: { [self] reply in run { $0.take([reply], of: key) } },
            cancel: { [self] in run { $0.cancel(key) } })
    }

    fileprivate func run(_ body: @escaping @Sendable (Desk) -> Void) {
        eventLoop.execute { [desk] in
            if let desk = desk.value { body(desk) }
        }
    }

    /// The calls that are open. Used on the event loop.
    fileprivate final class Desk: CallTransport {
        let isWritable = true
        private var calls: ConnectionCalls?
        private var open: [CallKey: AsyncStream<ServiceCall.Part>.Continuation] = [:]
        private var workers: Set<CallKey> = []
        private var heartbeat: RepeatedTask?
        private let eventLoop: any EventLoop

        init(_ service: EventService, _ eventLoop: any EventLoop) {
            self.eventLoop = eventLoop
            calls = ConnectionCalls(service: service, principal: .anybody, transport: self, eventLoop: eventLoop)
        }

        func begin(every delay: TimeAmount, _ body: @escaping @Sendable () -> Void) {
            heartbeat = eventLoop.scheduleRepeatedTask(initialDelay: delay, delay: delay) { _ in body() }
        }

        func sayAlive() { for key in workers { calls?.take([.alive], of: key) } }

        func start(
            _ key: CallKey, _ request: CallRequest, timeoutMillis: UInt32, creditBytes: UInt64,
            _ continuation: AsyncStream<ServiceCall.Part>.Continuation
        ) {
            open[key] = continuation
            switch request {
            case .consume, .consumeTenants: workers.insert(key)
            default: break
            }
            calls?.start(key, request, timeoutMillis: timeoutMillis, creditBytes: creditBytes)
        }

        func addCredit(_ bytes: UInt64, of key: CallKey) { calls?.addCredit(key, bytes: bytes) }
        func take(_ replies: [WorkerReply], of key: CallKey) { calls?.take(replies, of: key) }
        func cancel(_ key: CallKey) { calls?.cancel(key) }

        func close() {
            heartbeat?.cancel()
            calls?.close()
            calls = nil
            for key in Array(open.keys) { finish(key, .end(.closed)) }
        }

        private func finish(_ key: CallKey, _ last: ServiceCall.Part) {
            workers.remove(key)
            guard let continuation = open.removeValue(forKey: key) else { return }
            continuation.yield(last)
            continuation.finish()
        }

        func send(_ message: CallMessage, of call: CallKey, isLast: Bool) {
            if isLast { finish(call, .message(message)) } else { open[call]?.yield(.message(message)) }
        }

        func end(_ call: CallKey, _ error: MartletError?) { finish(call, .end(error)) }

        func flush() {}
    }
}

/// A call of a ``ServiceConnection``.
struct ServiceCall: Sendable {
    enum Part: Sendable {
        case message(CallMessage)
        /// How it ended; nil is well.
        case end(MartletError?)
    }

    /// What comes of it, until it has ended.
    let parts: AsyncStream<Part>
    /// Grants that many more bytes of events.
    let addCredit: @Sendable (UInt64) -> Void
    /// Says something as a worker.
    let say: @Sendable (WorkerReply) -> Void
    let cancel: @Sendable () -> Void
}

/// Who makes calls, by whatever way.
protocol CallPeer: Sendable {
    /// Starts a call.
    func open(_ request: CallRequest, creditBytes: UInt64, timeout: Duration?) -> ServiceCall
    /// The connection is gone: its calls end.
    func close() async
}

extension CallPeer {
    func open(_ request: CallRequest, creditBytes: UInt64 = 0) -> ServiceCall {
        open(request, creditBytes: creditBytes, timeout: nil)
    }

    /// The answer of a unary call.
    func answer(_ request: CallRequest, timeout: Duration? = nil) async throws(MartletError) -> CallMessage {
        let call = open(request, creditBytes: 0, timeout: timeout)
        for await part in call.parts {
            switch part {
            case .message(let message): return message
            case .end(let error): throw error ?? .noAnswer
            }
        }
        call.cancel()
        throw MartletError(.cancelled, reason: .cancelled, message: "the task was cancelled")
    }
}

extension MartletError {
    static let noAnswer = MartletError(.internal, reason: .internalError, message: "the service gave another answer")
    static let closed = MartletError(
        .unavailable, reason: .connectionLost, message: "the connection is closed", isRetryable: true)
}
