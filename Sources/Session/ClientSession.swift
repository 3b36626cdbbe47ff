public import MartletModel
public import NIOCore

/// The client's side of one connection: what each frame means, without I/O and without a clock. `now` is
/// of a clock that never jumps: the wall clock ends no connection.
///
/// Every event in every state is one of: our bug (trapped), the server's fault (the connection is failed), or
/// ignored, because the two ends crossed on the wire (parts of a call that has just been cancelled).
///
///     awaitingWelcome ── welcome ──▶ ready ── goAway ──▶ draining
///           └──────────── fault or close, in any state ─────────────▶ closed
///
/// A draining connection takes no new calls; once ``isDrained`` it may be closed.
public struct ClientSession: ~Copyable {
    /// What to do about a frame.
    public enum Reaction: Equatable, Sendable {
        /// The connection stands: calls may be started.
        case ready(Welcome)
        /// Hand that to the call, which goes on.
        case part(CallID, CallMessage)
        /// Hand that to the call, which has ended.
        case answer(CallID, CallMessage)
        /// The call has ended with that status; nil is OK.
        case end(CallID, MartletError?)
        /// Start no more calls here. These were not looked at: start them again elsewhere.
        case drain(unseen: [CallID])
        /// Answer with a pong.
        case pong(UInt64)
        /// Nothing.
        case ignore
        /// Close the connection: that is why.
        case fail(MartletError)
    }

    /// What to do about a new call.
    public enum StartReaction: Equatable, Sendable {
        /// Send the request under that id.
        case send(CallID)
        /// It cannot be started here.
        case refuse(MartletError)
    }

    /// What to do when time has passed.
    public enum TickReaction: Equatable, Sendable {
        /// Nothing.
        case none
        /// Send a ping.
        case ping(UInt64)
        /// Close the connection: that is why.
        case fail(MartletError)
    }

    private enum State {
        case awaitingWelcome
        case ready
        case draining
        case closed
    }

    fileprivate enum Kind {
        case append, load, read, subscribe, getHead, getStatus, getServerInfo
        case saveSnapshot, loadSnapshot, listSnapshots, deleteSnapshots, putSettings, getSettings
        case putConsumer, getConsumer, listConsumers, deleteConsumer, resetConsumer
        case listBlockedKeys, unblockKeys, awaitConsumer, consume, consumeTenants
        case changeSchedules, listSchedules
    }

    private struct Call {
        let kind: Kind
        /// What the server may still send of events.
        var creditBytes: UInt64
        var hasStarted = false
        var isCancelled = false
    }

    private var state = State.awaitingWelcome
    private let welcomeMillis: Int
    private let keepaliveMillis: Int
    private var calls: [CallID: Call] = [:]
    /// With a drain: the last call that the server looked at.
    private var lastSeenCallID: CallID?
    private var callsMax = 0
    private var lastCallID = CallID.connection
    private var lastHeard: NIODeadline
    private var pingSent: NIODeadline?
    private var pingToken: UInt64 = 0

    /// The session of a connection on which hello is sent at `now`.
    ///
    /// - Parameters:
    ///   - welcomeMillis: how long welcome may take.
    ///   - keepaliveMillis: idle time after which the session pings; after as long again without a word the
    ///     connection counts as dead.
    public init(welcomeMillis: Int, keepaliveMillis: Int, now: NIODeadline) {
        self.welcomeMillis = welcomeMillis
        self.keepaliveMillis = keepaliveMillis
        lastHeard = now
    }

    /// The id that the next call gets.
    public var nextCallID: CallID { CallID(lastCallID.rawValue + 1) }

    /// How many calls are open, those included that are cancelled and whose end has not come.
    public var openCallCount: Int { calls.count }

    /// The server drains, and nothing is open any more.
    public var isDrained: Bool { state == .draining && calls.isEmpty }

    /// Opens a call.
    /// - Parameter creditBytes: the credit that is sent with the request.
    public mutating func start(_ request: CallRequest, creditBytes: UInt64 = 0) -> StartReaction {
        switch state {
        case .awaitingWelcome: preconditionFailure("a call is started after welcome")
        case .ready: break
        case .draining: return .refuse(Self.draining)
        case .closed:
            return .refuse(
                MartletError(
                    .unavailable, reason: .connectionLost, message: "the connection is closed: connect again",
                    isRetryable: true))
        }
        guard calls.count < callsMax else {
            return .refuse(
                MartletError(
                    .resourceExhausted, reason: .tooManyCalls,
                    message: "calls_per_connection_max is \(callsMax): wait for a call to end",
                    isRetryable: true,
                    limit: .init(
                        name: "calls_per_connection_max", limit: UInt64(callsMax), actual: UInt64(calls.count + 1))))
        }
        lastCallID = nextCallID
        calls[lastCallID] = Call(kind: Kind(request), creditBytes: creditBytes)
        return .send(lastCallID)
    }

    /// Nobody waits for that call any more.
    /// - Returns: whether to send cancel; what still comes of the call is ignored.
    public mutating func cancel(_ id: CallID) -> Bool {
        guard calls[id]?.isCancelled == false else { return false }
        calls[id]?.isCancelled = true
        return true
    }

    /// Grants more credit to a streaming call.
    /// - Returns: whether to send it; not when the call has ended.
    public mutating func credit(_ id: CallID, bytes: UInt64) -> Bool {
        guard let call = calls[id], !call.isCancelled else { return false }
        let (sum, overflow) = call.creditBytes.addingReportingOverflow(bytes)
        calls[id]?.creditBytes = overflow ? .max : sum
        return true
    }

    /// Whether to send what a worker says on the stream of its call; not when the call has ended.
    public func takesReplies(_ id: CallID) -> Bool {
        guard let call = calls[id], !call.isCancelled else { return false }
        precondition(call.kind == .consume || call.kind == .consumeTenants, "only a worker's call takes replies")
        return true
    }

    /// What a frame means.
    public mutating func receive(_ frame: ServerFrame, now: NIODeadline) -> Reaction {
        lastHeard = now
        pingSent = nil
        switch state {
        case .awaitingWelcome: return receiveFirst(frame)
        case .ready, .draining: return receiveOpen(frame)
        case .closed: return .ignore
        }
    }

    /// A frame that could not be decoded: the connection cannot go on.
    public mutating func receiveFault(_ error: MartletError) -> Reaction {
        guard state != .closed else { return .ignore }
        return fail(error)
    }

    /// The connection is gone.
    /// - Returns: the calls that were open and that somebody waits for, in the order of their start.
    public mutating func close() -> [CallID] {
        state = .closed
        defer { calls = [:] }
        return calls.filter { !$0.value.isCancelled }.keys.sorted()
    }

    /// When ``tick(now:)`` has something to do at the earliest, unless the server is heard before.
    public var tickDue: NIODeadline {
        switch state {
        case .awaitingWelcome: lastHeard + .milliseconds(Int64(welcomeMillis))
        case .ready, .draining: (pingSent ?? lastHeard) + .milliseconds(Int64(keepaliveMillis))
        case .closed: .distantFuture
        }
    }

    /// Time has passed; call when ``tickDue`` is reached. A server that falls silent is given up `keepaliveMillis` after a
    /// ping, and so twice that after it was last heard.
    public mutating func tick(now: NIODeadline) -> TickReaction {
        let silence = now - lastHeard
        switch state {
        case .awaitingWelcome:
            guard silence >= .milliseconds(Int64(welcomeMillis)) else { return .none }
            state = .closed
            return .fail(
                MartletError(
                    .unavailable, reason: .keepaliveTimeout,
                    message: "the server sent no welcome within \(welcomeMillis) ms: check that it is a Martlet server",
                    isRetryable: true))
        case .ready, .draining:
            if let pingSent {
                guard now - pingSent >= .milliseconds(Int64(keepaliveMillis)) else { return .none }
                state = .closed
                return .fail(
                    MartletError(
                        .unavailable, reason: .keepaliveTimeout,
                        message: "the server did not answer a ping within \(keepaliveMillis) ms: connect again",
                        isRetryable: true))
            }
            guard silence >= .milliseconds(Int64(keepaliveMillis)) else { return .none }
            pingSent = now
            pingToken += 1
            return .ping(pingToken)
        case .closed: return .none
        }
    }

    private mutating func receiveFirst(_ frame: ServerFrame) -> Reaction {
        switch frame.body {
        case .welcome(let welcome):
            guard welcome.protocolVersion == protocolVersion else {
                return fail(
                    MartletError(
                        .unimplemented, reason: .protocolVersionUnsupported,
                        message: "the server chose protocol version \(welcome.protocolVersion), but "
                            + "the client speaks \(protocolVersion): use a client that speaks it"))
            }
            state = .ready
            callsMax = welcome.limits.callsPerConnectionMax
            return .ready(welcome)
        case .status(let error): return fail(error ?? Self.closedByServer)
        case .goAway: return fail(Self.draining)
        case .ping(let token): return .pong(token)
        case .pong: return .ignore
        case .message: return fail(Self.fault("sent an answer before welcome"))
        }
    }

    private mutating func receiveOpen(_ frame: ServerFrame) -> Reaction {
        switch frame.body {
        case .welcome: return fail(Self.fault("sent welcome a second time"))
        case .status(let error):
            guard frame.callID != .connection else { return fail(error ?? Self.closedByServer) }
            return end(frame.callID, error)
        case .goAway(let last, _): return drain(after: last)
        case .ping(let token): return .pong(token)
        case .pong: return .ignore
        case .message(let message): return receive(message, of: frame.callID)
        }
    }

    /// Whether a call was given back when the server began to drain. The server refuses a request that crossed its
    /// GoAway: what it still says of it means nothing.
    private func isGivenBack(_ id: CallID) -> Bool { lastSeenCallID.map { id > $0 } ?? false }

    private mutating func end(_ id: CallID, _ error: MartletError?) -> Reaction {
        if isGivenBack(id) { return .ignore }
        guard let call = calls[id] else { return fail(Self.fault("ended call \(id), which is not open")) }
        guard call.isCancelled || error != nil || call.kind.isStream && call.hasStarted else {
            // It stays open: whoever waits for it is told of the connection's end.
            return fail(Self.fault("ended call \(id) without an answer"))
        }
        calls[id] = nil
        return call.isCancelled ? .ignore : .end(id, error)
    }

    private mutating func receive(_ message: CallMessage, of id: CallID) -> Reaction {
        if isGivenBack(id) { return .ignore }
        guard let call = calls[id] else { return fail(Self.fault("answered call \(id), which is not open")) }
        guard call.kind == Kind(answer: message) else {
            return fail(Self.fault("answered call \(id) with the answer to another kind of call"))
        }
        guard call.kind.isStream else {
            calls[id] = nil
            return call.isCancelled ? .ignore : .answer(id, message)
        }
        if message.isWaiting { return call.isCancelled ? .ignore : .part(id, message) }
        guard call.hasStarted ? message.mayFollow : message.mayBeFirst else {
            return fail(Self.fault("sent the first part of call \(id) too late or twice"))
        }
        let bytes = message.entryBytes
        guard bytes <= call.creditBytes else {
            return fail(Self.fault("sent \(bytes) bytes of events on call \(id), whose credit is \(call.creditBytes)"))
        }
        calls[id]?.hasStarted = true
        calls[id]?.creditBytes -= bytes
        return call.isCancelled ? .ignore : .part(id, message)
    }

    private mutating func drain(after last: CallID) -> Reaction {
        state = .draining
        let unseen = calls.filter { $0.key > last }
        for id in unseen.keys { calls[id] = nil }
        lastSeenCallID = last
        return .drain(unseen: unseen.filter { !$0.value.isCancelled }.keys.sorted())
    }

    private mutating func fail(_ error: MartletError) -> Reaction {
        state = .closed
        return .fail(error)
    }

    /// What a call gets that the server did not look at because it drains.
    public static let draining = MartletError(
        .unavailable, reason: .draining, message: "the server is shutting down: send the call again elsewhere",
        isRetryable: true)

    private static let closedByServer = MartletError(
        .unavailable, reason: .connectionLost, message: "the server closed the connection: connect again",
        isRetryable: true)

    private static func fault(_ complaint: String) -> MartletError {
        MartletError(
            .internal, reason: .badFrame,
            message: "the server \(complaint): compare the versions of client and server")
    }
}

extension ClientSession.Kind {
    fileprivate init(_ request: CallRequest) {
        switch request {
        case .append: self = .append
        case .load: self = .load
        case .read: self = .read
        case .subscribe: self = .subscribe
        case .getHead: self = .getHead
        case .getStatus: self = .getStatus
        case .getServerInfo: self = .getServerInfo
        case .saveSnapshot: self = .saveSnapshot
        case .loadSnapshot: self = .loadSnapshot
        case .listSnapshots: self = .listSnapshots
        case .deleteSnapshots: self = .deleteSnapshots
        case .putSettings: self = .putSettings
        case .getSettings: self = .getSettings
        case .putConsumer: self = .putConsumer
        case .getConsumer: self = .getConsumer
        case .listConsumers: self = .listConsumers
        case .deleteConsumer: self = .deleteConsumer
        case .resetConsumer: self = .resetConsumer
        case .listBlockedKeys: self = .listBlockedKeys
        case .unblockKeys: self = .unblockKeys
        case .awaitConsumer: self = .awaitConsumer
        case .consume: self = .consume
        case .consumeTenants: self = .consumeTenants
        case .changeSchedules: self = .changeSchedules
        case .listSchedules: self = .listSchedules
        }
    }

    /// The kind of call that this answers.
    fileprivate init(answer: CallMessage) {
        switch answer {
        case .append: self = .append
        case .load, .loadWaits: self = .load
        case .read, .readWaits: self = .read
        case .subscribe: self = .subscribe
        case .head: self = .getHead
        case .serverStatus: self = .getStatus
        case .serverInfo: self = .getServerInfo
        case .snapshotSaved: self = .saveSnapshot
        case .snapshot: self = .loadSnapshot
        case .snapshots: self = .listSnapshots
        case .snapshotsDeleted: self = .deleteSnapshots
        case .settingsPut: self = .putSettings
        case .settings: self = .getSettings
        case .consumerPut: self = .putConsumer
        case .consumer: self = .getConsumer
        case .consumers: self = .listConsumers
        case .consumerDeleted: self = .deleteConsumer
        case .consumerReset: self = .resetConsumer
        case .blockedKeys: self = .listBlockedKeys
        case .keysUnblocked: self = .unblockKeys
        case .consumerReached: self = .awaitConsumer
        case .consume(.joined), .consumeOf: self = .consumeTenants
        case .consume: self = .consume
        case .schedulesChanged: self = .changeSchedules
        case .schedules: self = .listSchedules
        }
    }

    fileprivate var isStream: Bool {
        switch self {
        case .load, .read, .subscribe, .consume, .consumeTenants: true
        case .append, .getHead, .getStatus, .getServerInfo, .saveSnapshot, .loadSnapshot, .listSnapshots,
            .deleteSnapshots, .putSettings, .getSettings, .putConsumer, .getConsumer, .listConsumers, .deleteConsumer,
            .resetConsumer,
            .listBlockedKeys, .unblockKeys, .awaitConsumer, .changeSchedules, .listSchedules:
            false
        }
    }
}

extension CallMessage {
    /// Bytes of events, and of a load's snapshot, that it carries: what it takes off a call's credit.
    public var entryBytes: UInt64 {
        switch self {
        case .load(let entries, let view):
            UInt64(entries.readableBytes + (view?.snapshot?.payload.readableBytes ?? 0))
        case .read(let entries, _): UInt64(entries.readableBytes)
        case .subscribe(let message): UInt64(message.entries.readableBytes)
        case .consume(.events(let entries, _)), .consumeOf(_, .events(let entries, _)): UInt64(entries.readableBytes)
        default: 0
        }
    }

    /// Whether it only says that its stream waits for credit; it may come before the first part.
    fileprivate var isWaiting: Bool {
        switch self {
        case .loadWaits, .readWaits: true
        default: false
        }
    }

    /// Whether it can come first in its stream.
    fileprivate var mayBeFirst: Bool {
        switch self {
        case .load(_, let view): view != nil
        case .read(_, let view): view != nil
        case .subscribe(let message):
            if case .started = message.signal { true } else { false }
        case .consume(.assigned), .consume(.joined): true
        default: false
        }
    }

    /// Whether it can come later in its stream: a worker gets more slots, and tenants, in messages that come first, too.
    fileprivate var mayFollow: Bool {
        switch self {
        case .consume, .consumeOf: true
        default: !mayBeFirst
        }
    }
}
