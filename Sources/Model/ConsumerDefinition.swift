import FoundationEssentials
public import NIOCore

/// What a consumer is: which events, in which order, delivered how. It says nothing of how far the consumer has come.
public struct ConsumerDefinition: Hashable, Sendable {
    /// The most slots that a consumer can have.
    public static let slotsMax = 1_024

    /// Which of the tenant's events it is about; the others are passed over.
    public var filter: EventFilter
    /// What its events are ordered by.
    public var keyRule: KeyRule
    /// Into how many slots its keys are divided, and so how many workers can share it: 1 to ``slotsMax``.
    public var slotCount: Int
    /// Events are delivered as they are stored: no upcaster changes them.
    public var isRaw: Bool
    /// Nothing is delivered.
    public var isPaused: Bool
    /// How its slots deliver.
    public var delivery: SlotSettings

    /// A definition of those parts.
    public init(
        filter: EventFilter = .all, keyRule: KeyRule = .aggregate, slotCount: Int = 16, isRaw: Bool = false,
        isPaused: Bool = false, delivery: SlotSettings = SlotSettings()
    ) {
        self.filter = filter
        self.keyRule = keyRule
        self.slotCount = slotCount
        self.isRaw = isRaw
        self.isPaused = isPaused
        self.delivery = delivery
    }

    /// Whether keys go to the same slots by that definition as by this one.
    public func dividesAlike(_ other: ConsumerDefinition) -> Bool {
        keyRule == other.keyRule && slotCount == other.slotCount
    }

    /// Checks that every number is within its bounds.
    /// - Throws: `INVALID_FIELD`, naming the bound and the value.
    public func validate() throws(MartletError) {
        func require(_ range: ClosedRange<Int>, _ value: Int, _ name: String) throws(MartletError) {
            guard !range.contains(value) else { return }
            throw MartletError(
                .invalidArgument, reason: .invalidField,
                message: "\(name) must be from \(range.lowerBound) to \(range.upperBound), and is \(value)")
        }
        try require(1...Self.slotsMax, slotCount, "slots")
        if case .tag(let name) = keyRule { try require(1...256, name.utf8.count, "the length of the key's tag") }
        try require(1...65_536, delivery.windowEventsMax, "window_events_max")
        try require(1...delivery.windowEventsMax, delivery.inFlightMax, "in_flight_max")
        try require(0...10_000, delivery.blockedKeysMax, "blocked_keys_max")
        try require(1...256, delivery.retriedKeysMax, "retried_keys_max")
        try require(1...1_000_000, Int(delivery.triesMax), "tries_max")
        let day = 86_400_000
        try require(100...day, delivery.acknowledgementTimeout.wholeMillis, "ack_timeout_millis")
        try require(1...day, delivery.backoffMin.wholeMillis, "backoff_min_millis")
        try require(delivery.backoffMin.wholeMillis...7 * day, delivery.backoffMax.wholeMillis, "backoff_max_millis")
    }
}

/// How a consumer's slots deliver.
public struct SlotSettings: Hashable, Sendable {
    /// Events that may be read ahead of the oldest one that is not settled.
    public var windowEventsMax = 4_096
    /// Events that are under way at a time.
    public var inFlightMax = 256
    /// Keys that may be blocked at a time; one more stops the slot.
    public var blockedKeysMax = 1_000
    /// Blocked keys that are tried at a time.
    public var retriedKeysMax = 8
    /// Tries of an event, after which its key is parked.
    public var triesMax: UInt32 = 5
    /// Time within which a delivery is acknowledged, in whole milliseconds.
    public var acknowledgementTimeout = TimeAmount.seconds(30)
    /// Wait before the second try, in whole milliseconds; it doubles with each.
    public var backoffMin = TimeAmount.milliseconds(500)
    /// The longest wait before a try, in whole milliseconds.
    public var backoffMax = TimeAmount.seconds(60)

    /// The defaults.
    public init() {}
}

// MARK: As it is stored

extension ConsumerDefinition {
    /// The definition as JSON, as it is stored; the same definition is always the same bytes.
    public func encoded() -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Numbers, flags and texts: nothing that could not be encoded.
        guard let data = try? encoder.encode(ConsumerDocument(self)) else {
            preconditionFailure("a definition can be encoded")
        }
        return ByteBuffer(bytes: data)
    }

    /// The definition that is stored as that document.
    /// - Throws: `STORAGE_MISCONFIGURED` where a newer server wrote it, `STORAGE_CORRUPTED` where it is none.
    public init(document: ByteBuffer) throws(MartletError) {
        let data = Data(document.readableBytesView)
        guard let head = try? JSONDecoder().decode(ConsumerDocument.Head.self, from: data),
            head.format <= ConsumerDocument.format
        else {
            throw MartletError(
                .failedPrecondition, reason: .storageMisconfigured,
                message: "a consumer's definition was written by a newer server: use that version")
        }
        guard let definition = (try? JSONDecoder().decode(ConsumerDocument.self, from: data))?.definition else {
            throw MartletError(
                .dataLoss, reason: .storageCorrupted, message: "a consumer's stored definition cannot be read")
        }
        self = definition
    }
}

/// A definition as JSON.
private struct ConsumerDocument: Codable {
    static let format = 1

    struct Head: Decodable {
        var format: Int
    }

    struct Filter: Codable {
        var aggregate_types: [String]
        var event_types: [String]
        var aggregate_ids: [UUID]
    }

    var format: Int
    var filter: Filter
    var key: String
    var tag: String?
    var slots: Int
    var raw: Bool
    var paused: Bool
    var window_events_max: Int
    var in_flight_max: Int
    var blocked_keys_max: Int
    var retried_keys_max: Int
    var tries_max: UInt32
    var ack_timeout_millis: Int
    var backoff_min_millis: Int
    var backoff_max_millis: Int

    init(_ definition: ConsumerDefinition) {
        format = Self.format
        filter = Filter(
            aggregate_types: definition.filter.aggregateTypes.map(\.text).sorted(),
            event_types: definition.filter.eventTypes.map(\.text).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) },
            aggregate_ids: definition.filter.aggregateIDs.sorted { TenantID($0) < TenantID($1) })
        switch definition.keyRule {
        case .aggregate: key = "aggregate"
        case .aggregateType: key = "aggregate_type"
        case .tag(let name):
            key = "tag"
            tag = name
        }
        slots = definition.slotCount
        raw = definition.isRaw
        paused = definition.isPaused
        let delivery = definition.delivery
        window_events_max = delivery.windowEventsMax
        in_flight_max = delivery.inFlightMax
        blocked_keys_max = delivery.blockedKeysMax
        retried_keys_max = delivery.retriedKeysMax
        tries_max = delivery.triesMax
        ack_timeout_millis = delivery.acknowledgementTimeout.wholeMillis
        backoff_min_millis = delivery.backoffMin.wholeMillis
        backoff_max_millis = delivery.backoffMax.wholeMillis
    }

    /// Nil where a part cannot be what it should.
    var definition: ConsumerDefinition? {
        let aggregateTypes = filter.aggregate_types.compactMap { AggregateType($0) }
        let eventTypes = filter.event_types.compactMap { EventType($0) }
        guard aggregateTypes.count == filter.aggregate_types.count, eventTypes.count == filter.event_types.count
        else { return nil }
        let rule: KeyRule
        switch (key, tag) {
        case ("aggregate", nil): rule = .aggregate
        case ("aggregate_type", nil): rule = .aggregateType
        case ("tag", let name?): rule = .tag(name)
        default: return nil
        }
        var delivery = SlotSettings()
        delivery.windowEventsMax = window_events_max
        delivery.inFlightMax = in_flight_max
        delivery.blockedKeysMax = blocked_keys_max
        delivery.retriedKeysMax = retried_keys_max
        delivery.triesMax = tries_max
        delivery.acknowledgementTimeout = .milliseconds(Int64(ack_timeout_millis))
        delivery.backoffMin = .milliseconds(Int64(backoff_min_millis))
        delivery.backoffMax = .milliseconds(Int64(backoff_max_millis))
        let definition = ConsumerDefinition(
            filter: EventFilter(
                aggregateTypes: Set(aggregateTypes), eventTypes: Set(eventTypes),
                aggregateIDs: Set(filter.aggregate_ids)),
            keyRule: rule, slotCount: slots, isRaw: raw, isPaused: paused, delivery: delivery)
        do { try definition.validate() } catch { return nil }
        return definition
    }
}

extension TimeAmount {
    /// Whole milliseconds, rounded toward zero.
    fileprivate var wholeMillis: Int { Int(nanoseconds / 1_000_000) }
}
