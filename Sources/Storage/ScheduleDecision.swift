import FoundationEssentials
import MartletModel

/// The decision on schedules: a part of ``WriteDecision``. Each change is decided as if the ones before it were stored.
///
/// - *Once.* A schedule's event is appended together with the schedule's end, and its id is unique in its tenant: setting the
///   schedule again when that has happened changes nothing.
/// - *Never early.* The event's commit time is that of the decision, which refuses to append before the schedule's time.
/// - *Nothing is lost silently.* An event that cannot be appended, or would be too late by its own word, is set aside, with the
///   reason.
final class ScheduleDecision {
    private var facts: ScheduleFacts
    private let now: Timestamp
    private var changes: [TenantID: [ScheduleKey: SchedulesPlan.Change]] = [:]

    init(_ facts: ScheduleFacts, now: Timestamp) {
        self.facts = facts
        self.now = now
    }

    /// What is to be stored of a tenant's schedules; nil for nothing.
    func plan(of tenant: TenantID) -> SchedulesPlan? {
        guard let changes = changes[tenant] else { return nil }
        let known = facts.tenants[tenant] ?? ScheduleFacts.Tenant()
        // The earliest of those that stay, and of those that are changed.
        let others = known.earliest.first { changes[$0.key] == nil }?.due
        let changed = changes.keys.compactMap { key -> Timestamp? in
            let row = facts.schedules[ScheduleID(tenant: tenant, key: key)]
            return row?.isParked == false ? row?.due : nil
        }
        return SchedulesPlan(changes: changes, count: known.count, due: (changed + (others.map { [$0] } ?? [])).min())
    }

    /// Changes schedules.
    /// - Parameter stored: ids of their events that are stored.
    /// - Returns: what became of each change.
    func apply(_ changes: [ScheduleChange], of tenant: TenantID, stored: Set<UUID>) -> [ScheduleChanged] {
        changes.map { change in
            let id = ScheduleID(tenant: tenant, key: change.key)
            switch change {
            case .set(let schedule):
                if stored.contains(schedule.event.id) { return .fired }
                let isNew = facts.schedules[id] == nil
                set(ScheduleFacts.Row(due: schedule.due, eventID: schedule.event.id), id, .set(schedule))
                return isNew ? .set : .moved
            case .cancel:
                guard facts.schedules[id] != nil else { return .absent }
                set(nil, id, .delete)
                return .cancelled
            }
        }
    }

    /// How many schedules the tenant would have after those changes.
    func count(after changes: [ScheduleChange], of tenant: TenantID, stored: Set<UUID>) -> Int {
        changes.reduce(facts.tenants[tenant]?.count ?? 0) { count, change in
            let isThere = facts.schedules[ScheduleID(tenant: tenant, key: change.key)] != nil
            return switch change {
            case .set(let schedule): isThere || stored.contains(schedule.event.id) ? count : count + 1
            case .cancel: isThere ? count - 1 : count
            }
        }
    }

    /// Whether the schedule is as it was read, and its time has come.
    func isDue(_ firing: ScheduleFiring, event: UUID, in tenant: TenantID) -> Bool {
        guard let row = facts.schedules[ScheduleID(tenant: tenant, key: firing.key)] else { return false }
        return !row.isParked && row.eventID == event && row.due == firing.due && row.due <= now
    }

    /// Ends a schedule, if its event still is that one.
    /// - Returns: whether it was there.
    func end(_ key: ScheduleKey, event: UUID, in tenant: TenantID) -> Bool {
        let id = ScheduleID(tenant: tenant, key: key)
        guard facts.schedules[id]?.eventID == event else { return false }
        set(nil, id, .delete)
        return true
    }

    /// Sets a schedule aside, if its event still is that one.
    /// - Returns: whether it was there.
    func park(_ key: ScheduleKey, event: UUID, reason: String, in tenant: TenantID) -> Bool {
        let id = ScheduleID(tenant: tenant, key: key)
        guard var row = facts.schedules[id], row.eventID == event, !row.isParked else { return false }
        row.isParked = true
        let reason = BlockedKey.cut(reason)
        if case .set? = changes[tenant]?[key] {
            // It is set in the same batch: whoever asks for it to be parked has not seen that.
            return false
        }
        set(row, id, .park(reason: reason, eventID: event))
        return true
    }

    private func set(_ row: ScheduleFacts.Row?, _ id: ScheduleID, _ change: SchedulesPlan.Change) {
        let isThere = facts.schedules[id] != nil
        facts.schedules[id] = row
        if isThere != (row != nil) {
            facts.tenants[id.tenant, default: ScheduleFacts.Tenant()].count += row == nil ? -1 : 1
        }
        changes[id.tenant, default: [:]][id.key] = change
    }
}
