import FoundationEssentials
import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// A tenant's schedules.
struct MemorySchedules: Sendable {
    private struct Stored: Sendable {
        var schedule: NewSchedule
        var parked: String?
    }

    private var stored: [ScheduleKey: Stored] = [:]

    static func facts(
        _ questions: ScheduleQuestions, _ schedules: (TenantID) -> MemorySchedules?
    ) -> ScheduleFacts {
        var facts = ScheduleFacts()
        for (id, keys) in questions.tenants {
            guard let schedules = schedules(id) else { continue }
            let earliest = schedules.waiting.prefix(keys.count + 1).map { (key: $0.key, due: $0.due) }
            facts.tenants[id] = ScheduleFacts.Tenant(count: schedules.stored.count, earliest: Array(earliest))
            for key in keys {
                guard let found = schedules.stored[key] else { continue }
                facts.schedules[ScheduleID(tenant: id, key: key)] = ScheduleFacts.Row(
                    due: found.schedule.due, eventID: found.schedule.event.id, isParked: found.parked != nil)
            }
        }
        return facts
    }

    mutating func carryOut(_ plan: SchedulesPlan) {
        for (key, change) in plan.changes {
            switch change {
            case .set(let schedule): stored[key] = Stored(schedule: schedule)
            case .park(let reason, _): stored[key]?.parked = reason
            case .delete: stored[key] = nil
            }
        }
        precondition(stored.count == plan.count, "the plan has counted the schedules")
        precondition(waiting.first?.due == plan.due, "the plan knows the first schedule")
    }

    func list(after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int) -> [ListedSchedule] {
        let found = stored.values.filter { one in
            (!isParkedOnly || one.parked != nil) && key.map { one.schedule.key > $0 } ?? true
        }.sorted { $0.schedule.key < $1.schedule.key }
        return found.prefix(countMax).map { one in
            var row = ScheduleRow(one.schedule)
            row.parked = one.parked
            return row.listed
        }
    }

    /// Those that are not set aside, in the order of their times.
    var waiting: [NewSchedule] {
        stored.values.filter { $0.parked == nil }.map(\.schedule).sorted {
            $0.due == $1.due ? $0.key < $1.key : $0.due < $1.due
        }
    }
}

extension MemoryEngine {
    func due(_ question: DueQuestion) -> DueSchedules {
        let all = tenants.withLockedValue { $0.mapValues { $0.schedules.waiting } }
        var found = DueSchedules()
        var bytes = 0
        var waiting: [(id: TenantID, first: Timestamp, schedules: [NewSchedule])] = []
        for (id, schedules) in all where !question.except.contains(id) {
            if let first = schedules.first { waiting.append((id, first.due, schedules)) }
        }
        waiting.sort { $0.first == $1.first ? $0.id < $1.id : $0.first < $1.first }
        found.next = waiting.map(\.first).first { $0 > question.now }
        for (id, _, schedules) in waiting.prefix(while: { $0.first <= question.now }).prefix(question.tenantsMax) {
            for schedule in schedules.prefix(question.countPerTenantMax) where schedule.due <= question.now {
                bytes += schedule.event.body.readableBytes
                guard bytes <= question.bytesMax || found.schedules.isEmpty else { return found }
                found.schedules.append(DueSchedules.Schedule(tenant: id, schedule: schedule))
            }
        }
        return found
    }
}
