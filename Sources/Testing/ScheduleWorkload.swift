import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Random changes of schedules, and events whose time has come, or has not.
struct ScheduleWorkload {
    private static let keys = ["a", "b", "c", "d", "e.1"].map { text in
        guard let key = ScheduleKey(text) else { preconditionFailure("a valid key") }
        return key
    }

    /// All that were made, so that ids come again.
    private var made: [NewSchedule] = []

    private func pick<Value>(_ values: [Value], _ random: inout SeededGenerator) -> Value {
        values[Int.random(in: 0..<values.count, using: &random)]
    }

    /// At most so many changes, each of another schedule.
    mutating func changes(
        _ countMax: Int, near micros: Int64, _ names: [AggregateName], _ random: inout SeededGenerator
    ) throws -> [ScheduleChange] {
        try Self.keys.shuffled(using: &random).prefix(Int.random(in: 1...countMax, using: &random)).map { key in
            guard Int.random(in: 0..<4, using: &random) > 0 else { return .cancel(key) }
            if !made.isEmpty, Int.random(in: 0..<4, using: &random) == 0 {
                var again = pick(made, &random)
                again.key = key
                return .set(again)
            }
            let schedule = NewSchedule(
                key, due: Timestamp(microseconds: micros + Int64.random(in: -60...60, using: &random)),
                aggregate: pick(names, &random), event: try .sample(String(repeating: "1", count: 20)),
                latenessMillisMax: Bool.random(using: &random) ? nil : UInt64.random(in: 1...3, using: &random))
            made.append(schedule)
            return .set(schedule)
        }
    }

    /// A change, or the append of an event whose time has come.
    mutating func command(
        of tenant: TenantID, near micros: Int64, _ names: [AggregateName], _ oracle: any StorageReader,
        _ random: inout SeededGenerator
    ) throws -> WriteCommand {
        let question = DueQuestion(
            now: Timestamp(microseconds: micros + 40), patienceMicros: 0, tenantsMax: 100, countPerTenantMax: 100,
            bytesMax: 1 << 20)
        let waiting = try oracle.dueSchedules(question).schedules.filter { $0.tenant == tenant }
        guard !waiting.isEmpty, Bool.random(using: &random) else {
            let change = SchedulesChange(
                .asked(try changes(3, near: micros, names, &random)), of: tenant,
                countMax: Int.random(in: 2...6, using: &random))
            return .change(.schedules(change))
        }
        let schedule = pick(waiting, &random).schedule
        if Int.random(in: 0..<8, using: &random) == 0 {
            let park = SchedulesChange.Kind.park(schedule.key, event: schedule.event.id, reason: "it is damaged")
            return .change(.schedules(SchedulesChange(park, of: tenant, countMax: .max)))
        }
        var request = AppendRequest.of([schedule.event], to: schedule.aggregate, tenant: tenant)
        request.firing = ScheduleFiring(
            schedule.key, due: schedule.due, latenessMillisMax: schedule.latenessMillisMax)
        switch Int.random(in: 0..<10, using: &random) {
        case 0: request.admission = .refused(MartletError(.invalidArgument, reason: .invalidField, message: "no"))
        case 1: request.firing?.due.microseconds += 1
        case 2: request.aggregates[0].events = [try .sample()]
        // As if it had been due for long.
        case 3: request.firing?.latenessMillisMax = 0
        default: break
        }
        return .append(request)
    }
}
