import MartletModel
import MartletQueries
import MartletStorage
import MartletTenants
import NIOCore

/// An append on its way to its decision.
///
/// It goes into its tenant's queue at once where the tenant's settings are known; otherwise they are read first, as a
/// policy of the tenant may say when a snapshot is due.
struct AppendCall {
    /// What is still asked of the request once it was decided.
    private let tenant: TenantID
    private let eventCount: Int
    private let includesConflictingEvents: Bool
    /// What can stop it; nil where nothing can.
    var ticket: StoreTicket?

    init(_ request: AppendRequest) {
        tenant = request.tenant
        eventCount = request.eventCount
        includesConflictingEvents = request.includeConflictingEvents
    }

    /// Starts an append whose call is open.
    static func start(_ request: AppendRequest, _ handle: CallHandle) {
        let service = handle.service
        let known = service.settings.known(request.tenant, now: handle.eventLoop.now)
        let tenant = request.tenant
        if let known {
            submit(request, known.settings.policies, handle)
            guard known.isOld, service.store.isShared else { return }
            // Another server may have changed them: the next append knows.
            service.store.read(for: tenant) { [settings = service.settings] reader throws(StorageError) in
                _ = try settings.resolve(tenant, try reader.standing(of: tenant), reader: reader)
            } completion: { (_: Result<Void, MartletError>) in
            }
            return
        }
        let ticket = handle.read(for: tenant) { [settings = service.settings] reader throws(StorageError) in
            try settings.resolve(tenant, try reader.standing(of: tenant), reader: reader).policies
        } _: { (result: Result<SnapshotPolicies, MartletError>) in
            guard handle.isOpen else { return }
            // They only give advice: where storage cannot tell them, the append goes on without.
            submit(request, (try? result.get()) ?? .none, handle)
        }
        handle.calls.setTicket(ticket, of: handle.key)
    }

    private static func submit(_ request: AppendRequest, _ policies: SnapshotPolicies, _ handle: CallHandle) {
        let (calls, key) = (handle.calls, handle.key)
        let ticket = calls.service.store.append(request.under(policies)) {
            [mailbox = calls.mailbox, bound = calls.bound] in
            mailbox.deliver(.init(calls: bound, call: key, result: $0))
        }
        calls.setTicket(ticket, of: key)
    }

    /// It was decided.
    func finish(_ result: Result<AppendReceipt, MartletError>, _ handle: CallHandle) {
        switch result {
        case .success(let receipt):
            if !receipt.replayed { handle.service.counters.append(eventCount) }
            handle.answer(.append(receipt))
        case .failure(let error):
            guard includesConflictingEvents, !error.conflicts.isEmpty else { return handle.end(error) }
            // The events that came in between are read when there is room for them.
            handle.calls.replace(handle.key, by: ConflictingEventsCall.make(error, tenant, handle))
        }
    }
}
