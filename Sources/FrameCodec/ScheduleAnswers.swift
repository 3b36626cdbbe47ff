import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// Answers about schedules.
enum ScheduleAnswers {
    /// The answer that a frame holds; nil where it holds another, or one that cannot be read.
    @unsafe static func decode(_ frame: UnsafeMutablePointer<Martlet__V1__ServerFrame>) -> CallMessage? {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__SERVER_FRAME__BODY_CHANGE_SCHEDULES:
            return unsafe outcomes(frame.pointee.change_schedules).map { .schedulesChanged($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_LIST_SCHEDULES:
            return unsafe schedules(frame.pointee.list_schedules).map { .schedules($0) }
        default: return nil
        }
    }

    @unsafe private static func outcomes(
        _ message: UnsafePointer<Martlet__V1__ChangeSchedulesResponse>
    ) -> [ScheduleChanged]? {
        var all: [ScheduleChanged] = []
        for index in unsafe 0..<message.pointee.n_outcomes {
            guard let outcome = ScheduleChanged(unsafe message.pointee.outcomes[index]) else { return nil }
            all.append(outcome)
        }
        return all
    }

    @unsafe private static func schedules(
        _ message: UnsafePointer<Martlet__V1__ListSchedulesResponse>
    ) -> [ListedSchedule]? {
        var all: [ListedSchedule] = []
        for index in unsafe 0..<message.pointee.n_schedules {
            guard let listed = unsafe message.pointee.schedules[index].flatMap({ unsafe ListedSchedule($0) }) else {
                return nil
            }
            all.append(listed)
        }
        return all
    }

    static func encode(_ outcomes: [ScheduleChanged], to buffer: inout ByteBuffer) {
        var all = outcomes.map(\.message)
        unsafe all.withUnsafeMutableBufferPointer { all in
            unsafe withMessage(Martlet__V1__ChangeSchedulesResponse(), martlet__v1__change_schedules_response__init) {
                message in
                unsafe message.pointee.n_outcomes = all.count
                unsafe message.pointee.outcomes = all.baseAddress
                unsafe buffer.writeField(37, &message.pointee.base)
            }
        }
    }

    static func encode(_ schedules: [ListedSchedule], to buffer: inout ByteBuffer) {
        var parts = ByteBuffer()
        for schedule in schedules { schedule.encode(to: &parts) }
        buffer.writeField(38, length: parts.readableBytes)
        buffer.writeImmutableBuffer(parts)
    }
}

extension ScheduleChanged {
    fileprivate init?(_ message: Martlet__V1__ScheduleOutcome) {
        switch message {
        case MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_SET: self = .set
        case MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_MOVED: self = .moved
        case MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_CANCELLED: self = .cancelled
        case MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_ABSENT: self = .absent
        case MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_FIRED: self = .fired
        default: return nil
        }
    }

    fileprivate var message: Martlet__V1__ScheduleOutcome {
        switch self {
        case .set: MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_SET
        case .moved: MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_MOVED
        case .cancelled: MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_CANCELLED
        case .absent: MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_ABSENT
        case .fired: MARTLET__V1__SCHEDULE_OUTCOME__SCHEDULE_OUTCOME_FIRED
        }
    }
}

extension ListedSchedule {
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__ListedSchedule>) {
        let message = unsafe message.pointee
        guard let key = unsafe ScheduleKey(received: message.key),
            let aggregate = unsafe AggregateName(received: message.aggregate),
            let eventID = unsafe message.event_id.uuid,
            let eventType = unsafe message.event_type.text.flatMap(EventType.init),
            let reason = unsafe message.parked_reason.text
        else { return nil }
        self.init(
            key, due: Timestamp(microseconds: unsafe message.due_micros), aggregate: aggregate, eventID: eventID,
            eventType: eventType, payloadBytes: Int(clamping: unsafe message.payload_bytes),
            latenessMillisMax: unsafe message.lateness_millis_max == 0 ? nil : message.lateness_millis_max,
            parked: unsafe message.parked != 0 ? reason : nil)
    }

    /// Writes the field of ListSchedulesResponse.
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes([key.text, eventType.text, parked ?? ""]) { text in
            unsafe withCBytes(eventID) { id in
                unsafe aggregate.withMessage { aggregate in
                    unsafe withMessage(Martlet__V1__ListedSchedule(), martlet__v1__listed_schedule__init) { message in
                        unsafe message.pointee.key = unsafe text[0]
                        unsafe message.pointee.due_micros = due.microseconds
                        unsafe message.pointee.aggregate = unsafe aggregate
                        unsafe message.pointee.event_id = unsafe id
                        unsafe message.pointee.event_type = unsafe text[1]
                        unsafe message.pointee.payload_bytes = UInt64(clamping: payloadBytes)
                        unsafe message.pointee.lateness_millis_max = latenessMillisMax ?? 0
                        unsafe message.pointee.parked = parked == nil ? 0 : 1
                        unsafe message.pointee.parked_reason = unsafe text[2]
                        unsafe buffer.writeField(1, &message.pointee.base)
                    }
                }
            }
        }
    }
}
