import FoundationEssentials
import MartletModel

/// Schedules, and the events of those whose time has come.
extension WriteState {
    private mutating func scheduleDecision() -> ScheduleDecision {
        let beside = decisionsBeside()
        let decision = beside.schedules ?? ScheduleDecision(facts.schedules, now: now)
        beside.schedules = decision
        return decision
    }

    /// Appends the event of a schedule, and ends the schedule.
    mutating func decide(firing request: AppendRequest) -> WriteOutcome {
        guard let firing = request.firing, let event = request.aggregates.first?.events.first else {
            return .firing(.gone)
        }
        let tenant = find(request.tenant)
        if let outcome = known(request) {
            guard case .appended = outcome else {
                return park(firing.key, event.id, "an event of its id is stored with other content", request.tenant)
            }
            if scheduleDecision().end(firing.key, event: event.id, in: request.tenant) { note(request.tenant) }
            return outcome
        }
        guard scheduleDecision().isDue(firing, event: event.id, in: request.tenant) else { return .firing(.gone) }
        if firing.isMissed(at: now), let millis = firing.latenessMillisMax {
            let late = (now.microseconds - firing.due.microseconds) / 1_000
            return park(
                firing.key, event.id, "it would be \(late) ms late, and may be at most \(millis) ms late",
                request.tenant)
        }
        if case .refused(let error) = request.admission {
            return park(firing.key, event.id, error.message, request.tenant)
        }
        for part in request.aggregates where version(of: part.aggregate, in: request.tenant) >= .max {
            return park(firing.key, event.id, "its aggregate has no version left", request.tenant)
        }
        if let limit = limitReached(by: request, tenant) {
            return park(firing.key, event.id, MartletError.storageLimitReached(limit).message, request.tenant)
        }
        _ = scheduleDecision().end(firing.key, event: event.id, in: request.tenant)
        note(request.tenant)
        return .appended(append(request, to: find(request.tenant) ?? makeTenant(request.tenant)))
    }

    private mutating func park(
        _ key: ScheduleKey, _ event: UUID, _ reason: String, _ tenant: TenantID
    ) -> WriteOutcome {
        guard scheduleDecision().park(key, event: event, reason: reason, in: tenant) else { return .firing(.gone) }
        note(tenant)
        return .firing(.parked(reason: reason))
    }

    /// Something of the tenant's schedules is to be stored.
    private mutating func note(_ tenant: TenantID) { (find(tenant) ?? makeTenant(tenant)).hasScheduleChanges = true }

    mutating func decide(_ change: SchedulesChange) -> SchedulesOutcome {
        _ = find(change.tenant)
        switch change.kind {
        case .park(let key, let event, let reason):
            if scheduleDecision().park(key, event: event, reason: reason, in: change.tenant) { note(change.tenant) }
            return .changed([])
        case .asked(let changes):
            if let refusal = refusal(of: changes, in: change.tenant, countMax: change.countMax) { return refusal }
            return .changed(apply(changes, to: change.tenant))
        }
    }

    /// Why schedules cannot be changed like that; nil where they can.
    mutating func refusal(
        of changes: [ScheduleChange], in tenant: TenantID, countMax: Int
    ) -> SchedulesOutcome? {
        guard !changes.isEmpty else { return nil }
        var reused: [ReusedEventID] = []
        for case .set(let schedule) in changes {
            guard let stored = storedEvent(schedule.event.id, in: tenant),
                !isSame(schedule.event, in: schedule.aggregate, as: stored)
            else { continue }
            reused.append(
                ReusedEventID(
                    id: schedule.event.id, aggregate: stored.aggregate, version: stored.version,
                    position: stored.position))
        }
        guard reused.isEmpty else { return .eventIDsReused(reused) }
        let stored = storedIDs(of: changes, in: tenant)
        let count = scheduleDecision().count(after: changes, of: tenant, stored: stored)
        return count > countMax && changes.contains { !$0.isCancel } ? .tooMany(max: countMax) : nil
    }

    /// Those ids of the events of schedules that are stored.
    private func storedIDs(of changes: [ScheduleChange], in tenant: TenantID) -> Set<UUID> {
        var ids: Set<UUID> = []
        for case .set(let schedule) in changes where storedEvent(schedule.event.id, in: tenant) != nil {
            ids.insert(schedule.event.id)
        }
        return ids
    }

    /// Changes schedules of a tenant: nothing speaks against it.
    mutating func apply(_ changes: [ScheduleChange], to tenant: TenantID) -> [ScheduleChanged] {
        guard !changes.isEmpty else { return [] }
        let stored = storedIDs(of: changes, in: tenant)
        let changed = scheduleDecision().apply(changes, of: tenant, stored: stored)
        if changed.contains(where: { $0 != .absent && $0 != .fired }) {
            count(tenant, find(tenant))
            note(tenant)
        }
        return changed
    }
}

extension ScheduleChange {
    fileprivate var isCancel: Bool { if case .cancel = self { true } else { false } }
}
