import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession

// Unpacked requests become the model's types here, and every field is checked on the way.

extension TenantID {
    @unsafe init(field: ProtobufCBinaryData) throws(MartletError) {
        guard let uuid = unsafe field.uuid else {
            throw .invalidField("tenant", "has \(unsafe field.len) bytes: a UUID has 16")
        }
        self.init(uuid)
    }
}

extension AggregateName {
    @unsafe init(
        field: UnsafePointer<Martlet__V1__AggregateName>?, name: @autoclosure () -> String
    ) throws(MartletError) {
        guard let field = unsafe field else { throw .invalidField(name(), "is missing: give its type and id") }
        guard let type = unsafe AggregateType(utf8: field.pointee.type.bytes) else {
            throw .invalidField(
                "\(name()).type",
                "has \(unsafe field.pointee.type.len) bytes or a character that is not allowed: "
                    + "1 to 128 bytes of [A-Za-z0-9_.:-]")
        }
        guard let id = unsafe field.pointee.id.uuid else {
            throw .invalidField("\(name()).id", "has \(unsafe field.pointee.id.len) bytes: a UUID has 16")
        }
        self.init(type: type, id: id)
    }
}

extension ExpectedVersion {
    @unsafe init?(_ field: UnsafePointer<Martlet__V1__ExpectedVersion>?) {
        guard let field = unsafe field?.pointee else { return nil }
        switch unsafe (field.condition_case, field.any) {
        case (MARTLET__V1__EXPECTED_VERSION__CONDITION_EXACT, _): self = .exact(Version(unsafe field.exact))
        case (MARTLET__V1__EXPECTED_VERSION__CONDITION_ANY, 1): self = .any
        case (MARTLET__V1__EXPECTED_VERSION__CONDITION_NONE, 1): self = .none
        case (MARTLET__V1__EXPECTED_VERSION__CONDITION_EXISTS, 1): self = .exists
        default: return nil
        }
    }
}

extension EventFilter {
    @unsafe init(
        field: UnsafePointer<Martlet__V1__EventFilter>?, name: @autoclosure () -> String = "filter", limits: Limits
    ) throws(MartletError) {
        self.init()
        guard let field = unsafe field?.pointee else { return }
        let count = unsafe field.n_aggregate_types + field.n_event_types + field.n_aggregate_ids
        guard count <= limits.filterValuesMax else {
            throw .limitExceeded(
                "filter_values_max", limit: limits.filterValuesMax, actual: count,
                "ask for fewer values, or split the filter over several calls")
        }
        for index in unsafe 0..<field.n_aggregate_types {
            guard let type = unsafe field.aggregate_types[index].text.flatMap(AggregateType.init) else {
                throw .invalidField("\(name()).aggregate_types[\(index)]", "must be 1 to 128 bytes of [A-Za-z0-9_.:-]")
            }
            aggregateTypes.insert(type)
        }
        for index in unsafe 0..<field.n_event_types {
            guard let type = unsafe field.event_types[index].text.flatMap(EventType.init) else {
                throw .invalidField(
                    "\(name()).event_types[\(index)]", "must be 1 to 256 bytes of UTF-8 without control characters")
            }
            eventTypes.insert(type)
        }
        for index in unsafe 0..<field.n_aggregate_ids {
            guard let id = unsafe field.aggregate_ids[index].uuid else {
                throw .invalidField("\(name()).aggregate_ids[\(index)]", "must have 16 bytes")
            }
            aggregateIDs.insert(id)
        }
    }
}

extension Direction {
    init(_ field: Martlet__V1__Direction) throws(MartletError) {
        switch field {
        case MARTLET__V1__DIRECTION__DIRECTION_UNSPECIFIED, MARTLET__V1__DIRECTION__DIRECTION_FORWARD: self = .forward
        case MARTLET__V1__DIRECTION__DIRECTION_BACKWARD: self = .backward
        default: throw .invalidField("direction", "is \(field.rawValue): 1 is forward, 2 is backward")
        }
    }
}

extension AppendRequest {
    @unsafe init(_ message: UnsafeMutablePointer<Martlet__V1__AppendRequest>, limits: Limits) throws(MartletError) {
        let tenant = try unsafe TenantID(field: message.pointee.tenant)
        let count = unsafe message.pointee.n_aggregates
        guard count > 0 else { throw .invalidField("aggregates", "is empty: append to at least 1 aggregate") }
        guard count <= limits.aggregatesPerAppendMax else {
            throw .limitExceeded(
                "aggregates_per_append_max", limit: limits.aggregatesPerAppendMax, actual: count,
                "append to fewer aggregates at once")
        }
        let parts = unsafe UnsafeMutableBufferPointer(start: message.pointee.aggregates, count: count)
        let eventCount = unsafe parts.reduce(0) { unsafe $0 + ($1?.pointee.n_events ?? 0) }
        guard eventCount <= limits.eventsPerAppendMax else {
            throw .limitExceeded(
                "events_per_append_max", limit: limits.eventsPerAppendMax, actual: eventCount,
                "append fewer events at once")
        }
        var encoder = EventEncoder(limits: limits)
        var names: [(AggregateName, ExpectedVersion, Int, NewSnapshot?)] = []
        var seen: Set<AggregateName> = []
        for index in 0..<count {
            guard let part = unsafe parts[index] else { continue }
            let name = try unsafe AggregateName(
                field: part.pointee.aggregate, name: "aggregates[\(index)].aggregate")
            guard seen.insert(name).inserted else {
                throw .invalidField("aggregates[\(index)].aggregate", "is listed twice: put its events in one entry")
            }
            guard let expected = unsafe ExpectedVersion(part.pointee.expected) else {
                throw .invalidField("aggregates[\(index)].expected", "is missing: set any, none, exists or exact")
            }
            let events = unsafe part.pointee.n_events
            guard events > 0 else {
                throw .invalidField("aggregates[\(index)].events", "is empty: append at least 1 event")
            }
            for eventIndex in 0..<events {
                guard let event = unsafe part.pointee.events[eventIndex] else { continue }
                try unsafe encoder.add(event, name: "aggregates[\(index)].events[\(eventIndex)]")
            }
            let snapshot =
                unsafe part.pointee.snapshot == nil
                ? nil
                : try unsafe NewSnapshot(
                    part.pointee.snapshot, name: "aggregates[\(index)].snapshot", limits: limits)
            names.append((name, expected, events, snapshot))
        }
        let admission = encoder.admission
        let schedules = try unsafe ScheduleChangeReader(
            message.pointee.schedules, count: message.pointee.n_schedules, name: "schedules", encoder: &encoder)
        if admission == .admitted, case .refused(let error) = encoder.admission { throw error }
        var rest = encoder.finish(isAdmitting: true)[...]
        try rest.requireDistinctIDs()
        self.init(
            tenant: tenant,
            aggregates: names.map { name, expected, count, snapshot in
                defer { rest = rest.dropFirst(count) }
                return AggregateAppend(
                    aggregate: name, expected: expected, events: Array(rest.prefix(count)), snapshot: snapshot)
            },
            includeConflictingEvents: unsafe message.pointee.include_conflicting_events != 0,
            checkpoint: unsafe message.pointee.checkpoint == nil
                ? nil : try unsafe AppendCheckpoint(message.pointee.checkpoint))
        self.schedules = schedules.changes(&rest)
        self.admission = admission
        settleBuffers()
    }
}

extension ArraySlice<EncodedEvent> {
    /// Throws where two events have the same id.
    func requireDistinctIDs() throws(MartletError) {
        guard count > 1 else { return }
        var ids: Set<UUID> = []
        for event in self where !ids.insert(event.id).inserted {
            throw .invalidField("events", "contain the id \(event.id) twice: give each event its own id")
        }
    }
}

extension LoadRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__LoadRequest>, limits: Limits) throws(MartletError) {
        let target: LoadTarget =
            switch unsafe message.pointee.until_case {
            case MARTLET__V1__LOAD_REQUEST__UNTIL_TO_VERSION: .version(Version(unsafe message.pointee.to_version))
            case MARTLET__V1__LOAD_REQUEST__UNTIL_AS_OF_POSITION:
                .position(Position(unsafe message.pointee.as_of_position))
            case MARTLET__V1__LOAD_REQUEST__UNTIL_AS_OF_TIME_MICROS:
                .time(Timestamp(microseconds: unsafe message.pointee.as_of_time_micros))
            default: .now
            }
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            aggregate: try unsafe AggregateName(field: message.pointee.aggregate, name: "aggregate"),
            after: Version(unsafe message.pointee.after_version), target: target,
            direction: try Direction(unsafe message.pointee.direction),
            eventsMax: unsafe message.pointee.events_max == 0 ? nil : message.pointee.events_max,
            snapshot: try unsafe SnapshotUse(message.pointee.snapshot, limits: limits),
            upcasting: try unsafe UpcastingOptions(message.pointee.upcasting, limits: limits))
        guard snapshot == nil || direction == .forward else {
            throw .invalidField("snapshot", "works only when loading forward: omit it to load backward")
        }
    }
}

extension ReadRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__ReadRequest>, limits: Limits) throws(MartletError) {
        let target: ReadTarget =
            switch unsafe message.pointee.until_case {
            case MARTLET__V1__READ_REQUEST__UNTIL_TO_POSITION: .position(Position(unsafe message.pointee.to_position))
            case MARTLET__V1__READ_REQUEST__UNTIL_AS_OF_TIME_MICROS:
                .time(Timestamp(microseconds: unsafe message.pointee.as_of_time_micros))
            default: .head
            }
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            after: Position(unsafe message.pointee.after_position), target: target,
            direction: try Direction(unsafe message.pointee.direction),
            filter: try unsafe EventFilter(field: message.pointee.filter, limits: limits),
            eventsMax: unsafe message.pointee.events_max == 0 ? nil : message.pointee.events_max,
            upcasting: try unsafe UpcastingOptions(message.pointee.upcasting, limits: limits))
    }
}

extension SubscribeRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__SubscribeRequest>, limits: Limits) throws(MartletError) {
        let start: SubscriptionStart
        switch unsafe message.pointee.start_case {
        case MARTLET__V1__SUBSCRIBE_REQUEST__START_AFTER_POSITION:
            start = .after(Position(unsafe message.pointee.after_position))
        case MARTLET__V1__SUBSCRIBE_REQUEST__START_FROM_TIME_MICROS:
            start = .time(Timestamp(microseconds: unsafe message.pointee.from_time_micros))
        case MARTLET__V1__SUBSCRIBE_REQUEST__START_FROM_HEAD:
            guard unsafe message.pointee.from_head != 0 else {
                throw .invalidField("from_head", "is false: omit it, or set it to true")
            }
            start = .head
        default: start = .after(.start)
        }
        let heartbeat = unsafe message.pointee.heartbeat_millis
        guard heartbeat == 0 || heartbeat >= UInt32(limits.heartbeatMillisMin) else {
            throw .invalidField(
                "heartbeat_millis", "is \(heartbeat): it must be 0 or at least \(limits.heartbeatMillisMin)")
        }
        var lastSeen: EventMark?
        if let seen = unsafe message.pointee.last_seen {
            guard let id = unsafe seen.pointee.event_id.uuid else {
                throw .invalidField("last_seen.event_id", "must be 16 bytes: the id of the event at last_seen.position")
            }
            let mark = EventMark(position: Position(unsafe seen.pointee.position), eventID: id)
            guard case .after(let position) = start, .start < mark.position, mark.position <= position else {
                throw .invalidField(
                    "last_seen.position",
                    "is \(mark.position): it must be at least 1 and at most after_position, which it requires")
            }
            lastSeen = mark
        }
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant), start: start, lastSeen: lastSeen,
            filter: try unsafe EventFilter(field: message.pointee.filter, limits: limits),
            heartbeatMillis: heartbeat == 0 ? nil : heartbeat,
            upcasting: try unsafe UpcastingOptions(message.pointee.upcasting, limits: limits))
    }
}
