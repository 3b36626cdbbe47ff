import MartletModel
import MartletStorage

/// An append on its way to its decision: it goes into its tenant's queue at once.
struct AppendCall {
    /// What is still asked of the request once it was decided.
    private let tenant: TenantID
    private let eventCount: Int
    private let includesConflictingEvents: Bool
    /// How many schedules it sets, and how many it cancels.
    private let setCount: UInt8
    private let cancelledCount: UInt8
    /// When the first of its schedules is due; nil where it sets none.
    private let firstDue: Timestamp?
    /// What can stop it; nil where nothing can.
    var ticket: StoreTicket?

    init(_ request: AppendRequest) {
        tenant = request.tenant
        eventCount = request.eventCount
        includesConflictingEvents = request.includeConflictingEvents
        // Most appends have none, and are not to pay for it.
        guard request.hasExtras else {
            (firstDue, setCount, cancelledCount) = (nil, 0, 0)
            return
        }
        let schedules = request.schedules
        firstDue = schedules.firstDue
        setCount = UInt8(clamping: schedules.count { !$0.isCancel })
        cancelledCount = UInt8(clamping: schedules.count - Int(setCount))
    }

    /// Starts an append whose call is open.
    static func start(_ request: AppendRequest, _ handle: CallHandle) {
        let (calls, key) = (handle.calls, handle.key)
        let command: WriteCommand =
            request.hasExtras ? .append(request.limited(by: handle.limits)) : .append(request)
        let ticket = calls.service.store.write(command) {
            [mailbox = calls.mailbox, bound = calls.bound] in
            mailbox.deliver(.init(calls: bound, call: key, result: $0))
        }
        calls.setTicket(ticket, of: key)
    }

    /// It was decided.
    func finish(_ result: Result<WriteOutcome, MartletError>, _ handle: CallHandle) {
        switch result {
        case .success(.appended(let receipt)):
            if !receipt.replayed {
                handle.service.counters.append(eventCount)
                handle.service.counters.schedules.change(set: Int(setCount), cancelled: Int(cancelledCount))
            }
            if let firstDue { handle.service.schedules.note(firstDue) }
            handle.answer(.append(receipt))
        case .success(.versionConflict(let conflicts)) where includesConflictingEvents:
            ConflictingEventsCall.start(conflicts, tenant, handle)
        case .success(let outcome):
            handle.service.counters.count(outcome)
            handle.end(outcome.refusal ?? .unexpectedOutcome)
        case .failure(let error): handle.end(error)
        }
    }
}

extension AppendRequest {
    /// The same, with how many schedules its tenant may have.
    fileprivate func limited(by limits: Limits) -> AppendRequest {
        var request = self
        request.schedulesMax = limits.schedulesPerTenantMax
        return request
    }
}
