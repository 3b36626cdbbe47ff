import MartletModel
import MartletStorage

/// An append on its way to its decision: it goes into its tenant's queue at once.
struct AppendCall {
    /// What is still asked of the request once it was decided.
    private let tenant: TenantID
    private let eventCount: Int
    private let includesConflictingEvents: Bool
    private let firstDue: Timestamp?
    /// What can stop it; nil where nothing can.
    var ticket: StoreTicket?

    init(_ request: AppendRequest) {
        tenant = request.tenant
        eventCount = request.eventCount
        includesConflictingEvents = request.includeConflictingEvents
        firstDue = request.hasExtras ? request.schedules.firstDue : nil
    }

    /// Starts an append whose call is open.
    static func start(_ request: AppendRequest, _ handle: CallHandle) {
        let (calls, key) = (handle.calls, handle.key)
        var request = request
        if request.hasExtras { request.schedulesMax = handle.limits.schedulesPerTenantMax }
        let ticket = calls.service.store.write(.append(request)) {
            [mailbox = calls.mailbox, bound = calls.bound] in
            mailbox.deliver(.init(calls: bound, call: key, result: $0))
        }
        calls.setTicket(ticket, of: key)
    }

    /// It was decided.
    func finish(_ result: Result<WriteOutcome, MartletError>, _ handle: CallHandle) {
        switch result {
        case .success(.appended(let receipt)):
            if !receipt.replayed { handle.service.counters.append(eventCount) }
            if let firstDue { handle.service.schedules.note(firstDue) }
            handle.answer(.append(receipt))
        case .success(.versionConflict(let conflicts)) where includesConflictingEvents:
            ConflictingEventsCall.start(conflicts, tenant, handle)
        case .success(let outcome): handle.end(outcome.refusal ?? .unexpectedOutcome)
        case .failure(let error): handle.end(error)
        }
    }
}
