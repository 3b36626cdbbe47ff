public import MartletModel
import MartletRecordCodec
import MartletSession

/// An event that the server is to append when its time has come.
public struct ScheduledEvent: Hashable, Sendable {
    /// Names the schedule within its tenant: setting another one of the same key moves it.
    public var key: ScheduleKey
    /// When the event is appended: never before, and at once where that is past. From 1970 to the end of the year 9999.
    public var due: Timestamp
    /// What it is appended to, whatever version that has then.
    public var aggregate: AggregateName
    /// The event. A retry must carry the same id.
    public var event: NewEvent
    /// It is not appended at all where it would be later than that; nil is however late. Counted in whole milliseconds, 1
    /// or more, rounded up.
    public var latenessMax: Duration?

    /// A schedule of those parts.
    public init(
        _ key: ScheduleKey, due: Timestamp, aggregate: AggregateName, event: NewEvent, latenessMax: Duration? = nil
    ) {
        self.key = key
        self.due = due
        self.aggregate = aggregate
        self.event = event
        self.latenessMax = latenessMax
    }
}

/// A change of one schedule, of its own or as a part of an append.
public enum NewScheduleChange: Hashable, Sendable {
    /// Sets it: makes it, or replaces the one of its key.
    case set(ScheduledEvent)
    /// Deletes it.
    case cancel(ScheduleKey)
}

extension MartletClient {
    /// Sets a schedule: makes it, or replaces the one of its key.
    ///
    /// What it returns is durable. It tries again, with the same event id, if that is safe and may help: the outcome is then
    /// that of the last try, ``ScheduleChanged/moved`` or ``ScheduleChanged/fired`` even where the
    /// first one, whose answer was lost, made the schedule.
    /// - Throws: `TOO_MANY_SCHEDULES`; `INVALID_FIELD`, `INVALID_JSON` or `LIMIT_EXCEEDED` for what cannot be a schedule;
    ///   `OUTCOME_UNKNOWN`, `DEADLINE_EXCEEDED` and `CANCELLED` leave open whether it is set, and it may be set again.
    @discardableResult
    public func setSchedule(
        _ schedule: ScheduledEvent, tenant: TenantID, timeout: Duration? = nil
    ) async throws(MartletError) -> ScheduleChanged {
        try await changeSchedule(.set(schedule), tenant: tenant, timeout: timeout)
    }

    /// Deletes a schedule.
    /// - Returns: ``ScheduleChanged/cancelled``, or ``ScheduleChanged/absent`` where there is none
    ///   of that key, or none any more; also where an earlier try, whose answer was lost, deleted it.
    /// - Throws: `OUTCOME_UNKNOWN`, `DEADLINE_EXCEEDED` and `CANCELLED` leave open whether it is deleted.
    @discardableResult
    public func cancelSchedule(
        _ key: ScheduleKey, tenant: TenantID, timeout: Duration? = nil
    ) async throws(MartletError) -> ScheduleChanged {
        try await changeSchedule(.cancel(key), tenant: tenant, timeout: timeout)
    }

    private func changeSchedule(
        _ change: NewScheduleChange, tenant: TenantID, timeout: Duration?
    ) async throws(MartletError) -> ScheduleChanged {
        guard let outcome = try await changeSchedules([change], tenant: tenant, timeout: timeout).first else {
            throw .wrongAnswer
        }
        return outcome
    }

    /// Sets and cancels schedules: all of it or nothing.
    ///
    /// ``append(_:tenant:includeConflictingEvents:checkpoint:schedules:timeout:)`` does so together with an append.
    /// - Parameter changes: 1 to ``ScheduleChange/countMax``, each of another schedule.
    /// - Returns: what became of each change, in their order. As for ``setSchedule(_:tenant:timeout:)``, a call that was
    ///   tried again may answer ``ScheduleChanged/moved``, ``ScheduleChanged/fired`` or
    ///   ``ScheduleChanged/absent`` for what its first try did.
    /// - Throws: as ``setSchedule(_:tenant:timeout:)``.
    @discardableResult
    public func changeSchedules(
        _ changes: [NewScheduleChange], tenant: TenantID, timeout: Duration? = nil
    ) async throws(MartletError) -> [ScheduleChanged] {
        let encoded = try ScheduleChange.encoded(changes, name: "changes")
        return try await changeSchedules(ChangeSchedulesRequest(tenant: tenant, encoded), timeout: timeout)
    }

    /// Changes schedules whose events are encoded already.
    /// - Throws: as ``setSchedule(_:tenant:timeout:)``.
    @discardableResult
    public func changeSchedules(
        _ request: ChangeSchedulesRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> [ScheduleChanged] {
        guard case .schedulesChanged(let outcomes) = try await answer(.changeSchedules(request), timeout: timeout),
            outcomes.count == request.changes.count
        else { throw .wrongAnswer }
        return outcomes
    }

    /// Schedules of a tenant by key: one page, of as many as the request asks for unless there are no more.
    public func schedules(
        _ request: ListSchedulesRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> [ListedSchedule] {
        guard case .schedules(let page) = try await answer(.listSchedules(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return page
    }

    /// The first schedules of a tenant by key; all of them unless there are more than `max`.
    /// - Parameters:
    ///   - isParkedOnly: only those that could not be appended.
    ///   - timeout: of each call; one is made for ``ListSchedulesRequest/countMax`` schedules.
    public func schedules(
        of tenant: TenantID, isParkedOnly: Bool = false, max: Int = .max, timeout: Duration? = nil
    ) async throws(MartletError) -> [ListedSchedule] {
        var all: [ListedSchedule] = []
        while all.count < max {
            let request = ListSchedulesRequest(
                tenant: tenant, after: all.last?.key, isParkedOnly: isParkedOnly,
                count: min(max - all.count, ListSchedulesRequest.countMax))
            let page = try await schedules(request, timeout: timeout)
            all += page.prefix(request.count)
            guard page.count >= request.count else { break }
        }
        return all
    }
}

extension ScheduleChange {
    /// Encodes the events of changes; their buffers are one.
    /// - Parameter name: what the message of an error calls the changes.
    static func encoded(_ changes: [NewScheduleChange], name: String) throws(MartletError) -> [ScheduleChange] {
        var encoder = EventEncoder.forServer
        for index in changes.indices {
            guard case .set(let schedule) = changes[index] else { continue }
            try encoder.add(schedule.event, name: "\(name)[\(index)].set.event")
        }
        var events = encoder.finish()[...]
        return changes.compactMap { change in
            switch change {
            case .cancel(let key): .cancel(key)
            case .set(let schedule): events.popFirst().map { .set(NewSchedule(schedule, $0)) }
            }
        }
    }
}

extension NewSchedule {
    fileprivate init(_ schedule: ScheduledEvent, _ event: EncodedEvent) {
        self.init(
            schedule.key, due: schedule.due, aggregate: schedule.aggregate, event: event,
            latenessMillisMax: schedule.latenessMax.map { latenessMax in
                let (seconds, attoseconds) = latenessMax.components
                let (millis, overflow) = seconds.multipliedReportingOverflow(by: 1_000)
                // At least 1: the wire has 0 for none. What is too much, the server says.
                guard !overflow else { return seconds < 0 ? 1 : .max }
                return UInt64(max(1, millis + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000))
            })
    }
}
