import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletTesting
import NIOCore
import Testing

/// Random frames about schedules.
extension RandomFrames {
    /// Up to so many changes, each of another schedule.
    static func changes(
        _ counts: ClosedRange<Int>, using random: inout SeededGenerator
    ) throws -> [ScheduleChange] {
        try (0..<Int.random(in: counts, using: &random)).map { number in
            let key = try scheduleKey(number, using: &random)
            return Int.random(in: 0..<3, using: &random) == 0
                ? .cancel(key) : .set(try schedule(key, using: &random))
        }
    }

    /// Keys of different numbers are different.
    private static func scheduleKey(_ number: Int, using random: inout SeededGenerator) throws -> ScheduleKey {
        let name = ["k", "Z.9_:-", String(repeating: "n", count: 125)].randomElement(using: &random) ?? "k"
        return try #require(ScheduleKey(name + String(number)))
    }

    private static func due(using random: inout SeededGenerator) -> Timestamp {
        let latest = Timestamp.latest.microseconds
        let chosen: [Int64] = [0, 1, latest, Int64.random(in: 0...latest, using: &random)]
        return Timestamp(microseconds: chosen.randomElement(using: &random) ?? 0)
    }

    private static func lateness(using random: inout SeededGenerator) -> UInt64? {
        let chosen: [UInt64?] = [nil, 1, 60_000, NewSchedule.latenessMillisLimit]
        return chosen.randomElement(using: &random) ?? nil
    }

    private static func schedule(
        _ key: ScheduleKey, using random: inout SeededGenerator
    ) throws -> NewSchedule {
        NewSchedule(
            key, due: due(using: &random), aggregate: try aggregate(using: &random),
            event: try EncodedEvent(event(using: &random)), latenessMillisMax: lateness(using: &random))
    }

    /// A request about schedules.
    static func scheduleRequest(using random: inout SeededGenerator) throws -> ClientFrame {
        let tenant = TenantID(UUID(high: random.next(), low: random.next()))
        let request: CallRequest
        if Bool.random(using: &random) {
            request = .changeSchedules(
                ChangeSchedulesRequest(tenant: tenant, try changes(1...4, using: &random)))
        } else {
            request = .listSchedules(
                ListSchedulesRequest(
                    tenant: tenant,
                    after: Bool.random(using: &random) ? try scheduleKey(0, using: &random) : nil,
                    isParkedOnly: Bool.random(using: &random),
                    count: Int.random(in: 1...ListSchedulesRequest.countMax, using: &random)))
        }
        return ClientFrame(CallID(random.next()), .request(request), timeoutMillis: 5_000)
    }

    /// An answer about schedules.
    static func scheduleAnswer(using random: inout SeededGenerator) throws -> ServerFrame {
        let id = CallID(random.next())
        let count = Int.random(in: 0...4, using: &random)
        guard Bool.random(using: &random) else {
            let outcomes: [ScheduleChanged] = [.set, .moved, .cancelled, .absent, .fired]
            return ServerFrame(
                id, .schedulesChanged((0..<count).map { _ in outcomes.randomElement(using: &random) ?? .set }))
        }
        return ServerFrame(
            id,
            .schedules(
                try (0..<count).map { number in
                    let reasons: [String?] = [nil, "", "größe", "a\u{0}b"]
                    return ListedSchedule(
                        try scheduleKey(number, using: &random), due: due(using: &random),
                        aggregate: try aggregate(using: &random),
                        eventID: UUID(high: random.next(), low: random.next()),
                        eventType: try event(using: &random).type,
                        payloadBytes: Int.random(in: 0...1 << 20, using: &random),
                        latenessMillisMax: lateness(using: &random),
                        parked: reasons.randomElement(using: &random) ?? nil)
                }))
    }
}
