public import MartletModel
import MartletRecordCodec
import MartletSession

/// New events of one aggregate, within an append.
public struct NewAggregateEvents: Hashable, Sendable {
    /// The aggregate.
    public var aggregate: AggregateName
    /// What its version must be.
    public var expected: ExpectedVersion
    /// The events, in order; 1 or more.
    public var events: [NewEvent]
    /// A snapshot of the aggregate's state after these events, saved with them or not at all.
    public var snapshot: NewSnapshot?

    /// Events for that aggregate.
    public init(
        aggregate: AggregateName, expected: ExpectedVersion, events: [NewEvent], snapshot: NewSnapshot? = nil
    ) {
        self.snapshot = snapshot
        self.aggregate = aggregate
        self.expected = expected
        self.events = events
    }
}

extension MartletClient {
    /// Appends events to one aggregate: all or none.
    ///
    /// What it returns is durable. It tries again, with the same event ids, if that is safe and may help.
    /// - Throws: `VERSION_CONFLICT`, `EVENT_ID_REUSED` and the like; `OUTCOME_UNKNOWN`, `DEADLINE_EXCEEDED` and
    ///   `CANCELLED` leave open whether the events are stored, and the same events may be appended again.
    nonisolated(nonsending) public func append(
        _ events: [NewEvent], to aggregate: AggregateName, expecting expected: ExpectedVersion, tenant: TenantID
    ) async throws(MartletError) -> AppendReceipt {
        try await append(
            [NewAggregateEvents(aggregate: aggregate, expected: expected, events: events)], tenant: tenant)
    }

    /// Appends events to one or more aggregates, each named once: all or none.
    /// - Parameters:
    ///   - includeConflictingEvents: on a conflict, answer the events that came in between
    ///     (``MartletError/decodedConflictEvents()``).
    ///   - checkpoint: the event of a consumer that the append reacts to (``ConsumedEvent/checkpoint(of:)``): it is settled
    ///     with the append or not at all. That the event is not tried again as if it had failed, it is acknowledged too.
    ///   - schedules: schedules that are set or cancelled with the append or not at all, each another one, at most
    ///     ``ScheduleChange/countMax``.
    ///   - timeout: in all; nil means ``ClientConfiguration/requestTimeout``.
    /// - Throws: as ``append(_:to:expecting:tenant:)``; with a checkpoint, `FENCED` where the worker does not have the slot
    ///   any more, `EVENT_SETTLED` where the event is settled already, `EVENT_TAKEN_BACK` where it comes again; with
    ///   schedules, `TOO_MANY_SCHEDULES`.
    nonisolated(nonsending) public func append(
        _ parts: [NewAggregateEvents], tenant: TenantID, includeConflictingEvents: Bool = false,
        checkpoint: AppendCheckpoint? = nil, schedules: [NewScheduleChange] = [], timeout: Duration? = nil
    ) async throws(MartletError) -> AppendReceipt {
        try await append(
            AppendRequest(
                parts, tenant: tenant, includeConflictingEvents: includeConflictingEvents, checkpoint: checkpoint,
                schedules: schedules),
            timeout: timeout)
    }

    /// Appends what is encoded already.
    /// - Parameter timeout: in all; nil means ``ClientConfiguration/requestTimeout``.
    /// - Throws: as ``append(_:to:expecting:tenant:)``.
    nonisolated(nonsending) public func append(
        _ request: AppendRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> AppendReceipt {
        guard case .append(let receipt) = try await answer(.append(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return receipt
    }
}

extension AppendRequest {
    /// Encodes events for an append.
    /// - Throws: what is wrong with the first event that cannot be encoded.
    public init(
        _ parts: [NewAggregateEvents], tenant: TenantID, includeConflictingEvents: Bool = false,
        checkpoint: AppendCheckpoint? = nil, schedules: [NewScheduleChange] = []
    ) throws(MartletError) {
        var encoder = EventEncoder.forServer
        var aggregates: [AggregateAppend] = []
        aggregates.reserveCapacity(parts.count)
        for partIndex in parts.indices {
            // An event has many texts: it is encoded where it is, for a copy would count a reference to each.
            try unsafe parts[partIndex].events.withUnsafeBufferPointer { events throws(MartletError) in
                for index in events.indices {
                    try unsafe encoder.add(events[index], name: "aggregates[\(partIndex)].events[\(index)]")
                }
            }
            let part = parts[partIndex]
            aggregates.append(
                AggregateAppend(
                    aggregate: part.aggregate, expected: part.expected, events: encoder.finish(),
                    snapshot: part.snapshot))
        }
        self.init(
            tenant: tenant, aggregates: aggregates, includeConflictingEvents: includeConflictingEvents,
            checkpoint: checkpoint,
            schedules: schedules.isEmpty ? [] : try ScheduleChange.encoded(schedules, name: "schedules"))
    }
}

extension EventEncoder {
    /// Sizes are the server's to judge: its limits are its own.
    static var forServer: EventEncoder {
        var limits = Limits()
        limits.payloadBytesMax = .max
        limits.metadataBytesMax = .max
        return EventEncoder(limits: limits)
    }
}

extension MartletError {
    /// With `VERSION_CONFLICT`, the events that came in between, by aggregate, oldest first; where
    /// ``VersionConflict/eventsTruncated`` is set there are more.
    /// - Throws: `BAD_FRAME` if the server sent something that is not an event.
    public func decodedConflictEvents() throws(MartletError) -> [AggregateName: [RecordedEvent]] {
        var events: [AggregateName: [RecordedEvent]] = [:]
        for conflict in conflicts { events[conflict.aggregate] = try EventBatch(conflict.events).decoded() }
        return events
    }
}
