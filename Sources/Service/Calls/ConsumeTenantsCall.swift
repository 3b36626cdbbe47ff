import DequeModule
import FoundationEssentials
import MartletAccess
import MartletModel
import MartletStorage
import MartletTenants
import NIOCore

/// A worker of the consumers of one name of many tenants, on one stream: looks again and again which tenants have such a
/// consumer, and has a ``ConsumerWorker`` for each of them. One that cannot go on leaves the others alone.
final class ConsumeTenantsCall: CallWork {
    private struct Member {
        let worker: ConsumerWorker
        let startedAt: NIODeadline
    }

    /// A tenant whose consumer could not be worked on.
    private struct HeldBack {
        var until: NIODeadline
        var delay: TimeAmount
    }

    /// How often it looks which tenants there are.
    static let lookEvery = TimeAmount.seconds(2)
    /// How long a tenant that failed is held back: at first, and at most.
    private static let holdBack: (first: TimeAmount, max: TimeAmount) = (.seconds(1), .seconds(60))
    /// So many workers begin or end in one turn of the event loop.
    private static let workersPerTurn = 16

    private let request: ConsumeTenantsRequest
    /// On whose account it looks for tenants.
    private let account: TenantID
    private let handle: CallHandle
    private var stream: WorkerStream?
    private let creditBytes: UInt64
    private var members: [TenantID: Member] = [:]
    private var heldBack: [TenantID: HeldBack] = [:]
    private var starting: Deque<TenantID> = []
    private var isStarting: Set<TenantID> = []
    private var look: StoreTicket?
    private var timer: Scheduled<Void>?
    private var hasBegun = false
    private var isOver = false

    init(_ request: ConsumeTenantsRequest, _ creditBytes: UInt64, _ handle: CallHandle) {
        self.request = request
        account = request.account(of: handle.calls.principal)
        self.creditBytes = creditBytes
        self.handle = handle
    }

    private var service: EventService { handle.service }
    private var now: NIODeadline { handle.eventLoop.now }

    func start() {
        service.counters.subscriptionOpened()
        if let error = ConsumeRequest.fault(ofEpochAbove: request.epochAbove) { return handle.end(error) }
        stream = WorkerStream(handle, creditBytes: creditBytes, isShared: true) { [weak self] worker, error in
            self?.ended(worker, error)
        }
        lookForTenants()
    }

    func addCredit(_ bytes: UInt64) {
        stream?.addCredit(bytes)
        stream?.serve()
    }

    func take(_ replies: [WorkerReply]) {
        guard let stream else { return }
        do throws(MartletError) {
            for worker in try stream.take(replies, now: handle.moment) { worker.pump() }
        } catch { handle.end(error) }
    }

    func pump() { stream?.serve() }

    func cancel() {
        service.counters.subscriptionClosed()
        isOver = true
        timer?.cancel()
        if let look { service.store.cancel(look) }
        starting = []
        let workers = members.values.map(\.worker)
        members = [:]
        Self.cancel(workers[...], handle)
    }

    /// A few in each turn of the event loop.
    private static func cancel(_ workers: ArraySlice<ConsumerWorker>, _ handle: CallHandle) {
        for worker in workers.prefix(workersPerTurn) { cancel(worker, handle) }
        let left = workers.dropFirst(workersPerTurn)
        guard !left.isEmpty else { return }
        let bound = NIOLoopBound((left, handle), eventLoop: handle.eventLoop)
        handle.eventLoop.execute { cancel(bound.value.0, bound.value.1) }
    }

    private static func cancel(_ worker: ConsumerWorker, _ handle: CallHandle) {
        worker.cancel()
        handle.service.pools.calls.give(CallRequest.workerStateBytes, for: .tenant(worker.id.tenant))
    }

    // MARK: Which tenants there are

    private func lookForTenants() {
        let (name, countMax) = (request.consumer, handle.limits.tenantsPerStreamMax + 1)
        let scope = request.tenants.isEmpty ? handle.calls.principal.tenants : .only(request.tenants)
        look = handle.read(
            for: account,
            { reader throws(StorageError) in
                try reader.tenants(withConsumer: name, in: scope, after: nil, countMax: countMax)
            }
        ) { [weak self] result in
            guard let self, !isOver else { return }
            look = nil
            found(result)
        }
    }

    private func found(_ result: Result<[TenantID], MartletError>) {
        switch result {
        case .success(let tenants) where tenants.count > handle.limits.tenantsPerStreamMax:
            return handle.end(.tooManyTenants(handle.limits, request.consumer))
        case .success(let tenants): join(tenants)
        // It looks again.
        case .failure(let error) where error.isRetryable: break
        case .failure(let error): return handle.end(error)
        }
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        timer = handle.eventLoop.scheduleTask(in: Self.lookEvery) { bound.value.tick() }
    }

    private func tick() {
        guard !isOver else { return }
        if stream?.isSilent(now) == true { return handle.end(.workerSilent(millis: handle.limits.consumerLeaseMillis)) }
        lookForTenants()
    }

    private func join(_ tenants: [TenantID]) {
        let now = now
        if !heldBack.isEmpty {
            let there = Set(tenants)
            heldBack = heldBack.filter { there.contains($0.key) }
        }
        let new = tenants.filter {
            members[$0] == nil && !isStarting.contains($0) && heldBack[$0].map { $0.until <= now } ?? true
        }
        guard !new.isEmpty || !hasBegun else { return }
        hasBegun = true
        handle.send(.consume(.joined(new)))
        isStarting.formUnion(new)
        starting.append(contentsOf: new)
        startSome()
    }

    /// A few in each turn of the event loop.
    private func startSome() {
        for _ in 0..<Self.workersPerTurn {
            guard !isOver, let tenant = starting.popFirst() else { return }
            isStarting.remove(tenant)
            start(tenant)
        }
        guard !starting.isEmpty else { return }
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        handle.eventLoop.execute { bound.value.startSome() }
    }

    private func start(_ tenant: TenantID) {
        guard let stream else { return }
        let bytes = CallRequest.workerStateBytes
        guard service.pools.calls.take(bytes, for: .tenant(tenant)) else {
            return leave(tenant, after: nil, .callMemoryFull(handle.limits, bytes: bytes))
        }
        let worker = ConsumerWorker(request.request(of: tenant), on: stream)
        members[tenant] = Member(worker: worker, startedAt: now)
        worker.start()
    }

    // MARK: What becomes of a tenant

    private func ended(_ worker: ConsumerWorker, _ error: MartletError) {
        guard !isOver, handle.isOpen else { return }
        switch error.reason {
        // These are about the worker, whatever the tenant.
        case .workerReplaced, .workerSilent: return handle.end(error)
        default: break
        }
        let tenant = worker.id.tenant
        guard let member = members[tenant], member.worker === worker else { return }
        members[tenant] = nil
        stream?.forget(worker)
        stream?.deliveries.forget(worker.slots)
        Self.cancel(worker, handle)
        leave(tenant, after: now - member.startedAt, error)
        // Others may have waited behind it.
        stream?.serve()
    }

    /// - Parameter time: for so long it was worked on; nil where that had not begun.
    private func leave(_ tenant: TenantID, after time: TimeAmount?, _ error: MartletError) {
        if error.reason != .consumerNotFound {
            let last = time.map { $0 < Self.holdBack.max } ?? true ? heldBack[tenant]?.delay : nil
            let delay = min(Self.holdBack.max, last.map { .nanoseconds(2 * $0.nanoseconds) } ?? Self.holdBack.first)
            heldBack[tenant] = HeldBack(until: now + delay, delay: delay)
        }
        handle.send(.consumeOf(tenant, .left(error)))
    }
}

extension ConsumeTenantsRequest {
    /// On whose account is what a call over many tenants takes for all of them together: one of the tenants that it names, or
    /// that the principal may use. Of a principal that may use all, it is one that stands for none of them.
    func account(of principal: Principal) -> TenantID {
        if let tenant = tenants.min() { return tenant }
        guard case .only(let tenants) = principal.tenants, let tenant = tenants.min() else {
            return TenantID(UUID(high: 0, low: 1))
        }
        return tenant
    }
}
