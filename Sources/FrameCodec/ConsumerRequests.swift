import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// Requests about consumers.
enum ConsumerRequests {
    /// The request of a frame; nil where it is about something else.
    @unsafe static func decode(
        _ frame: UnsafeMutablePointer<Martlet__V1__ClientFrame>, limits: Limits
    ) throws(MartletError) -> CallRequest? {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__CLIENT_FRAME__BODY_PUT_CONSUMER:
            return .putConsumer(try unsafe PutConsumerRequest(frame.pointee.put_consumer, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_GET_CONSUMER:
            let message = unsafe frame.pointee.get_consumer.pointee
            return .getConsumer(try unsafe ConsumerID(tenant: message.tenant, consumer: message.consumer))
        case MARTLET__V1__CLIENT_FRAME__BODY_LIST_CONSUMERS:
            return .listConsumers(try unsafe ListConsumersRequest(frame.pointee.list_consumers))
        case MARTLET__V1__CLIENT_FRAME__BODY_DELETE_CONSUMER:
            let message = unsafe frame.pointee.delete_consumer.pointee
            return .deleteConsumer(try unsafe ConsumerID(tenant: message.tenant, consumer: message.consumer))
        case MARTLET__V1__CLIENT_FRAME__BODY_RESET_CONSUMER:
            return .resetConsumer(try unsafe ResetConsumerRequest(frame.pointee.reset_consumer))
        case MARTLET__V1__CLIENT_FRAME__BODY_LIST_BLOCKED_KEYS:
            return .listBlockedKeys(try unsafe ListBlockedKeysRequest(frame.pointee.list_blocked_keys))
        case MARTLET__V1__CLIENT_FRAME__BODY_UNBLOCK_KEYS:
            return .unblockKeys(try unsafe UnblockKeysRequest(frame.pointee.unblock_keys))
        case MARTLET__V1__CLIENT_FRAME__BODY_AWAIT_CONSUMER:
            let message = unsafe frame.pointee.await_consumer.pointee
            return .awaitConsumer(
                AwaitConsumerRequest(
                    try unsafe ConsumerID(tenant: message.tenant, consumer: message.consumer),
                    position: Position(unsafe message.position)))
        case MARTLET__V1__CLIENT_FRAME__BODY_CONSUME:
            return try unsafe ConsumeRequests.decode(frame.pointee.consume, limits: limits)
        default: return nil
        }
    }

    static func encode(get consumer: ConsumerID, to buffer: inout ByteBuffer) {
        unsafe consumer.withCBytes { tenant, name in
            unsafe withMessage(Martlet__V1__GetConsumerRequest(), martlet__v1__get_consumer_request__init) { message in
                unsafe message.pointee.tenant = unsafe tenant
                unsafe message.pointee.consumer = unsafe name
                unsafe buffer.writeField(29, &message.pointee.base)
            }
        }
    }

    static func encode(delete consumer: ConsumerID, to buffer: inout ByteBuffer) {
        unsafe consumer.withCBytes { tenant, name in
            unsafe withMessage(Martlet__V1__DeleteConsumerRequest(), martlet__v1__delete_consumer_request__init) {
                message in
                unsafe message.pointee.tenant = unsafe tenant
                unsafe message.pointee.consumer = unsafe name
                unsafe buffer.writeField(31, &message.pointee.base)
            }
        }
    }
}

extension PutConsumerRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__PutConsumerRequest>, limits: Limits) throws(MartletError) {
        self.init(
            try unsafe ConsumerID(tenant: message.pointee.tenant, consumer: message.pointee.consumer),
            try unsafe ConsumerDefinition(field: message.pointee.definition, limits: limits),
            start: try unsafe SubscriptionStart.decode(message.pointee.start) ?? .after(.start),
            expected: try unsafe ExpectedDefinition(message))
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe consumer.withCBytes { tenant, name in
            unsafe definition.withMessage { definition in
                unsafe start.withMessage { start in
                    unsafe withMessage(Martlet__V1__PutConsumerRequest(), martlet__v1__put_consumer_request__init) {
                        message in
                        unsafe message.pointee.tenant = unsafe tenant
                        unsafe message.pointee.consumer = unsafe name
                        unsafe message.pointee.definition = unsafe definition
                        unsafe message.pointee.start = unsafe start
                        switch expected {
                        case .none:
                            unsafe message.pointee.expected_case = MARTLET__V1__PUT_CONSUMER_REQUEST__EXPECTED_NONE
                            unsafe message.pointee.none = 1
                        case .any:
                            unsafe message.pointee.expected_case = MARTLET__V1__PUT_CONSUMER_REQUEST__EXPECTED_ANY
                            unsafe message.pointee.any = 1
                        case .revision(let revision):
                            unsafe message.pointee.expected_case = MARTLET__V1__PUT_CONSUMER_REQUEST__EXPECTED_REVISION
                            unsafe message.pointee.revision = revision
                        }
                        unsafe buffer.writeField(28, &message.pointee.base)
                    }
                }
            }
        }
    }
}

extension ExpectedDefinition {
    @unsafe fileprivate init(_ message: UnsafePointer<Martlet__V1__PutConsumerRequest>) throws(MartletError) {
        switch unsafe message.pointee.expected_case {
        case MARTLET__V1__PUT_CONSUMER_REQUEST__EXPECTED_NONE:
            try requireSet(unsafe message.pointee.none, "none")
            self = .none
        case MARTLET__V1__PUT_CONSUMER_REQUEST__EXPECTED_ANY:
            try requireSet(unsafe message.pointee.any, "any")
            self = .any
        case MARTLET__V1__PUT_CONSUMER_REQUEST__EXPECTED_REVISION:
            guard unsafe message.pointee.revision > 0 else {
                throw .invalidField("revision", "is 0: revisions are numbered from 1; set none to make a consumer")
            }
            self = .revision(unsafe message.pointee.revision)
        default: self = .none
        }
    }
}

extension ListConsumersRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__ListConsumersRequest>) throws(MartletError) {
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            after: unsafe message.pointee.after.len == 0
                ? nil : try unsafe ConsumerName(field: message.pointee.after, name: "after"))
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe withCBytes([after?.text ?? ""]) { text in
                unsafe withMessage(Martlet__V1__ListConsumersRequest(), martlet__v1__list_consumers_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.after = unsafe text[0]
                    unsafe buffer.writeField(30, &message.pointee.base)
                }
            }
        }
    }
}

extension ResetConsumerRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__ResetConsumerRequest>) throws(MartletError) {
        let consumer = try unsafe ConsumerID(tenant: message.pointee.tenant, consumer: message.pointee.consumer)
        // What was forgotten must not begin at the first event.
        guard let start = try unsafe SubscriptionStart.decode(message.pointee.start) else {
            throw .invalidField("start", "is missing: set after_position, from_time_micros or from_head")
        }
        self.init(consumer, start: start, isPreview: unsafe message.pointee.preview != 0)
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe consumer.withCBytes { tenant, name in
            unsafe start.withMessage { start in
                unsafe withMessage(Martlet__V1__ResetConsumerRequest(), martlet__v1__reset_consumer_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.consumer = unsafe name
                    unsafe message.pointee.start = unsafe start
                    unsafe message.pointee.preview = isPreview ? 1 : 0
                    unsafe buffer.writeField(32, &message.pointee.base)
                }
            }
        }
    }
}

extension ListBlockedKeysRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__ListBlockedKeysRequest>) throws(MartletError) {
        self.init(
            try unsafe ConsumerID(tenant: message.pointee.tenant, consumer: message.pointee.consumer),
            after: unsafe message.pointee.after == nil
                ? nil : try unsafe KeyPlace(field: message.pointee.after, name: "after"))
    }

    func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        if let after { unsafe after.withMessage { unsafe tail.writeField(3, &$0.pointee.base) } }
        unsafe consumer.withCBytes { tenant, name in
            unsafe withMessage(Martlet__V1__ListBlockedKeysRequest(), martlet__v1__list_blocked_keys_request__init) {
                message in
                unsafe message.pointee.tenant = unsafe tenant
                unsafe message.pointee.consumer = unsafe name
                unsafe buffer.writeField(33, &message.pointee.base, tail: tail)
            }
        }
    }
}

extension UnblockKeysRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__UnblockKeysRequest>) throws(MartletError) {
        let consumer = try unsafe ConsumerID(tenant: message.pointee.tenant, consumer: message.pointee.consumer)
        let count = unsafe message.pointee.n_keys
        guard count > 0 else { throw .invalidField("keys", "is empty: name at least 1 key") }
        guard count <= Self.keysMax else {
            throw .limitExceeded(
                "unblocked_keys_max", limit: Self.keysMax, actual: count, "name fewer keys at once")
        }
        var keys: [Key] = []
        for index in 0..<count {
            guard let key = unsafe message.pointee.keys[index]?.pointee else { continue }
            let place = try unsafe KeyPlace(field: key.place, name: "keys[\(index)].place")
            keys.append(Key(place, skipping: unsafe key.skip_position == 0 ? nil : Position(unsafe key.skip_position)))
        }
        self.init(consumer, keys: keys)
    }

    func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        for key in keys {
            unsafe key.place.withMessage { place in
                unsafe withMessage(Martlet__V1__KeyToUnblock(), martlet__v1__key_to_unblock__init) { message in
                    unsafe message.pointee.place = unsafe place
                    unsafe message.pointee.skip_position = key.skipping?.rawValue ?? 0
                    unsafe tail.writeField(3, &message.pointee.base)
                }
            }
        }
        unsafe consumer.withCBytes { tenant, name in
            unsafe withMessage(Martlet__V1__UnblockKeysRequest(), martlet__v1__unblock_keys_request__init) { message in
                unsafe message.pointee.tenant = unsafe tenant
                unsafe message.pointee.consumer = unsafe name
                unsafe buffer.writeField(34, &message.pointee.base, tail: tail)
            }
        }
    }
}

extension AwaitConsumerRequest {
    func encode(to buffer: inout ByteBuffer) {
        unsafe consumer.withCBytes { tenant, name in
            unsafe withMessage(Martlet__V1__AwaitConsumerRequest(), martlet__v1__await_consumer_request__init) {
                message in
                unsafe message.pointee.tenant = unsafe tenant
                unsafe message.pointee.consumer = unsafe name
                unsafe message.pointee.position = position.rawValue
                unsafe buffer.writeField(35, &message.pointee.base)
            }
        }
    }
}
