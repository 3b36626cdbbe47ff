import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

extension CallRequest {
    /// Writes the request as its field of ClientFrame.
    func encode(to buffer: inout ByteBuffer) {
        switch self {
        case .append(let request): request.encode(to: &buffer)
        case .load(let request): request.encode(to: &buffer)
        case .read(let request): request.encode(to: &buffer)
        case .subscribe(let request): request.encode(to: &buffer)
        case .getHead(let tenant):
            unsafe withCBytes(tenant.uuid) { tenant in
                unsafe withMessage(Martlet__V1__GetHeadRequest(), martlet__v1__get_head_request__init) { message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe buffer.writeField(20, &message.pointee.base)
                }
            }
        case .getStatus:
            unsafe withMessage(Martlet__V1__GetStatusRequest(), martlet__v1__get_status_request__init) { message in
                unsafe buffer.writeField(21, &message.pointee.base)
            }
        case .getServerInfo:
            unsafe withMessage(Martlet__V1__GetServerInfoRequest(), martlet__v1__get_server_info_request__init) {
                message in unsafe buffer.writeField(39, &message.pointee.base)
            }
        case .saveSnapshot(let request): request.encode(to: &buffer)
        case .loadSnapshot(let request): request.encode(to: &buffer)
        case .listSnapshots(let tenant, let aggregate):
            ListSnapshotsMessage.encode(tenant, aggregate, to: &buffer)
        case .deleteSnapshots(let request): request.encode(to: &buffer)
        case .putSettings(let request): request.encode(to: &buffer)
        case .getSettings(let tenant, let kind): SettingsMessages.encode(tenant, kind, to: &buffer)
        case .putConsumer(let request): request.encode(to: &buffer)
        case .getConsumer(let consumer): ConsumerRequests.encode(get: consumer, to: &buffer)
        case .listConsumers(let request): request.encode(to: &buffer)
        case .deleteConsumer(let consumer): ConsumerRequests.encode(delete: consumer, to: &buffer)
        case .resetConsumer(let request): request.encode(to: &buffer)
        case .listBlockedKeys(let request): request.encode(to: &buffer)
        case .unblockKeys(let request): request.encode(to: &buffer)
        case .awaitConsumer(let request): request.encode(to: &buffer)
        case .consume(let request): request.encode(to: &buffer)
        case .consumeTenants(let request): request.encode(to: &buffer)
        case .changeSchedules(let request): request.encode(to: &buffer)
        case .listSchedules(let request): request.encode(to: &buffer)
        }
    }
}

extension AggregateName {
    /// Calls `body` with the name as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__AggregateName>) throws -> Result
    ) rethrows -> Result {
        try unsafe withCBytes([type.text]) { text in
            try unsafe withCBytes(id) { id in
                try unsafe MartletFrameCodec.withMessage(
                    Martlet__V1__AggregateName(), martlet__v1__aggregate_name__init
                ) {
                    message in
                    unsafe message.pointee.type = unsafe text[0]
                    unsafe message.pointee.id = unsafe id
                    return try unsafe body(message)
                }
            }
        }
    }
}

extension ExpectedVersion {
    /// Calls `body` with the condition as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__ExpectedVersion>) throws -> Result
    ) rethrows -> Result {
        try unsafe MartletFrameCodec.withMessage(Martlet__V1__ExpectedVersion(), martlet__v1__expected_version__init) {
            message in
            switch self {
            case .any:
                unsafe message.pointee.condition_case = MARTLET__V1__EXPECTED_VERSION__CONDITION_ANY
                unsafe message.pointee.any = 1
            case .none:
                unsafe message.pointee.condition_case = MARTLET__V1__EXPECTED_VERSION__CONDITION_NONE
                unsafe message.pointee.none = 1
            case .exists:
                unsafe message.pointee.condition_case = MARTLET__V1__EXPECTED_VERSION__CONDITION_EXISTS
                unsafe message.pointee.exists = 1
            case .exact(let version):
                unsafe message.pointee.condition_case = MARTLET__V1__EXPECTED_VERSION__CONDITION_EXACT
                unsafe message.pointee.exact = version.rawValue
            }
            return try unsafe body(message)
        }
    }
}

extension EventFilter {
    /// Calls `body` with the filter as protobuf-c sees it; nil for an empty one.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__EventFilter>?) throws -> Result
    ) rethrows -> Result {
        guard !isEmpty else { return try body(nil) }
        let types = aggregateTypes.map(\.text).sorted() + eventTypes.map { ExactText($0.text) }.sorted().map(\.text)
        let ids = ByteBuffer(bytes: aggregateIDs.sorted().flatMap(\.bytes))
        return try unsafe withCBytes(types) { texts in
            try unsafe ids.withUnsafeReadableBytes { idBytes in
                var all = unsafe texts
                for index in 0..<aggregateIDs.count {
                    let start = unsafe idBytes.baseAddress.map { unsafe $0 + 16 * index }
                    unsafe all.append(
                        ProtobufCBinaryData(
                            len: 16, data: UnsafeMutablePointer(mutating: start?.assumingMemoryBound(to: UInt8.self))))
                }
                return try unsafe all.withUnsafeMutableBufferPointer { all in
                    try unsafe MartletFrameCodec.withMessage(
                        Martlet__V1__EventFilter(), martlet__v1__event_filter__init
                    ) {
                        message in
                        unsafe message.pointee.n_aggregate_types = aggregateTypes.count
                        unsafe message.pointee.aggregate_types = all.baseAddress
                        unsafe message.pointee.n_event_types = eventTypes.count
                        unsafe message.pointee.event_types = all.baseAddress.map { unsafe $0 + aggregateTypes.count }
                        unsafe message.pointee.n_aggregate_ids = aggregateIDs.count
                        unsafe message.pointee.aggregate_ids = all.baseAddress.map { unsafe $0 + types.count }
                        return try unsafe body(message)
                    }
                }
            }
        }
    }
}

extension Direction {
    fileprivate var message: Martlet__V1__Direction {
        switch self {
        case .forward: MARTLET__V1__DIRECTION__DIRECTION_FORWARD
        case .backward: MARTLET__V1__DIRECTION__DIRECTION_BACKWARD
        }
    }
}

extension LoadRequest {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        snapshot?.encode(field: 9, to: &tail)
        upcasting.encode(field: 10, to: &tail)
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe aggregate.withMessage { aggregate in
                unsafe withMessage(Martlet__V1__LoadRequest(), martlet__v1__load_request__init) { message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe message.pointee.after_version = after.rawValue
                    unsafe message.pointee.direction = direction.message
                    unsafe message.pointee.events_max = eventsMax ?? 0
                    switch target {
                    case .now: break
                    case .version(let version):
                        unsafe message.pointee.until_case = MARTLET__V1__LOAD_REQUEST__UNTIL_TO_VERSION
                        unsafe message.pointee.to_version = version.rawValue
                    case .position(let position):
                        unsafe message.pointee.until_case = MARTLET__V1__LOAD_REQUEST__UNTIL_AS_OF_POSITION
                        unsafe message.pointee.as_of_position = position.rawValue
                    case .time(let time):
                        unsafe message.pointee.until_case = MARTLET__V1__LOAD_REQUEST__UNTIL_AS_OF_TIME_MICROS
                        unsafe message.pointee.as_of_time_micros = time.microseconds
                    }
                    unsafe buffer.writeField(17, &message.pointee.base, tail: tail)
                }
            }
        }
    }
}

extension ReadRequest {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        upcasting.encode(field: 8, to: &tail)
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe filter.withMessage { filter in
                unsafe withMessage(Martlet__V1__ReadRequest(), martlet__v1__read_request__init) { message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.filter = unsafe filter
                    unsafe message.pointee.after_position = after.rawValue
                    unsafe message.pointee.direction = direction.message
                    unsafe message.pointee.events_max = eventsMax ?? 0
                    switch target {
                    case .head: break
                    case .position(let position):
                        unsafe message.pointee.until_case = MARTLET__V1__READ_REQUEST__UNTIL_TO_POSITION
                        unsafe message.pointee.to_position = position.rawValue
                    case .time(let time):
                        unsafe message.pointee.until_case = MARTLET__V1__READ_REQUEST__UNTIL_AS_OF_TIME_MICROS
                        unsafe message.pointee.as_of_time_micros = time.microseconds
                    }
                    unsafe buffer.writeField(18, &message.pointee.base, tail: tail)
                }
            }
        }
    }
}

extension SubscribeRequest {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        upcasting.encode(field: 7, to: &tail)
        lastSeen?.encode(field: 8, to: &tail)
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe filter.withMessage { filter in
                unsafe withMessage(Martlet__V1__SubscribeRequest(), martlet__v1__subscribe_request__init) { message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.filter = unsafe filter
                    unsafe message.pointee.heartbeat_millis = heartbeatMillis ?? 0
                    switch start {
                    case .after(let position):
                        unsafe message.pointee.start_case = MARTLET__V1__SUBSCRIBE_REQUEST__START_AFTER_POSITION
                        unsafe message.pointee.after_position = position.rawValue
                    case .time(let time):
                        unsafe message.pointee.start_case = MARTLET__V1__SUBSCRIBE_REQUEST__START_FROM_TIME_MICROS
                        unsafe message.pointee.from_time_micros = time.microseconds
                    case .head:
                        unsafe message.pointee.start_case = MARTLET__V1__SUBSCRIBE_REQUEST__START_FROM_HEAD
                        unsafe message.pointee.from_head = 1
                    }
                    unsafe buffer.writeField(19, &message.pointee.base, tail: tail)
                }
            }
        }
    }
}

extension EventMark {
    /// Writes the event as that field.
    fileprivate func encode(field: UInt32, to buffer: inout ByteBuffer) {
        unsafe withCBytes(eventID) { id in
            unsafe withMessage(Martlet__V1__SeenEvent(), martlet__v1__seen_event__init) { message in
                unsafe message.pointee.position = position.rawValue
                unsafe message.pointee.event_id = unsafe id
                unsafe buffer.writeField(field, &message.pointee.base)
            }
        }
    }
}
