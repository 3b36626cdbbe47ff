import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

// What the messages about consumers are made of: names, definitions, places.

private let nameRule = "1 to 128 bytes of [A-Za-z0-9_.:-] are allowed"

extension ConsumerName {
    @unsafe init(field: ProtobufCBinaryData, name: String = "consumer") throws(MartletError) {
        guard let text = unsafe field.text, let consumer = ConsumerName(text) else {
            throw .invalidField(name, "has \(unsafe field.len) bytes or a character that is not allowed: \(nameRule)")
        }
        self = consumer
    }

    @unsafe init?(received field: ProtobufCBinaryData) {
        guard let text = unsafe field.text else { return nil }
        self.init(text)
    }
}

extension WorkerName {
    @unsafe init(field: ProtobufCBinaryData) throws(MartletError) {
        guard let text = unsafe field.text, let worker = WorkerName(text) else {
            throw .invalidField(
                "worker", "has \(unsafe field.len) bytes or a character that is not allowed: \(nameRule)")
        }
        self = worker
    }

    @unsafe init?(received field: ProtobufCBinaryData) {
        guard let text = unsafe field.text else { return nil }
        self.init(text)
    }
}

extension ConsumerID {
    @unsafe init(tenant: ProtobufCBinaryData, consumer: ProtobufCBinaryData) throws(MartletError) {
        self.init(tenant: try unsafe TenantID(field: tenant), name: try unsafe ConsumerName(field: consumer))
    }

    /// Calls `body` with the tenant and the name as protobuf-c sees them.
    @unsafe func withCBytes<Result>(
        _ body: (_ tenant: ProtobufCBinaryData, _ consumer: ProtobufCBinaryData) throws -> Result
    ) rethrows -> Result {
        try unsafe MartletRecordCodec.withCBytes(tenant.uuid) { tenant in
            try unsafe MartletRecordCodec.withCBytes([name.text]) { text in try unsafe body(tenant, text[0]) }
        }
    }
}

extension Checkpoint {
    @unsafe init?(received message: UnsafePointer<Martlet__V1__ConsumerCheckpoint>?) {
        guard let message = unsafe message?.pointee else { return nil }
        let id = unsafe message.event_id.uuid
        guard unsafe id != nil || message.event_id.len == 0 else { return nil }
        self.init(position: Position(unsafe message.position), eventID: id)
    }

    /// Calls `body` with the place as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__ConsumerCheckpoint>) throws -> Result
    ) rethrows -> Result {
        try unsafe MartletFrameCodec.withMessage(
            Martlet__V1__ConsumerCheckpoint(), martlet__v1__consumer_checkpoint__init
        ) { message in
            unsafe message.pointee.position = position.rawValue
            guard let eventID else { return try unsafe body(message) }
            return try unsafe withCBytes(eventID) { id in
                unsafe message.pointee.event_id = unsafe id
                return try unsafe body(message)
            }
        }
    }
}

extension SubscriptionStart {
    /// Where a consumer begins; nil where it is not said.
    @unsafe static func decode(
        _ message: UnsafePointer<Martlet__V1__ConsumerStart>?
    ) throws(MartletError) -> SubscriptionStart? {
        guard let message = unsafe message?.pointee else { return nil }
        switch unsafe message.start_case {
        case MARTLET__V1__CONSUMER_START__START_AFTER_POSITION: return .after(Position(unsafe message.after_position))
        case MARTLET__V1__CONSUMER_START__START_FROM_TIME_MICROS:
            return .time(Timestamp(microseconds: unsafe message.from_time_micros))
        case MARTLET__V1__CONSUMER_START__START_FROM_HEAD:
            try requireSet(unsafe message.from_head, "start.from_head")
            return .head
        default: return nil
        }
    }

    /// Calls `body` with the start as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__ConsumerStart>) throws -> Result
    ) rethrows -> Result {
        try unsafe MartletFrameCodec.withMessage(Martlet__V1__ConsumerStart(), martlet__v1__consumer_start__init) {
            message in
            switch self {
            case .after(let position):
                unsafe message.pointee.start_case = MARTLET__V1__CONSUMER_START__START_AFTER_POSITION
                unsafe message.pointee.after_position = position.rawValue
            case .time(let time):
                unsafe message.pointee.start_case = MARTLET__V1__CONSUMER_START__START_FROM_TIME_MICROS
                unsafe message.pointee.from_time_micros = time.microseconds
            case .head:
                unsafe message.pointee.start_case = MARTLET__V1__CONSUMER_START__START_FROM_HEAD
                unsafe message.pointee.from_head = 1
            }
            return try unsafe body(message)
        }
    }
}

/// Checks a flag that is one of several choices: it is set to true, or left out.
func requireSet(_ flag: Int32, _ name: String) throws(MartletError) {
    guard flag != 0 else { throw .invalidField(name, "is false: omit it, or set it to true") }
}

extension KeyPlace {
    @unsafe init(
        field: UnsafePointer<Martlet__V1__KeyPlace>?, name: @autoclosure () -> String
    ) throws(MartletError) {
        guard let field = unsafe field?.pointee else {
            throw .invalidField(name(), "is missing: give its slot and key")
        }
        let slotsMax = ConsumerDefinition.slotsMax
        guard unsafe field.slot < UInt32(slotsMax) else {
            throw .invalidField(
                "\(name()).slot", "is \(unsafe field.slot): slots are numbered from 0 to \(slotsMax - 1)")
        }
        guard unsafe (1...ConsumerKey.bytesMax).contains(field.key.len) else {
            throw .invalidField(
                "\(name()).key", "has \(unsafe field.key.len) bytes: a key has 1 to \(ConsumerKey.bytesMax)")
        }
        self.init(slot: Int(unsafe field.slot), key: unsafe ConsumerKey(bytes: field.key.bytes))
    }

    @unsafe init?(received message: UnsafePointer<Martlet__V1__KeyPlace>?) {
        guard let message = unsafe message?.pointee else { return nil }
        self.init(slot: Int(unsafe message.slot), key: unsafe ConsumerKey(bytes: message.key.bytes))
    }

    /// Calls `body` with the key as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__KeyPlace>) throws -> Result
    ) rethrows -> Result {
        try unsafe key.bytes.withUnsafeBytes { key in
            try unsafe MartletFrameCodec.withMessage(Martlet__V1__KeyPlace(), martlet__v1__key_place__init) { message in
                unsafe message.pointee.slot = UInt32(clamping: slot)
                unsafe message.pointee.key = unsafe ProtobufCBinaryData(key)
                return try unsafe body(message)
            }
        }
    }
}

// MARK: Definitions

extension ConsumerDefinition {
    /// Checks a definition that a client sent.
    @unsafe init(
        field: UnsafePointer<Martlet__V1__ConsumerDefinition>?, limits: Limits
    ) throws(MartletError) {
        guard let field = unsafe field else {
            throw .invalidField("definition", "is missing: say what the consumer is")
        }
        try unsafe self.init(field, filterValuesMax: limits.filterValuesMax)
        try validate()
    }

    /// A definition that a server sent: its bounds may be others.
    @unsafe init?(received message: UnsafePointer<Martlet__V1__ConsumerDefinition>?) {
        guard let message = unsafe message else { return nil }
        do throws(MartletError) { try unsafe self.init(message, filterValuesMax: .max) } catch { return nil }
    }

    @unsafe private init(
        _ message: UnsafePointer<Martlet__V1__ConsumerDefinition>, filterValuesMax: Int
    ) throws(MartletError) {
        var limits = Limits()
        limits.filterValuesMax = filterValuesMax
        self.init(
            filter: try unsafe EventFilter(field: message.pointee.filter, name: "definition.filter", limits: limits),
            keyRule: try unsafe KeyRule(message), isRaw: unsafe message.pointee.raw != 0,
            isPaused: unsafe message.pointee.paused != 0, delivery: unsafe SlotSettings(message.pointee.delivery))
        if unsafe message.pointee.slots > 0 { slotCount = Int(unsafe message.pointee.slots) }
    }

    /// Calls `body` with the definition as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__ConsumerDefinition>) throws -> Result
    ) rethrows -> Result {
        let tag = if case .tag(let name) = keyRule { name } else { "" }
        return try unsafe withCBytes([tag]) { text in
            try unsafe filter.withMessage { filter in
                try unsafe delivery.withMessage { delivery in
                    try unsafe MartletFrameCodec.withMessage(
                        Martlet__V1__ConsumerDefinition(), martlet__v1__consumer_definition__init
                    ) { message in
                        unsafe message.pointee.filter = unsafe filter
                        switch keyRule {
                        case .aggregate:
                            unsafe message.pointee.key_case = MARTLET__V1__CONSUMER_DEFINITION__KEY_AGGREGATE
                            unsafe message.pointee.aggregate = 1
                        case .aggregateType:
                            unsafe message.pointee.key_case = MARTLET__V1__CONSUMER_DEFINITION__KEY_AGGREGATE_TYPE
                            unsafe message.pointee.aggregate_type = 1
                        case .tag:
                            unsafe message.pointee.key_case = MARTLET__V1__CONSUMER_DEFINITION__KEY_TAG
                            unsafe message.pointee.tag = unsafe text[0]
                        }
                        unsafe message.pointee.slots = UInt32(clamping: slotCount)
                        unsafe message.pointee.raw = isRaw ? 1 : 0
                        unsafe message.pointee.paused = isPaused ? 1 : 0
                        unsafe message.pointee.delivery = unsafe delivery
                        return try unsafe body(message)
                    }
                }
            }
        }
    }
}

extension KeyRule {
    @unsafe fileprivate init(_ message: UnsafePointer<Martlet__V1__ConsumerDefinition>) throws(MartletError) {
        switch unsafe message.pointee.key_case {
        case MARTLET__V1__CONSUMER_DEFINITION__KEY_AGGREGATE_TYPE:
            try requireSet(unsafe message.pointee.aggregate_type, "definition.aggregate_type")
            self = .aggregateType
        case MARTLET__V1__CONSUMER_DEFINITION__KEY_TAG:
            guard let name = unsafe message.pointee.tag.text else {
                throw .invalidField("definition.tag", "is not UTF-8: name a tag in 1 to 256 bytes")
            }
            self = .tag(name)
        case MARTLET__V1__CONSUMER_DEFINITION__KEY_AGGREGATE:
            try requireSet(unsafe message.pointee.aggregate, "definition.aggregate")
            self = .aggregate
        default: self = .aggregate
        }
    }
}

extension SlotSettings {
    /// What is 0 or left out is the default.
    @unsafe fileprivate init(_ message: UnsafePointer<Martlet__V1__SlotSettings>?) {
        self.init()
        guard let message = unsafe message?.pointee else { return }
        func replace(_ number: inout Int, _ sent: UInt32) { if sent > 0 { number = Int(sent) } }
        unsafe replace(&windowEventsMax, message.window_events_max)
        inFlightMax = min(inFlightMax, windowEventsMax)
        unsafe replace(&inFlightMax, message.in_flight_max)
        if unsafe message.blocking_case == MARTLET__V1__SLOT_SETTINGS__BLOCKING_BLOCKED_KEYS_MAX {
            blockedKeysMax = Int(unsafe message.blocked_keys_max)
        }
        unsafe replace(&retriedKeysMax, message.retried_keys_max)
        if unsafe message.tries_max > 0 { triesMax = unsafe message.tries_max }
        func replace(_ time: inout TimeAmount, _ sent: UInt32) { if sent > 0 { time = .milliseconds(Int64(sent)) } }
        unsafe replace(&acknowledgementTimeout, message.ack_timeout_millis)
        unsafe replace(&backoffMin, message.backoff_min_millis)
        backoffMax = max(backoffMax, backoffMin)
        unsafe replace(&backoffMax, message.backoff_max_millis)
    }

    @unsafe fileprivate func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__SlotSettings>) throws -> Result
    ) rethrows -> Result {
        func millis(_ time: TimeAmount) -> UInt32 { UInt32(clamping: time.nanoseconds / 1_000_000) }
        return try unsafe MartletFrameCodec.withMessage(
            Martlet__V1__SlotSettings(), martlet__v1__slot_settings__init
        ) { message in
            unsafe message.pointee.window_events_max = UInt32(clamping: windowEventsMax)
            unsafe message.pointee.in_flight_max = UInt32(clamping: inFlightMax)
            unsafe message.pointee.blocking_case = MARTLET__V1__SLOT_SETTINGS__BLOCKING_BLOCKED_KEYS_MAX
            unsafe message.pointee.blocked_keys_max = UInt32(clamping: blockedKeysMax)
            unsafe message.pointee.retried_keys_max = UInt32(clamping: retriedKeysMax)
            unsafe message.pointee.tries_max = triesMax
            unsafe message.pointee.ack_timeout_millis = millis(acknowledgementTimeout)
            unsafe message.pointee.backoff_min_millis = millis(backoffMin)
            unsafe message.pointee.backoff_max_millis = millis(backoffMax)
            return try unsafe body(message)
        }
    }
}
