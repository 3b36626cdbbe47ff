public import MartletModel
public import NIOCore

/// The server's side of one connection: what each frame means, without I/O and without a clock. `now` is
/// of a clock that never jumps: the wall clock ends no connection.
///
/// Every event in every state is one of: our bug (trapped), the peer's fault (the connection is failed,
/// after saying why), or ignored, because the two ends crossed on the wire (credit, replies or cancel for a
/// call that has just ended).
///
///     awaitingHello ── hello ──▶ ready ── drain ──▶ draining ── last call ends ──▶ closed
///           └──────────────── fault, in any state ─────────────────────────────▶ closed
public struct ServerSession: ~Copyable {
    /// What to do about a frame.
    public enum Reaction: Equatable, Sendable {
        /// Send Welcome with that version of the protocol.
        case welcome(protocolVersion: UInt32, clientName: String)
        /// Carry out the call, and tell ``ServerSession/finish(_:)`` when it has ended.
        case start(CallID, CallRequest, timeoutMillis: UInt32, creditBytes: UInt64)
        /// Answer the call with that status; it is not open.
        case refuse(CallID, MartletError)
        /// Add credit to an open call.
        case credit(CallID, bytes: UInt64)
        /// Hand that to an open call of a worker.
        case reply(CallID, [WorkerReply])
        /// End an open call with CANCELLED, and tell ``ServerSession/finish(_:)``.
        case cancel(CallID)
        /// End an open call with that error, and tell ``ServerSession/finish(_:)``.
        case end(CallID, MartletError)
        /// Answer with a pong.
        case pong(UInt64)
        /// Nothing.
        case ignore
        /// Send that status for the connection, then close it.
        case fail(MartletError)
    }

    /// What to do when time has passed.
    public enum TickReaction: Equatable, Sendable {
        /// Nothing.
        case none
        /// Send a ping.
        case ping(UInt64)
        /// Send that status for the connection, then close it.
        case fail(MartletError)
    }

    /// What to do about the end of a call, or a drain.
    public enum DrainReaction: Equatable, Sendable {
        /// Nothing.
        case none
        /// Send GoAway with that last call.
        case goAway(lastCallID: CallID)
        /// Send GoAway, then close: nothing is open.
        case goAwayAndClose(lastCallID: CallID)
        /// Close: the last call of a draining connection has ended.
        case close
    }

    private enum State {
        case awaitingHello
        case ready
        case draining
        case closed
    }

    private var state = State.awaitingHello
    private let limits: Limits
    private var openCalls: Set<CallID> = []
    /// Those of the open calls that take replies.
    private var workerCalls: Set<CallID> = []
    private var lastCallID = CallID.connection
    private var lastHeard: NIODeadline
    private var pingSent: NIODeadline?
    private var pingToken: UInt64 = 0
    private var control: ControlFrameBudget

    /// The session of a connection that was accepted at `now`.
    public init(limits: Limits, now: NIODeadline) {
        self.limits = limits
        lastHeard = now
        control = ControlFrameBudget(limits, now: now)
    }

    /// How many calls are open.
    public var openCallCount: Int { openCalls.count }

    /// Whether that call is open.
    public func isOpen(_ id: CallID) -> Bool { openCalls.contains(id) }

    /// What a frame means.
    public mutating func receive(_ frame: ClientFrame, now: NIODeadline) -> Reaction {
        lastHeard = now
        pingSent = nil
        switch state {
        case .awaitingHello:
            if case .malformedHello(let error) = frame.body, frame.callID == .connection { return receiveFault(error) }
            guard case .hello(let hello) = frame.body, frame.callID == .connection else {
                return fail(.unauthenticated, .helloExpected, "the first frame must be hello, on call 0: send it")
            }
            return greet(hello)
        case .ready, .draining:
            let reaction = receiveOpen(frame)
            return isFree(reaction) || control.spend(now: now) ? reaction : failOfFlood()
        case .closed: return .ignore
        }
    }

    /// Whether a frame takes nothing of what the peer may send beside its calls.
    private func isFree(_ reaction: Reaction) -> Bool {
        switch reaction {
        // A call is on other accounts, and ends once.
        case .start, .cancel, .end, .fail: true
        // A delivery is answered, which was on the call's credit; that a worker is there answers none.
        case .reply(_, let replies): !replies.allSatisfy { $0 == .alive }
        case .welcome, .refuse, .credit, .pong, .ignore: false
        }
    }

    /// A part or an answer of a call is sent.
    public mutating func sent(_ message: CallMessage) { control.earn(bytes: message.entryBytes) }

    private mutating func failOfFlood() -> Reaction {
        fail(
            .resourceExhausted, .tooManyControlFrames,
            "control_frames_per_second_max is \(limits.controlFramesPerSecondMax), with at most control_frames_max, "
                + "\(limits.controlFramesMax), at once: send fewer pings, credit in larger parts, and no "
                + "calls that are refused")
    }

    /// A frame that could not be decoded: the connection cannot go on.
    public mutating func receiveFault(_ error: MartletError) -> Reaction {
        guard state != .closed else { return .ignore }
        state = .closed
        return .fail(error)
    }

    /// A call that ``Reaction/start(_:_:timeoutMillis:creditBytes:)`` opened has been answered.
    public mutating func finish(_ id: CallID) -> DrainReaction {
        precondition(openCalls.remove(id) != nil || state == .closed, "a call ends once")
        workerCalls.remove(id)
        guard state == .draining, openCalls.isEmpty else { return .none }
        state = .closed
        return .close
    }

    /// The server drains: open calls may end, new ones are refused.
    public mutating func drain() -> DrainReaction {
        switch state {
        case .awaitingHello, .ready:
            state = openCalls.isEmpty ? .closed : .draining
            return state == .closed ? .goAwayAndClose(lastCallID: lastCallID) : .goAway(lastCallID: lastCallID)
        case .draining, .closed: return .none
        }
    }

    /// The connection is gone: the calls that were open and are to be ended without an answer.
    public mutating func close() -> Set<CallID> {
        state = .closed
        workerCalls = []
        defer { openCalls = [] }
        return openCalls
    }

    /// Time has passed; call at least every half ``Limits/keepaliveMillis``.
    public mutating func tick(now: NIODeadline) -> TickReaction {
        let silence = now - lastHeard
        switch state {
        case .awaitingHello:
            guard silence >= .milliseconds(Int64(limits.handshakeMillis)) else { return .none }
            state = .closed
            return .fail(
                MartletError(
                    .deadlineExceeded, reason: .helloExpected,
                    message: "no hello within \(limits.handshakeMillis) ms: send it as the first frame"))
        case .ready, .draining:
            if let pingSent {
                guard now - pingSent >= .milliseconds(Int64(limits.keepaliveMillis)) else { return .none }
                state = .closed
                return .fail(
                    MartletError(
                        .unavailable, reason: .keepaliveTimeout,
                        message: "no answer to a ping within \(limits.keepaliveMillis) ms: answer pings, and reconnect",
                        isRetryable: true))
            }
            guard silence >= .milliseconds(Int64(limits.keepaliveMillis)) else { return .none }
            pingSent = now
            pingToken += 1
            return .ping(pingToken)
        case .closed: return .none
        }
    }

    private mutating func greet(_ hello: Hello) -> Reaction {
        guard hello.protocolVersions.contains(protocolVersion) else {
            return fail(
                .unimplemented, .protocolVersionUnsupported,
                "the server speaks protocol version \(protocolVersion), the client speaks \(hello.protocolVersions): "
                    + "use a client that speaks it")
        }
        state = .ready
        return .welcome(protocolVersion: protocolVersion, clientName: hello.clientName)
    }

    private mutating func receiveOpen(_ frame: ClientFrame) -> Reaction {
        switch frame.body {
        case .hello, .malformedHello:
            return fail(.failedPrecondition, .helloExpected, "hello was sent a second time: send it only once")
        case .ping(let token): return .pong(token)
        case .pong: return .ignore
        case .credit(let bytes):
            if let fault = faultOfUnknown(frame.callID) { return fault }
            return openCalls.contains(frame.callID) ? .credit(frame.callID, bytes: bytes) : .ignore
        case .cancel:
            if let fault = faultOfUnknown(frame.callID) { return fault }
            return openCalls.contains(frame.callID) ? .cancel(frame.callID) : .ignore
        case .replies(let replies):
            if let fault = faultOfUnknown(frame.callID) { return fault }
            return workerCalls.contains(frame.callID) ? .reply(frame.callID, replies) : .ignore
        case .malformedReplies(let error):
            if let fault = faultOfUnknown(frame.callID) { return fault }
            return workerCalls.contains(frame.callID) ? .end(frame.callID, error) : .ignore
        case .malformed(let error):
            return open(frame.callID) ?? .refuse(frame.callID, error)
        case .request(let request):
            return open(frame.callID) ?? start(frame, request)
        }
    }

    private mutating func start(_ frame: ClientFrame, _ request: CallRequest) -> Reaction {
        if state == .draining {
            return .refuse(
                frame.callID,
                MartletError(
                    .unavailable, reason: .draining,
                    message: "the server is shutting down: send the call again elsewhere",
                    isRetryable: true))
        }
        guard openCalls.count < limits.callsPerConnectionMax else {
            return .refuse(
                frame.callID,
                MartletError(
                    .resourceExhausted, reason: .tooManyCalls,
                    message: "calls_per_connection_max is \(limits.callsPerConnectionMax): "
                        + "wait for a call to end, or open another connection",
                    isRetryable: true,
                    limit: .init(
                        name: "calls_per_connection_max", limit: UInt64(limits.callsPerConnectionMax),
                        actual: UInt64(openCalls.count + 1))))
        }
        openCalls.insert(frame.callID)
        if request.takesReplies { workerCalls.insert(frame.callID) }
        return .start(
            frame.callID, request, timeoutMillis: frame.timeoutMillis, creditBytes: frame.creditBytes)
    }

    /// Takes a new call id; the fault where it is none.
    private mutating func open(_ id: CallID) -> Reaction? {
        guard id > lastCallID else {
            return fail(
                .invalidArgument, .invalidCallID,
                "call id \(id) is 0 or not above \(lastCallID), the last one used: number calls upward from 1")
        }
        lastCallID = id
        return nil
    }

    private mutating func faultOfUnknown(_ id: CallID) -> Reaction? {
        guard id > lastCallID || id == .connection else { return nil }
        return fail(
            .invalidArgument, .invalidCallID, "call id \(id) does not name a call: send its request first")
    }

    private mutating func fail(_ code: StatusCode, _ reason: Reason, _ message: String) -> Reaction {
        state = .closed
        return .fail(MartletError(code, reason: reason, message: message))
    }
}

extension CallRequest {
    /// Whether its call takes what a worker says.
    fileprivate var takesReplies: Bool {
        switch self {
        case .consume, .consumeTenants: true
        default: false
        }
    }
}
