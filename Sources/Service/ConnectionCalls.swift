public import MartletAccess
public import MartletModel
import MartletStorage
import MartletTenants
public import NIOCore

/// Names a call within its connection: what its transport knows it by, a call id or a stream id.
public typealias CallKey = UInt64

/// What a transport does for the calls of one of its connections. Used on the connection's event loop.
public protocol CallTransport: AnyObject {
    /// Whether the connection takes bytes now. ``ConnectionCalls/pump()`` is called when that changes.
    var isWritable: Bool { get }

    /// How many bytes of events the peer takes of a call now, as one message, a single event apart: 0 for none. When it is no
    /// longer 0, ``ConnectionCalls/pump()`` is called, or ``ConnectionCalls/pump(_:)``.
    func room(for call: CallKey) -> Int

    /// Sends a message of an open call; `isLast` where it is the one answer of a unary call, which is over with it.
    func send(_ message: CallMessage, of call: CallKey, isLast: Bool)

    /// Ends an open call with a status; nil is OK.
    func end(_ call: CallKey, _ error: MartletError?)

    /// Sends on what was written in this turn of the event loop.
    func flush()
}

extension CallTransport {
    /// As much as there is, where the transport takes bytes at all: its calls have credit.
    public func room(for call: CallKey) -> Int { isWritable ? .max : 0 }
}

/// The open calls of one connection: who may make them, when they must have ended, what they hold.
///
/// The same for every transport, which only frames and multiplexes. Bound to the connection's event loop. Nothing of a
/// call that has ended reaches the transport.
public final class ConnectionCalls {
    let service: EventService
    let eventLoop: any EventLoop
    /// Who calls.
    public let principal: Principal
    private weak var transport: (any CallTransport)?
    private var calls: [CallKey: OpenCall] = [:]
    private var deadlines = CallDeadlines()
    let mailbox: LoopMailbox
    let window = ReadWindow()
    var bound: NIOLoopBound<ConnectionCalls> { NIOLoopBound(self, eventLoop: eventLoop) }

    /// The calls of a connection of the event loop that this is called on.
    public init(service: EventService, principal: Principal, transport: any CallTransport, eventLoop: any EventLoop) {
        self.service = service
        self.principal = principal
        self.transport = transport
        self.eventLoop = eventLoop
        mailbox = service.mailbox(of: eventLoop)
    }

    // MARK: What the transport says

    /// Starts a call, or ends it at once where the principal may not make it or there is no memory for it.
    ///
    /// - Parameters:
    ///   - timeoutMillis: milliseconds until its deadline; 0 means none.
    ///   - creditBytes: of a call that streams, its first credit.
    public func start(_ key: CallKey, _ request: CallRequest, timeoutMillis: UInt32, creditBytes: UInt64) {
        service.counters.callStarted()
        if let refusal = AccessTable.refusal(of: request, to: principal) { return refuse(key, refusal) }
        var deadline = NIODeadline.distantFuture
        if timeoutMillis > 0 {
            deadline = eventLoop.now + .milliseconds(Int64(timeoutMillis))
            watch(deadline)
        }
        let handle = CallHandle(calls: self, key: key)
        if case .append(let append) = request {
            // What an append holds is on the account of the appends' queue.
            calls[key] = OpenCall(deadline, timeoutMillis, .append(AppendCall(append)))
            return AppendCall.start(append, handle)
        }
        let holder = FairPool.Holder.tenant(account(of: request))
        let bytes = request.stateBytes
        guard service.pools.calls.take(bytes, for: holder) else {
            return refuse(key, .callMemoryFull(service.limits, bytes: bytes))
        }
        let work = makeWork(request, creditBytes, handle)
        calls[key] = OpenCall(deadline, timeoutMillis, .work(work, stateBytes: bytes, holder))
        work.start()
    }

    /// On whose account a call's state is.
    private func account(of request: CallRequest) -> TenantID {
        if case .consumeTenants(let request) = request { return request.account(of: principal) }
        return request.tenant ?? EventStore.serverOwner
    }

    private func refuse(_ key: CallKey, _ error: MartletError) {
        service.counters.callFailed()
        transport?.end(key, error)
    }

    /// What carries out an open call; nil for an append, and for a call that is over.
    func work(of key: CallKey) -> (any CallWork)? { calls[key]?.work }

    /// The peer grants an open call that many more bytes of events.
    public func addCredit(_ key: CallKey, bytes: UInt64) { calls[key]?.work?.addCredit(bytes) }

    /// The peer says something on the stream of an open call that takes such.
    public func take(_ replies: [WorkerReply], of key: CallKey) { calls[key]?.work?.take(replies) }

    /// The peer says something on the stream of an open call that cannot be understood: the call ends with that error.
    public func refuseReplies(_ error: MartletError, of key: CallKey) { end(key, error) }

    /// The peer ends an open call.
    public func cancel(_ key: CallKey) { end(key, .cancelled) }

    /// The connection may take bytes again, or takes none any more: calls go on, or pause.
    public func pump() { for call in calls.values { call.work?.pump() } }

    /// One call may go on, or is to pause.
    public func pump(_ key: CallKey) { calls[key]?.work?.pump() }

    /// Ends the subscriptions; other calls may finish.
    public func drain(_ message: String) {
        for (key, call) in calls where call.isSubscription {
            end(key, MartletError(.unavailable, reason: .draining, message: message, isRetryable: true))
        }
    }

    /// The connection is gone: its calls end without an answer.
    public func close() {
        deadlines.cancel()
        transport = nil
        let open = calls
        calls = [:]
        for call in open.values { close(call) }
    }

    /// Has the transport flushed at the end of this turn of the event loop.
    public func flushLater() { if let transport { mailbox.flushLater(transport) } }

    // MARK: What the calls say

    /// How many bytes of events the peer takes of a call now: 0 for none.
    func room(for key: CallKey) -> Int { transport?.room(for: key) ?? 0 }

    func isOpen(_ key: CallKey) -> Bool { calls[key] != nil }

    /// Sends a message of an open call.
    func send(_ key: CallKey, _ message: CallMessage) {
        guard calls[key] != nil else { return }
        transport?.send(message, of: key, isLast: false)
    }

    /// Sends the one answer of a unary call.
    func answer(_ key: CallKey, _ message: CallMessage) {
        guard let call = calls.removeValue(forKey: key) else { return }
        close(call)
        transport?.send(message, of: key, isLast: true)
    }

    /// Ends an open call with a status.
    func end(_ key: CallKey, _ error: MartletError?) {
        guard let call = calls.removeValue(forKey: key) else { return }
        close(call)
        if error != nil { service.counters.callFailed() }
        transport?.end(key, error)
    }

    /// What can stop an append that is on its way.
    func setTicket(_ ticket: StoreTicket?, of key: CallKey) {
        // In place, the dictionary would allocate three times.
        guard var call = calls[key] else { return }
        call.setTicket(ticket)
        calls[key] = call
    }

    /// An append was decided.
    func finish(_ key: CallKey, _ result: Result<WriteOutcome, MartletError>) {
        guard case .append(let append)? = calls[key]?.kind else { return }
        append.finish(result, CallHandle(calls: self, key: key))
    }

    /// An append lost, and the events that came in between are to be read: from now on it is work of its own, which holds
    /// so much on its tenant's account.
    /// - Returns: false where there is no memory for that: the call is as it was.
    func replace(_ key: CallKey, of tenant: TenantID, stateBytes: Int, by makeWork: () -> any CallWork) -> Bool {
        let holder = FairPool.Holder.tenant(tenant)
        guard calls[key] != nil, service.pools.calls.take(stateBytes, for: holder) else { return false }
        let work = makeWork()
        calls[key]?.replace(by: work, stateBytes: stateBytes, holder)
        work.start()
        return true
    }

    private func close(_ call: OpenCall) { call.cancel(service) }

    // MARK: Deadlines

    private func watch(_ deadline: NIODeadline) {
        let bound = bound
        deadlines.add(deadline, on: eventLoop) { bound.value.endOverdue() }
    }

    private func endOverdue() {
        deadlines.due()
        let now = eventLoop.now
        for (key, call) in calls where call.deadline <= now { end(key, .deadlineExceeded(millis: call.timeoutMillis)) }
        if let next = calls.values.map(\.deadline).min(), next < .distantFuture { watch(next) }
    }

    private func makeWork(_ request: CallRequest, _ creditBytes: UInt64, _ handle: CallHandle) -> any CallWork {
        switch request {
        case .append: preconditionFailure("an append needs no work of its own")
        case .load(let request): LoadCall.make(request, creditBytes, handle)
        case .read(let request): ReadCall.make(request, creditBytes, handle)
        case .subscribe(let request): SubscribeCall(request, creditBytes, handle)
        case .getHead(let tenant): GetHeadCall.make(tenant, handle)
        case .getStatus: GetStatusCall(handle)
        case .getServerInfo: GetServerInfoCall(handle)
        case .saveSnapshot(let request): SaveSnapshotCall.make(request, handle)
        case .loadSnapshot(let request): LoadSnapshotCall.make(request, handle)
        case .listSnapshots(let tenant, let aggregate): ListSnapshotsCall.make(tenant, aggregate, handle)
        case .deleteSnapshots(let request): DeleteSnapshotsCall.make(request, handle)
        case .putSettings(let request): PutSettingsCall.make(request, handle)
        case .getSettings(let tenant, let kind): GetSettingsCall.make(tenant, kind, handle)
        case .putConsumer(let request): PutConsumerCall.make(request, handle)
        case .getConsumer(let consumer): GetConsumerCall.make(consumer, handle)
        case .listConsumers(let request): ListConsumersCall.make(request, handle)
        case .deleteConsumer(let consumer): DeleteConsumerCall.make(consumer, handle)
        case .resetConsumer(let request): ResetConsumerCall.make(request, handle)
        case .listBlockedKeys(let request): ListBlockedKeysCall.make(request, handle)
        case .unblockKeys(let request): UnblockKeysCall.make(request, handle)
        case .awaitConsumer(let request): AwaitConsumerCall(request, handle)
        case .consume(let request): ConsumeCall(request, creditBytes, handle)
        case .consumeTenants(let request): ConsumeTenantsCall(request, creditBytes, handle)
        case .changeSchedules(let request): ChangeSchedulesCall.make(request, handle)
        case .listSchedules(let request): ListSchedulesCall.make(request, handle)
        }
    }
}
