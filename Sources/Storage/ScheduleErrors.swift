public import MartletModel

extension SchedulesOutcome {
    /// How a change with this result is answered: nil if it was carried out.
    public var refusal: MartletError? {
        switch self {
        case .changed: nil
        case .eventIDsReused(let ids): .eventIDsReused(ids)
        case .tooMany(let max):
            MartletError(
                .resourceExhausted, reason: .tooManySchedules,
                message: "the tenant has \(max) schedules, the most that it may have: cancel some, or wait until their "
                    + "events are appended")
        }
    }
}
