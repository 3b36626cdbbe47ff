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

    /// Does what can be done now: the connection may take bytes again, or takes none any more.
    func pump()

    /// The call is over: whatever is still on its way is dropped, what waits leaves its queue, what it holds is given
    /// back.
    func cancel()
}

extension CallWork {
    func addCredit(_ bytes: UInt64) {}
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

    var isSubscription: Bool { work is SubscribeCall }

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

    mutating func replace(by work: any CallWork) {
        kind = .work(work, stateBytes: 0, .tenant(EventStore.serverOwner))
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

extension CallRequest {
    /// What an open call holds in memory beside its events, about: its state, and what its request carries.
    var stateBytes: Int {
        let state = 2_048
        return switch self {
        case .append, .load, .getHead, .getStatus, .loadSnapshot, .listSnapshots, .deleteSnapshots, .getSettings: state
        case .read(let request): state + request.filter.stateBytes
        case .subscribe(let request): 2 * state + request.filter.stateBytes
        case .saveSnapshot(let request): state + request.snapshot.payload.storageCapacity
        case .putSettings(let request): state + request.document.storageCapacity
        }
    }
}

extension EventFilter {
    fileprivate var stateBytes: Int {
        96 * (aggregateTypes.count + eventTypes.count + aggregateIDs.count)
            + aggregateTypes.reduce(0) { $0 + $1.text.utf8.count } + eventTypes.reduce(0) { $0 + $1.text.utf8.count }
    }
}
