import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// The frames about schedules of the page.
extension GoldenFrames {
    static let reminder = ScheduleKey("reminder") ?? { preconditionFailure("a valid key") }()
    static let dunning = ScheduleKey("dunning") ?? { preconditionFailure("a valid key") }()
    static let overdue = EventType("Overdue")
    static let overdueID = UUID(high: 0x0196_f3a0_7c5e_7c5e, low: 0x8c5e_7c5e_0196_f3a1)

    static func schedule() throws -> NewSchedule {
        NewSchedule(
            dunning, due: Timestamp(microseconds: recordedAt.microseconds + 3_600_000_000), aggregate: order,
            event: try EncodedEvent(NewEvent(id: overdueID, type: overdue, payload: ByteBuffer(string: "{}"))),
            latenessMillisMax: 60_000)
    }

    static func clientOfSchedules() throws -> [(String, ClientFrame)] {
        [
            (
                "append request with schedules",
                ClientFrame(
                    CallID(25),
                    .request(
                        .append(
                            AppendRequest(
                                tenant: tenant,
                                aggregates: [
                                    AggregateAppend(aggregate: order, expected: .none, events: [try encoded()])
                                ], schedules: [.set(try schedule()), .cancel(reminder)]))))
            ),
            (
                "change_schedules request",
                ClientFrame(
                    CallID(26),
                    .request(
                        .changeSchedules(
                            ChangeSchedulesRequest(tenant: tenant, [.set(try schedule()), .cancel(reminder)]))))
            ),
            (
                "list_schedules request",
                ClientFrame(
                    CallID(27),
                    .request(
                        .listSchedules(
                            ListSchedulesRequest(tenant: tenant, after: dunning, isParkedOnly: true, count: 100))))
            ),
        ]
    }

    static func serverOfSchedules() throws -> [(String, ServerFrame)] {
        let schedule = try schedule()
        return [
            ("change_schedules response", ServerFrame(CallID(26), .schedulesChanged([.set, .absent]))),
            (
                "list_schedules response",
                ServerFrame(
                    CallID(27),
                    .schedules([
                        ListedSchedule(
                            reminder, due: schedule.due, aggregate: order, eventID: overdueID, eventType: overdue,
                            payloadBytes: schedule.event.payloadBytes,
                            latenessMillisMax: schedule.latenessMillisMax, parked: "too late")
                    ]))
            ),
        ]
    }
}
