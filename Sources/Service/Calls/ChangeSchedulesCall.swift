import MartletModel
import MartletStorage

/// Sets and cancels schedules.
enum ChangeSchedulesCall {
    static func make(_ request: ChangeSchedulesRequest, _ handle: CallHandle) -> ChangingCall {
        let change = SchedulesChange(
            .asked(request.changes), of: request.tenant, countMax: handle.limits.schedulesPerTenantMax)
        return ChangingCall(tenant: request.tenant, handle, .ready(.schedules(change)))
    }
}

extension ScheduleChange {
    var isCancel: Bool { if case .cancel = self { true } else { false } }
}

extension [ScheduleChange] {
    /// When the first of those that are set is due; nil where none is set.
    var firstDue: Timestamp? {
        lazy.compactMap { if case .set(let schedule) = $0 { schedule.due } else { nil } }.min()
    }
}
