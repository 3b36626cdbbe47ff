import MartletFrameCodec
import MartletModel
import MartletService
import MartletSession
import NIOCore

/// The calls of Martlet's own services on one connection. Used on its event loop.
final class MartletCalls: CallTransport {
    /// Who gets the answer of a call.
    protocol Caller: AnyObject {
        /// How many bytes of events it takes now, as one message.
        func room(for key: CallKey) -> Int
        /// Takes a message.
        func send(_ message: CallMessage, of key: CallKey, isLast: Bool)
        /// The call has ended; nil is OK.
        func end(_ key: CallKey, _ error: MartletError?)
    }

    /// nil once it is gone.
    private var connection: HTTP2Connection?
    private var connectionCalls: ConnectionCalls?
    private var callers: [CallKey: any Caller] = [:]
    /// Keys beyond those of streams, of the appends of sessions.
    private var lastKey: CallKey = 1 << 32

    init(_ connection: HTTP2Connection) {
        self.connection = connection
        connectionCalls = ConnectionCalls(
            service: connection.service, principal: connection.principal, transport: self,
            eventLoop: connection.eventLoop)
    }

    /// The connection is gone.
    func close() {
        connectionCalls?.close()
        connectionCalls = nil
        connection = nil
        callers = [:]
    }

    func flushLater() { connectionCalls?.flushLater() }

    /// A key that no stream has.
    func makeKey() -> CallKey {
        lastKey += 1
        return lastKey
    }

    func start(_ key: CallKey, _ request: CallRequest, timeoutMillis: UInt32, for caller: any Caller) {
        callers[key] = caller
        // HTTP/2's windows are the credit.
        connectionCalls?.start(key, request, timeoutMillis: timeoutMillis, creditBytes: .max)
    }

    func take(_ replies: [WorkerReply], of key: CallKey) { connectionCalls?.take(replies, of: key) }

    func pump(_ key: CallKey) { connectionCalls?.pump(key) }

    /// Nobody waits for the call any more.
    func cancel(_ key: CallKey) {
        guard callers.removeValue(forKey: key) != nil else { return }
        connectionCalls?.cancel(key)
    }

    // MARK: What the service says

    var isWritable: Bool { connection?.takesBytes ?? false }

    func room(for call: CallKey) -> Int { callers[call]?.room(for: call) ?? 0 }

    func send(_ message: CallMessage, of call: CallKey, isLast: Bool) {
        guard let caller = callers[call] else { return }
        if isLast { callers[call] = nil }
        connection?.control.earn(bytes: UInt64(message.entryBytes))
        caller.send(message, of: call, isLast: isLast)
    }

    func end(_ call: CallKey, _ error: MartletError?) { callers.removeValue(forKey: call)?.end(call, error) }

    func flush() { connection?.flush() }
}

/// A call that sends one request.
final class RequestHandler: GRPCHandler, MartletCalls.Caller {
    /// From this length on, the entries of a message cost more to copy than a write of their own does.
    private static let detachedBytesMin = 16 << 10

    private let kind: RequestKind
    /// Held from when the call begins, as it may end with the connection.
    private let calls: MartletCalls?
    /// Held until its end, which lets go of this handler.
    private let call: GRPCCall
    private var message: ByteBuffer?
    private var isStarted = false
    /// The client wants the events that a conflict is about, which trailers cannot hold.
    private var asksForEvents = false

    init(_ kind: RequestKind, _ call: GRPCCall) {
        self.kind = kind
        calls = call.calls
        self.call = call
    }

    func received(_ message: ByteBuffer, of call: GRPCCall) { self.message = message }

    func receivedEnd(of call: GRPCCall) {
        guard let calls, let connection = call.connection, let message else { return }
        self.message = nil
        do throws(MartletError) {
            var request = try BareMessages.request(message, kind, limits: connection.limits)
            if case .append(var append) = request, append.includeConflictingEvents {
                append.includeConflictingEvents = false
                asksForEvents = true
                request = .append(append)
            }
            isStarted = true
            // From here on the deadline is the service's matter.
            call.deadline = nil
            calls.start(call.id, request, timeoutMillis: call.timeoutMillis, for: self)
        } catch { connection.end(call, error) }
    }

    func pump(_ call: GRPCCall) { calls?.pump(call.id) }

    func ended(_ call: GRPCCall) { if isStarted { calls?.cancel(call.id) } }

    func drain(_ call: GRPCCall) {
        guard kind == .subscribe else { return }
        calls?.cancel(call.id)
        call.end(GRPCStatus(.draining))
    }

    func room(for key: CallKey) -> Int { call.room }

    func send(_ message: CallMessage, of key: CallKey, isLast: Bool) {
        call.send(BareMessages.encode(message, detachedBytesMin: Self.detachedBytesMin))
        if isLast { call.end(.ok) }
    }

    func end(_ key: CallKey, _ error: MartletError?) {
        guard var error else { call.end(.ok); return }
        if asksForEvents, !error.conflicts.isEmpty { error.conflicts = error.conflicts.map(\.withoutEvents) }
        call.end(GRPCStatus(error))
    }
}

extension VersionConflict {
    /// The same, where the events in between were asked for and are not sent.
    fileprivate var withoutEvents: VersionConflict {
        let known: Version = if case .exact(let version) = expected { version } else { .none }
        var conflict = self
        conflict.eventsTruncated = actual > known
        return conflict
    }
}

extension MartletError {
    static let draining = MartletError(
        .unavailable, reason: .draining,
        message: "the server is shutting down: subscribe again elsewhere, or when it is back", isRetryable: true)
}
