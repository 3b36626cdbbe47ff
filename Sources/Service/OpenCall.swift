import MartletModel
import MartletStorage
import MartletTenants
import NIOCore

/// What a call that is not an append does. Used on its connection's event loop.
protocol CallWork: AnyObject {
    /// Begins; once.
    func start()

    /// The peer grants that many more bytes of events. Only streams care.
    func addCredit(_ bytes: UInt64)

    /// The peer says something on its stream. Only workers do.
    func take(_ replies: [WorkerReply])

    /// Does what can be done now: the connection may take bytes again, or takes none any more.
    func pump()

    /// The call is over: whatever is still on its way is dropped, what waits leaves its queue, what it holds is given
    /// back.
    func cancel()
}

extension CallWork {
    func addCredit(_ bytes: UInt64) {}

    func take(_ replies: [WorkerReply]) {}
}

/// An open call of a connection.
struct OpenCall {
    enum Kind {
        case append(AppendCall)
        case work(any CallWork, stateBytes: Int, FairPool.Holder)
    }

    private(set) var kind: Kind
    private(set) var deadline: NIODeadline
    private(set) var timeoutMillis: UInt32

    init(_ deadline: NIODeadline, _ timeoutMillis: UInt32, _ kind: Kind) {
        self.kind = kind
        self.deadline = deadline
        self.timeoutMillis = timeoutMillis
    }

    /// Whether it goes on for ever.
    var isSubscription: Bool { work is SubscribeCall || work is ConsumeCall || work is ConsumeTenantsCall }

    var work: (any CallWork)? {
        switch kind {
        case .append: nil
        case .work(let work, _, _): work
        }
    }

    mutating func setTicket(_ ticket: StoreTicket?) {
        guard case .append(var append) = kind else { return }
        append.ticket = ticket
        kind = .append(append)
    }

    mutating func replace(by work: any CallWork, stateBytes: Int, _ holder: FairPool.Holder) {
        kind = .work(work, stateBytes: stateBytes, holder)
    }

    /// Nothing of the call is sent any more.
    func cancel(_ service: EventService) {
        switch kind {
        case .append(let append): if let ticket = append.ticket { service.store.cancel(ticket) }
        case .work(let work, let stateBytes, let holder):
            work.cancel()
            service.pools.calls.give(stateBytes, for: holder)
        }
    }
}

// What calls hold in memory beside their events, about.

extension OpenCall {
    /// The state of a call, with names and numbers of its request.
    static let stateBytes = 2_048
    /// A value of a set or a dictionary, beside its text.
    fileprivate static let valueBytes = 96
}

extension CallRequest {
    /// What the worker of one tenant's consumer holds, without its slots.
    static let workerStateBytes = 2 * OpenCall.stateBytes

    /// What an open call holds: its state, and what its request carries.
    var stateBytes: Int {
        let state = OpenCall.stateBytes
        return switch self {
        case .append, .getHead, .getStatus, .getServerInfo, .listSnapshots, .deleteSnapshots, .getSettings,
            .getConsumer, .listConsumers, .deleteConsumer, .resetConsumer, .listBlockedKeys, .awaitConsumer,
            .listSchedules:
            state
        case .putConsumer(let request): state + request.definition.filter.stateBytes
        case .changeSchedules(let request): request.changes.reduce(state) { $0 + $1.contentBytes }
        case .unblockKeys(let request): state + request.keys.count * (OpenCall.valueBytes + ConsumerKey.bytesMax)
        // What its slots hold is on the account as it comes.
        case .consume: Self.workerStateBytes
        case .consumeTenants(let request): 2 * state + request.tenants.count * OpenCall.valueBytes
        case .load(let request): state + (request.snapshot?.stateBytes ?? 0) + request.upcasting.stateBytes
        case .loadSnapshot(let request): state + request.use.stateBytes + request.upcasting.stateBytes
        case .read(let request): state + request.filter.stateBytes + request.upcasting.stateBytes
        case .subscribe(let request): 2 * state + request.filter.stateBytes + request.upcasting.stateBytes
        case .saveSnapshot(let request): state + request.snapshot.payload.storageCapacity
        case .putSettings(let request): state + request.document.storageCapacity
        }
    }
}

extension EventFilter {
    fileprivate var stateBytes: Int {
        OpenCall.valueBytes * (aggregateTypes.count + eventTypes.count + aggregateIDs.count)
            + aggregateTypes.reduce(0) { $0 + $1.text.utf8.count } + eventTypes.reduce(0) { $0 + $1.text.utf8.count }
    }
}

extension UpcastingOptions {
    fileprivate var stateBytes: Int {
        stopAt.keys.reduce(0) { $0 + OpenCall.valueBytes + $1.text.utf8.count }
    }
}

extension SnapshotUse {
    /// The values are numbers, which take little.
    fileprivate var stateBytes: Int { 16 * schemaVersions.count }
}

extension [VersionConflict] {
    /// What an append that lost holds until the events that came in between are read.
    var stateBytes: Int {
        reduce(OpenCall.stateBytes) {
            $0 + MemoryLayout<VersionConflict>.stride + OpenCall.valueBytes + $1.aggregate.type.text.utf8.count
        }
    }
}
