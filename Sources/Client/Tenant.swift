public import FoundationEssentials
public import MartletModel

/// One tenant's events, through a client: typed appends, loads, reads and subscriptions. ``MartletClient/tenant(_:)`` makes
/// one. A value; any number of tasks may use it.
///
/// What it has no method for, such as consumers, schedules and settings, the client has, under the tenant's ``id``.
public struct Tenant: Sendable {
    /// The client that it calls through.
    public let client: MartletClient
    /// The tenant.
    public let id: TenantID

    /// That tenant.
    public init(_ client: MartletClient, id: TenantID) {
        self.client = client
        self.id = id
    }

    /// The aggregate of that type and key. Its id follows from the key, in all clients alike
    /// (``AggregateName/init(type:key:tenant:)``).
    ///
    /// Every event that is appended to it carries the key in its metadata, in the tag `aggregate_key`.
    /// - Parameter key: 1 to 512 bytes of UTF-8 without control characters.
    /// - Throws: `INVALID_FIELD` that says what is wrong with the key.
    public func aggregate(_ type: AggregateType, key: String) throws(MartletError) -> AggregateReference {
        AggregateReference(tenant: id, name: try AggregateName(type: type, key: key, tenant: id), key: key)
    }

    /// The aggregate of that type and id.
    public func aggregate(_ type: AggregateType, id: UUID) -> AggregateReference {
        AggregateReference(tenant: self.id, name: AggregateName(type: type, id: id))
    }

    /// Appends events to an aggregate: all or none.
    ///
    /// What it returns is durable. It tries again, with the same event ids, if that is safe and may help.
    /// - Parameters:
    ///   - expected: what the aggregate's version must be.
    ///   - metadata: of each event.
    /// - Throws: ``MartletError``: `VERSION_CONFLICT` and the like; `OUTCOME_UNKNOWN`, `DEADLINE_EXCEEDED` and
    ///   `CANCELLED` leave open whether the events are stored. ``EventUnencodable``.
    nonisolated(nonsending) public func append(
        _ events: [any EventPayload], to aggregate: AggregateReference, expecting expected: ExpectedVersion,
        metadata: EventMetadata = .empty
    ) async throws -> AppendReceipt {
        _ = try aggregate.name(for: id)
        return try await append([NewAggregateEvents(events, to: aggregate, expecting: expected, metadata: metadata)])
    }

    /// Appends events that have ids of the program's own to an aggregate, so that the program may append them again: what is
    /// stored already is answered as before.
    /// - Throws: as ``append(_:to:expecting:metadata:)``; `EVENT_ID_REUSED`.
    nonisolated(nonsending) public func append(
        _ events: [NewEvent], to aggregate: AggregateReference, expecting expected: ExpectedVersion
    ) async throws(MartletError) -> AppendReceipt {
        _ = try aggregate.name(for: id)
        return try await append([NewAggregateEvents(events, to: aggregate, expecting: expected)])
    }

    /// Appends events to one or more aggregates, each named once: all or none.
    /// - Parameters:
    ///   - includeConflictingEvents: on a conflict, answer the events that came in between
    ///     (``MartletError/decodedConflictEvents()``).
    ///   - checkpoint: the event of a consumer that the append reacts to, settled with it or not at all.
    ///   - schedules: set or cancelled with it or not at all.
    ///   - timeout: in all; nil means ``ClientConfiguration/requestTimeout``.
    /// - Throws: as ``MartletClient/append(_:tenant:includeConflictingEvents:checkpoint:schedules:timeout:)``.
    nonisolated(nonsending) public func append(
        _ parts: [NewAggregateEvents], includeConflictingEvents: Bool = false, checkpoint: AppendCheckpoint? = nil,
        schedules: [NewScheduleChange] = [], timeout: Duration? = nil
    ) async throws(MartletError) -> AppendReceipt {
        try await client.append(
            parts, tenant: id, includeConflictingEvents: includeConflictingEvents, checkpoint: checkpoint,
            schedules: schedules, timeout: timeout)
    }

    /// Reads the events of an aggregate in version order. An aggregate without events answers version 0 and no events.
    /// - Parameters:
    ///   - after: only events after this version.
    ///   - target: as of a version, a position or a time.
    ///   - eventsMax: at most this many; nil means all.
    ///   - snapshot: answer the newest snapshot that the program can use, in ``EventStream/view``, and the events after it.
    public func load(
        _ aggregate: AggregateReference, after: MartletModel.Version = .none, asOf target: LoadTarget = .now,
        direction: Direction = .forward, eventsMax: UInt64? = nil, snapshot: SnapshotUse? = nil,
        upcasting: UpcastingOptions = .latest
    ) async throws(MartletError) -> EventStream<LoadView> {
        try await client.load(
            LoadRequest(
                tenant: id, aggregate: aggregate.name(for: id), after: after, target: target, direction: direction,
                eventsMax: eventsMax, snapshot: snapshot, upcasting: upcasting))
    }

    /// Reads the tenant's events by position, and ends at the head.
    /// - Parameters:
    ///   - after: only events after this position, in both directions.
    ///   - target: up to the head, a position or a time.
    ///   - filter: which events.
    ///   - eventsMax: at most this many; nil means all.
    public func read(
        after: Position = .start, upTo target: ReadTarget = .head, direction: Direction = .forward,
        where filter: EventFilter = .all, eventsMax: UInt64? = nil, upcasting: UpcastingOptions = .latest
    ) async throws(MartletError) -> EventStream<ReadView> {
        try await client.read(
            ReadRequest(
                tenant: id, after: after, target: target, direction: direction, filter: filter, eventsMax: eventsMax,
                upcasting: upcasting))
    }

    /// The end of the tenant's events.
    public func head() async throws(MartletError) -> TenantHead { try await client.head(of: id) }
}

extension MartletClient {
    /// That tenant's events.
    public func tenant(_ id: TenantID) -> Tenant { Tenant(self, id: id) }

    /// The events of the tenant that ``ClientConfiguration/tenant`` names.
    /// - Throws: ``SettingError`` if it names none.
    public func tenant() throws(SettingError) -> Tenant {
        guard let id = configuration.tenant else {
            throw SettingError("no tenant: pass one when you connect, or set MARTLET_TENANT to its UUID")
        }
        return Tenant(self, id: id)
    }
}

extension NewAggregateEvents {
    /// Events for that aggregate; with its key in their metadata, if it is named by one.
    /// - Parameter metadata: of each event.
    /// - Throws: ``EventUnencodable``.
    public init(
        _ events: [any EventPayload], to aggregate: AggregateReference, expecting expected: ExpectedVersion,
        metadata: EventMetadata = .empty
    ) throws(EventUnencodable) {
        var encoded: [NewEvent] = []
        for event in events { encoded.append(try NewEvent(event, metadata: metadata)) }
        self.init(encoded, to: aggregate, expecting: expected)
    }

    /// Events for that aggregate; with its key in their metadata, if it is named by one.
    public init(_ events: [NewEvent], to aggregate: AggregateReference, expecting expected: ExpectedVersion) {
        var events = events
        if let key = aggregate.key {
            for index in events.indices { events[index].metadata.tags[AggregateName.keyTag] = key.text }
        }
        self.init(aggregate: aggregate.name, expected: expected, events: events)
    }
}
