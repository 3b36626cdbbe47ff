import ArgumentParser
import MartletClient
import MartletModel
import NIOCore

/// Names a consumer.
struct ConsumerOptions: ParsableArguments {
    @OptionGroup var tenant: TenantOptions

    @Argument(help: "Name of the consumer.")
    var name: String

    func id() throws -> ConsumerID {
        guard let name = ConsumerName(name) else {
            throw UsageError("'\(name)' is not a consumer's name: 1 to 128 bytes of [A-Za-z0-9_.:-]")
        }
        return ConsumerID(tenant: try tenant.tenantID(), name: name)
    }

    /// Runs `body` with a client, which is closed afterwards.
    func withClient<Result: Sendable>(
        _ body: @escaping @Sendable (MartletClient) async throws -> Result
    ) async throws -> Result { try await tenant.server.withClient(body) }
}

/// What to put into a consumer's definition; what is not given stays as it is, or gets its default.
struct DefinitionOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Only aggregates of this type; may be repeated.", valueName: "type"))
    var type: [String] = []

    @Option(help: ArgumentHelp("Only events of this type; may be repeated.", valueName: "type"))
    var eventType: [String] = []

    @Option(help: ArgumentHelp("Only this aggregate id; may be repeated.", valueName: "uuid"))
    var id: [String] = []

    @Flag(help: "All of the tenant's events: drops the filter of an existing consumer.")
    var all = false

    @Option(
        help: ArgumentHelp(
            "The key that its events are ordered by (default aggregate).",
            valueName: "aggregate|aggregate-type|tag:name"))
    var orderBy: String?

    @Option(
        help: ArgumentHelp(
            "Into how many slots its keys are divided, and so how many workers can share it, "
                + "1 to \(ConsumerDefinition.slotsMax) (default \(ConsumerDefinition().slotCount)).",
            valueName: "count"))
    var slots: Int?

    @Flag(inversion: .prefixedNo, help: "Deliver events as they are stored, without upcasting.")
    var raw: Bool?

    @Option(
        help: ArgumentHelp(
            "Events of a slot that may be read ahead (default \(SlotSettings().windowEventsMax)).", valueName: "count"))
    var windowEventsMax: Int?

    @Option(
        help: ArgumentHelp(
            "Events of a slot that are under way at a time (default \(SlotSettings().inFlightMax)).", valueName: "count"
        ))
    var inFlightMax: Int?

    @Option(
        help: ArgumentHelp(
            "Keys of a slot that may be blocked; one more stops it (default \(SlotSettings().blockedKeysMax)).",
            valueName: "count"))
    var blockedKeysMax: Int?

    @Option(
        help: ArgumentHelp(
            "Blocked keys of a slot that are tried at a time (default \(SlotSettings().retriedKeysMax)).",
            valueName: "count"))
    var retriedKeysMax: Int?

    @Option(
        help: ArgumentHelp(
            "Tries of an event, after which its key is parked (default \(SlotSettings().triesMax)).", valueName: "count"
        ))
    var triesMax: UInt32?

    @Option(help: ArgumentHelp("Time to acknowledge a delivery (default 30000).", valueName: "ms"))
    var ackTimeoutMillis: UInt32?

    @Option(help: ArgumentHelp("Wait before the second try; it doubles with each (default 500).", valueName: "ms"))
    var backoffMinMillis: UInt32?

    @Option(help: ArgumentHelp("The longest wait before a try (default 60000).", valueName: "ms"))
    var backoffMaxMillis: UInt32?

    /// That definition, with what is given.
    func applied(to definition: ConsumerDefinition) throws -> ConsumerDefinition {
        var definition = definition
        let filter = EventFilter(
            aggregateTypes: Set(try type.map { try aggregateType($0) }),
            eventTypes: Set(try eventType.map { try martlet.eventType($0) }),
            aggregateIDs: Set(try id.map { try uuid($0, "--id") }))
        guard !all || filter == .all else { throw UsageError("give --all or a filter, not both") }
        if all || filter != .all { definition.filter = filter }
        if let orderBy { definition.keyRule = try keyRule(orderBy) }
        if let slots { definition.slotCount = slots }
        if let raw { definition.isRaw = raw }
        apply(to: &definition.delivery)
        do throws(MartletError) { try definition.validate() } catch { throw UsageError(error.message) }
        return definition
    }

    private func apply(to delivery: inout SlotSettings) {
        if let windowEventsMax { delivery.windowEventsMax = windowEventsMax }
        if let inFlightMax { delivery.inFlightMax = inFlightMax }
        if let blockedKeysMax { delivery.blockedKeysMax = blockedKeysMax }
        if let retriedKeysMax { delivery.retriedKeysMax = retriedKeysMax }
        if let triesMax { delivery.triesMax = triesMax }
        if let ackTimeoutMillis { delivery.acknowledgementTimeout = .milliseconds(Int64(ackTimeoutMillis)) }
        if let backoffMinMillis { delivery.backoffMin = .milliseconds(Int64(backoffMinMillis)) }
        if let backoffMaxMillis { delivery.backoffMax = .milliseconds(Int64(backoffMaxMillis)) }
    }

    private func keyRule(_ text: String) throws -> KeyRule {
        switch text {
        case "aggregate": return .aggregate
        case "aggregate-type": return .aggregateType
        default:
            guard text.hasPrefix("tag:"), text.utf8.count > 4 else {
                throw UsageError("--order-by '\(text)' is not one of aggregate, aggregate-type and tag:NAME")
            }
            return .tag(String(text.dropFirst(4)))
        }
    }
}

/// Where a consumer begins.
func subscriptionStart(_ text: String, _ option: String) throws -> SubscriptionStart {
    switch text {
    case "start": return .after(.start)
    case "head": return .head
    default:
        if let position = UInt64(text) { return .after(Position(position)) }
        guard let time = TimeText.parse(text, now: .now()) else {
            throw UsageError("\(option) '\(text)' is not start, head, a position, or \(TimeText.forms)")
        }
        return .time(time)
    }
}

/// Blocked keys as a user names them.
struct KeysOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Only keys of this slot.", valueName: "number"))
    var slot: Int?

    @Argument(help: ArgumentHelp("Keys as blocked prints them.", valueName: "key"))
    var keys: [String] = []

    /// The blocked keys that are named.
    /// - Throws: ``CommandRefusal`` for a key that is not blocked.
    func find(_ consumer: ConsumerID, _ client: MartletClient) async throws -> [ListedKey] {
        var found: [ListedKey] = []
        var missing = Set(keys)
        var after: KeyPlace?
        while !missing.isEmpty || keys.isEmpty {
            let page = try await client.blockedKeys(ListBlockedKeysRequest(consumer, after: after))
            for listed in page where slot == nil || slot == listed.place.slot {
                let text = ConsumerLine.text(of: listed.place.key)
                guard keys.isEmpty || keys.contains(text) else { continue }
                missing.remove(text)
                found.append(listed)
            }
            guard page.count >= ListBlockedKeysRequest.countMax, let last = page.last else { break }
            after = last.place
        }
        guard let first = missing.sorted().first else { return found }
        throw CommandRefusal("the key '\(first)' is not blocked: see martlet consumers blocked \(consumer.name)")
    }

    /// Has keys tried again, as many with each call as one takes.
    /// - Returns: how many are.
    static func unblock(
        _ keys: [UnblockKeysRequest.Key], _ consumer: ConsumerID, _ client: MartletClient
    ) async throws -> Int {
        var count = 0
        var rest = keys[...]
        while !rest.isEmpty {
            let request = UnblockKeysRequest(consumer, keys: Array(rest.prefix(UnblockKeysRequest.keysMax)))
            count += try await client.unblockKeys(request)
            rest = rest.dropFirst(UnblockKeysRequest.keysMax)
        }
        return count
    }
}
