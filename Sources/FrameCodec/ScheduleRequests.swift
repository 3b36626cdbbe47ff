import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

// Changes of schedules, in appends and in calls of their own, and the call that lists schedules.

/// Requests about schedules.
enum ScheduleRequests {
    /// The request of a frame; nil where it is about something else.
    @unsafe static func decode(
        _ frame: UnsafeMutablePointer<Martlet__V1__ClientFrame>, limits: Limits
    ) throws(MartletError) -> CallRequest? {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__CLIENT_FRAME__BODY_CHANGE_SCHEDULES:
            return .changeSchedules(
                try unsafe ChangeSchedulesRequest(frame.pointee.change_schedules, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_LIST_SCHEDULES:
            return .listSchedules(try unsafe ListSchedulesRequest(frame.pointee.list_schedules))
        default: return nil
        }
    }
}

extension ScheduleKey {
    @unsafe init(field: ProtobufCBinaryData, name: @autoclosure () -> String) throws(MartletError) {
        guard let key = unsafe ScheduleKey(received: field) else {
            throw .invalidField(
                name(),
                "has \(unsafe field.len) bytes or a character that is not allowed: "
                    + "1 to 128 bytes of [A-Za-z0-9_.:-] are allowed")
        }
        self = key
    }

    @unsafe init?(received field: ProtobufCBinaryData) {
        guard let text = unsafe field.text else { return nil }
        self.init(text)
    }
}

/// Changes as they are read: their events are encoded one after the other, and become slices of one buffer.
struct ScheduleChangeReader {
    private enum Draft {
        case set(NewSchedule.Frame)
        case cancel(ScheduleKey)
    }

    private var drafts: [Draft] = []

    /// Reads the repeated field of that name. The events go to the encoder, in order.
    /// - Throws: the first thing that is wrong.
    @unsafe init(
        _ changes: UnsafeMutablePointer<UnsafeMutablePointer<Martlet__V1__ScheduleChange>?>?, count: Int, name: String,
        encoder: inout EventEncoder
    ) throws(MartletError) {
        guard count <= ScheduleChange.countMax else {
            throw .limitExceeded(
                "schedule_changes_max", limit: ScheduleChange.countMax, actual: count, "change fewer schedules at once")
        }
        drafts.reserveCapacity(count)
        var keys: Set<ScheduleKey> = []
        for index in 0..<count {
            guard let change = unsafe changes?[index] else { continue }
            let key: ScheduleKey
            let field: String
            switch unsafe change.pointee.change_case {
            case MARTLET__V1__SCHEDULE_CHANGE__CHANGE_SET:
                field = "\(name)[\(index)].set.key"
                let frame = try unsafe NewSchedule.Frame(
                    change.pointee.set, name: "\(name)[\(index)].set", encoder: &encoder)
                key = frame.key
                drafts.append(.set(frame))
            case MARTLET__V1__SCHEDULE_CHANGE__CHANGE_CANCEL:
                field = "\(name)[\(index)].cancel"
                key = try unsafe ScheduleKey(field: change.pointee.cancel, name: field)
                drafts.append(.cancel(key))
            default: throw .invalidField("\(name)[\(index)]", "is empty: set set or cancel")
            }
            guard keys.insert(key).inserted else {
                throw .invalidField(field, "is \(key), which is listed twice: change each schedule once")
            }
        }
    }

    /// The changes, with those events, of which it takes as many as it has read.
    func changes(_ events: inout ArraySlice<EncodedEvent>) -> [ScheduleChange] {
        drafts.compactMap { draft in
            switch draft {
            case .cancel(let key): .cancel(key)
            case .set(let frame): events.popFirst().map { .set(frame.schedule($0)) }
            }
        }
    }
}

extension NewSchedule {
    /// A schedule without its event.
    fileprivate struct Frame {
        let key: ScheduleKey
        private let due: Timestamp
        private let aggregate: AggregateName
        private let latenessMillisMax: UInt64?

        @unsafe init(
            _ message: UnsafeMutablePointer<Martlet__V1__Schedule>, name: String, encoder: inout EventEncoder
        ) throws(MartletError) {
            key = try unsafe ScheduleKey(field: message.pointee.key, name: "\(name).key")
            due = Timestamp(microseconds: unsafe message.pointee.due_micros)
            guard (0...Timestamp.latest.microseconds).contains(due.microseconds) else {
                throw .invalidField(
                    "\(name).due_micros",
                    "is \(due.microseconds): send microseconds since 1970, from 0 to \(Timestamp.latest.microseconds) "
                        + "(\(Timestamp.latest))")
            }
            aggregate = try unsafe AggregateName(field: message.pointee.aggregate, name: "\(name).aggregate")
            guard let event = unsafe message.pointee.event else {
                throw .invalidField("\(name).event", "is missing: give the event that is to be appended")
            }
            try unsafe encoder.add(event, name: "\(name).event")
            let lateness = unsafe message.pointee.lateness_millis_max
            guard lateness <= NewSchedule.latenessMillisLimit else {
                throw .invalidField(
                    "\(name).lateness_millis_max",
                    "is \(lateness): at most \(NewSchedule.latenessMillisLimit) is allowed, and 0 for however late")
            }
            latenessMillisMax = lateness == 0 ? nil : lateness
        }

        func schedule(_ event: EncodedEvent) -> NewSchedule {
            NewSchedule(key, due: due, aggregate: aggregate, event: event, latenessMillisMax: latenessMillisMax)
        }
    }
}

extension ScheduleChange {
    /// Writes the change as the field of that number.
    func encode(field: UInt32, to buffer: inout ByteBuffer) {
        switch self {
        case .cancel(let key):
            unsafe withCBytes([key.text]) { text in
                unsafe withMessage(Martlet__V1__ScheduleChange(), martlet__v1__schedule_change__init) { message in
                    unsafe message.pointee.change_case = MARTLET__V1__SCHEDULE_CHANGE__CHANGE_CANCEL
                    unsafe message.pointee.cancel = unsafe text[0]
                    unsafe buffer.writeField(field, &message.pointee.base)
                }
            }
        case .set(let schedule):
            var set = ByteBuffer()
            schedule.encode(to: &set)
            buffer.writeField(field, length: set.readableBytes)
            buffer.writeImmutableBuffer(set)
        }
    }
}

extension NewSchedule {
    /// Writes the field of ScheduleChange, in the order of the numbers: the event's bytes are those that it was encoded in.
    fileprivate func encode(to buffer: inout ByteBuffer) {
        var content = ByteBuffer()
        unsafe withCBytes([key.text]) { text in
            unsafe aggregate.withMessage { aggregate in
                unsafe withMessage(Martlet__V1__Schedule(), martlet__v1__schedule__init) { message in
                    unsafe message.pointee.key = unsafe text[0]
                    unsafe message.pointee.due_micros = due.microseconds
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe content.writeMessage(&message.pointee.base)
                }
            }
        }
        content.writeField(4, length: event.body.readableBytes)
        content.writeImmutableBuffer(event.body)
        if let latenessMillisMax, latenessMillisMax > 0 {
            content.writeInteger(UInt8(5 << 3))
            content.writeVarint(latenessMillisMax)
        }
        buffer.writeField(1, length: content.readableBytes)
        buffer.writeImmutableBuffer(content)
    }
}

extension ChangeSchedulesRequest {
    @unsafe init(
        _ message: UnsafePointer<Martlet__V1__ChangeSchedulesRequest>, limits: Limits
    ) throws(MartletError) {
        let tenant = try unsafe TenantID(field: message.pointee.tenant)
        let count = unsafe message.pointee.n_changes
        guard count > 0 else { throw .invalidField("changes", "is empty: change at least 1 schedule") }
        var encoder = EventEncoder(limits: limits)
        let reader = try unsafe ScheduleChangeReader(
            message.pointee.changes, count: count, name: "changes", encoder: &encoder)
        if case .refused(let error) = encoder.admission { throw error }
        var events = encoder.finish(isAdmitting: true)[...]
        try events.requireDistinctIDs()
        self.init(tenant: tenant, reader.changes(&events))
    }

    func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        for change in changes { change.encode(field: 2, to: &tail) }
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe withMessage(Martlet__V1__ChangeSchedulesRequest(), martlet__v1__change_schedules_request__init) {
                message in
                unsafe message.pointee.tenant = unsafe tenant
                unsafe buffer.writeField(37, &message.pointee.base, tail: tail)
            }
        }
    }
}

extension ListSchedulesRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__ListSchedulesRequest>) throws(MartletError) {
        let tenant = try unsafe TenantID(field: message.pointee.tenant)
        let count = unsafe message.pointee.count_max
        guard count <= UInt32(Self.countMax) else {
            throw .invalidField("count_max", "is \(count): at most \(Self.countMax) is allowed, and 0 for as many")
        }
        self.init(
            tenant: tenant,
            after: unsafe message.pointee.after.len == 0
                ? nil : try unsafe ScheduleKey(field: message.pointee.after, name: "after"),
            isParkedOnly: unsafe message.pointee.parked_only != 0, count: count == 0 ? Self.countMax : Int(count))
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe withCBytes([after?.text ?? ""]) { text in
                unsafe withMessage(Martlet__V1__ListSchedulesRequest(), martlet__v1__list_schedules_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.after = unsafe text[0]
                    unsafe message.pointee.parked_only = isParkedOnly ? 1 : 0
                    unsafe message.pointee.count_max = UInt32(clamping: count)
                    unsafe buffer.writeField(38, &message.pointee.base)
                }
            }
        }
    }
}
