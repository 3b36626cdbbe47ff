public import FoundationEssentials
public import NIOCore

/// Appends events to one or more aggregates of a tenant: all of it commits or none.
public struct AppendRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// What goes where; each aggregate at most once, 1 or more events each.
    public var aggregates: [AggregateAppend]
    /// On a conflict, answer the events that came in between.
    public var includeConflictingEvents: Bool
    // Four bytes: they cost nothing beside the flag, and appends are passed on many times.
    private var heldBytesNumber: UInt32 = 0
    /// Whether what is not stored yet may be stored.
    public var admission = Admission.admitted
    // Boxed: appends are passed on many times, and few carry any of it.
    private struct Extras: Hashable {
        var checkpoint: AppendCheckpoint?
        var schedules: [ScheduleChange] = []
        var schedulesMax = Int.max
        var firing: ScheduleFiring?
    }
    private indirect enum Boxed: Hashable { case extras(Extras) }
    private var boxed: Boxed?
    private var extras: Extras {
        get { if case .extras(let extras)? = boxed { extras } else { Extras() } }
        set { boxed = newValue == Extras() ? nil : .extras(newValue) }
    }
    /// The event of a consumer that the append reacts to, settled with it or not at all.
    public var checkpoint: AppendCheckpoint? {
        get { extras.checkpoint }
        set { extras.checkpoint = newValue }
    }
    /// Schedules that are set or cancelled with it or not at all, each another one, at most ``ScheduleChange/countMax``.
    public var schedules: [ScheduleChange] {
        get { extras.schedules }
        set { extras.schedules = newValue }
    }
    /// So many schedules the tenant may have. It does not travel: the server fills it in.
    public var schedulesMax: Int {
        get { extras.schedulesMax }
        set { if hasExtras { extras.schedulesMax = newValue } }
    }
    /// The schedule whose time has come: its event is the only one of the append. It does not travel.
    public var firing: ScheduleFiring? {
        get { extras.firing }
        set { extras.firing = newValue }
    }
    /// Whether it carries more than events and snapshots.
    public var hasExtras: Bool { boxed != nil }

    /// An append of those parts.
    public init(
        tenant: TenantID, aggregates: [AggregateAppend], includeConflictingEvents: Bool = false,
        checkpoint: AppendCheckpoint? = nil, schedules: [ScheduleChange] = []
    ) {
        self.tenant = tenant
        self.aggregates = aggregates
        self.includeConflictingEvents = includeConflictingEvents
        if checkpoint != nil || !schedules.isEmpty { extras = Extras(checkpoint: checkpoint, schedules: schedules) }
    }

    /// How many events it carries.
    public var eventCount: Int { aggregates.reduce(0) { $0 + $1.events.count } }

    /// Memory that it keeps: the whole buffers that its events' bodies are slices of, each once, and its snapshots'. At most
    /// 4 GiB; 0 where nobody has said.
    public var heldBytes: Int {
        get { Int(heldBytesNumber) }
        set { heldBytesNumber = UInt32(clamping: newValue) }
    }

    /// Two appends are the same where they ask for the same: ``heldBytes`` is no part of that.
    public static func == (a: AppendRequest, b: AppendRequest) -> Bool {
        a.tenant == b.tenant && a.aggregates == b.aggregates
            && a.includeConflictingEvents == b.includeConflictingEvents && a.admission == b.admission
            && a.boxed == b.boxed
    }

    /// Hashes what is compared.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(tenant)
        hasher.combine(aggregates)
        hasher.combine(includeConflictingEvents)
        hasher.combine(admission)
        hasher.combine(boxed)
    }

    /// Bytes of its events' canonical encodings, of its snapshots and of its schedules.
    public var contentBytes: Int {
        let bytes = aggregates.reduce(0) {
            $0 + $1.events.reduce($1.snapshot?.payload.readableBytes ?? 0) { $0 + $1.body.readableBytes }
        }
        return hasExtras ? schedules.reduce(bytes) { $0 + $1.contentBytes } : bytes
    }
}

/// Whether an append may be stored. A rule that came after the first events does not bind those that are stored: a
/// retry of them is answered before this is looked at.
public enum Admission: Hashable, Sendable {
    /// It may.
    case admitted
    /// A rule keeps it out, for that reason.
    indirect case refused(MartletError)
}

/// What is appended to one aggregate.
public struct AggregateAppend: Hashable, Sendable {
    /// The aggregate.
    public var aggregate: AggregateName
    /// What its version must be.
    public var expected: ExpectedVersion
    /// The events, in order.
    public var events: [EncodedEvent]
    // Boxed: appends are passed on many times, and few carry a snapshot.
    private indirect enum Boxed: Hashable { case snapshot(NewSnapshot) }
    private var boxed: Boxed?
    /// A snapshot of the state after these events, saved with them or not at all.
    public var snapshot: NewSnapshot? {
        get { if case .snapshot(let snapshot)? = boxed { snapshot } else { nil } }
        set { boxed = newValue.map { .snapshot($0) } }
    }
    /// The tenant's policy for this type of aggregate. It does not travel: the server fills it in.
    public var snapshotPolicy = SnapshotPolicy.never

    /// An append of those events.
    public init(
        aggregate: AggregateName, expected: ExpectedVersion, events: [EncodedEvent], snapshot: NewSnapshot? = nil
    ) {
        self.aggregate = aggregate
        self.expected = expected
        self.events = events
        self.snapshot = snapshot
    }
}

/// The answer to an accepted append.
public struct AppendReceipt: Hashable, Sendable {
    /// The aggregates in the order of the call.
    public var aggregates: [AppendedAggregate]
    /// Position of the call's first event; its events have consecutive positions.
    public var firstPosition: Position
    /// Position of the call's last event.
    public var lastPosition: Position
    /// Commit time.
    public var recordedAt: Timestamp
    /// The call was stored before: this is the original answer, and nothing was written now.
    public var replayed: Bool
    /// The call's checkpoint is stored with it; false without one, and in a replay where it was stored before, or its epoch
    /// is over.
    public var checkpointStored: Bool

    /// A receipt of those parts.
    public init(
        aggregates: [AppendedAggregate], firstPosition: Position, lastPosition: Position, recordedAt: Timestamp,
        replayed: Bool, checkpointStored: Bool = false
    ) {
        self.checkpointStored = checkpointStored
        self.aggregates = aggregates
        self.firstPosition = firstPosition
        self.lastPosition = lastPosition
        self.recordedAt = recordedAt
        self.replayed = replayed
    }
}

/// Where the events of one aggregate went.
public struct AppendedAggregate: Hashable, Sendable {
    /// The aggregate.
    public var aggregate: AggregateName
    /// Version of its first event in the call.
    public var firstVersion: Version
    /// Version of its last event in the call.
    public var lastVersion: Version
    /// By the tenant's snapshot policy it is time to save a snapshot of the aggregate.
    public var snapshotDue: Bool

    /// An answer of those parts.
    public init(aggregate: AggregateName, firstVersion: Version, lastVersion: Version, snapshotDue: Bool = false) {
        self.aggregate = aggregate
        self.firstVersion = firstVersion
        self.lastVersion = lastVersion
        self.snapshotDue = snapshotDue
    }
}

/// An expected version that did not hold.
public struct VersionConflict: Hashable, Sendable {
    /// The aggregate.
    public var aggregate: AggregateName
    /// What the call expected.
    public var expected: ExpectedVersion
    /// The version that the aggregate has.
    public var actual: Version
    /// On request, the events after the expected version, oldest first, as entries (``EventPage/entries``).
    public var events: ByteBuffer
    /// There are more of these events than were sent.
    public var eventsTruncated: Bool

    /// A conflict of those parts.
    public init(
        aggregate: AggregateName, expected: ExpectedVersion, actual: Version, events: ByteBuffer = ByteBuffer(),
        eventsTruncated: Bool = false
    ) {
        self.aggregate = aggregate
        self.expected = expected
        self.actual = actual
        self.events = events
        self.eventsTruncated = eventsTruncated
    }
}

/// An event id of a call that is stored already, with other content or in another place.
public struct ReusedEventID: Hashable, Sendable {
    /// The id.
    public var id: UUID
    /// The aggregate that it is stored in.
    public var aggregate: AggregateName
    /// The version that it has there.
    public var version: Version
    /// The position that it has.
    public var position: Position

    /// A reused id of those parts.
    public init(id: UUID, aggregate: AggregateName, version: Version, position: Position) {
        self.id = id
        self.aggregate = aggregate
        self.version = version
        self.position = position
    }
}

/// In which order events come.
public enum Direction: Hashable, Sendable {
    /// Oldest first.
    case forward
    /// Newest first.
    case backward
}

/// The point of an aggregate's history that a load answers.
public enum LoadTarget: Hashable, Sendable {
    /// All there is.
    case now
    /// Up to and with this version.
    case version(Version)
    /// As of this position of the tenant, at most the head.
    case position(Position)
    /// As of this moment, not after now.
    case time(Timestamp)
}

/// Reads the events of one aggregate in version order.
public struct LoadRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The aggregate.
    public var aggregate: AggregateName
    /// Only events after this version.
    public var after: Version
    /// The state as of then.
    public var target: LoadTarget
    /// Oldest or newest first.
    public var direction: Direction
    /// At most this many events; nil means all.
    public var eventsMax: UInt64?
    /// Answer the newest usable snapshot above ``after`` and not after the target, and the events after it; forward
    /// only.
    public var snapshot: SnapshotUse?
    /// In which schema events and snapshot are delivered.
    public var upcasting: UpcastingOptions

    /// A load of those parts.
    public init(
        tenant: TenantID, aggregate: AggregateName, after: Version = .none, target: LoadTarget = .now,
        direction: Direction = .forward, eventsMax: UInt64? = nil, snapshot: SnapshotUse? = nil,
        upcasting: UpcastingOptions = .latest
    ) {
        self.snapshot = snapshot
        self.upcasting = upcasting
        self.tenant = tenant
        self.aggregate = aggregate
        self.after = after
        self.target = target
        self.direction = direction
        self.eventsMax = eventsMax
    }
}

/// The consistent view that a load reads from.
public struct LoadView: Hashable, Sendable {
    /// The aggregate's version as of the target; 0 without events.
    public var version: Version
    /// The position the view stands for: a load as of this position answers the same forever.
    public var position: Position
    /// The snapshot that the events follow; nil if the load asked for none, or none can be used.
    public var snapshot: Snapshot?
    /// Snapshots that could not be used: in a schema that the caller cannot read, damaged, or not upcast.
    public var snapshotsSkipped: Int

    /// A view of those parts.
    public init(version: Version, position: Position, snapshot: Snapshot? = nil, snapshotsSkipped: Int = 0) {
        self.version = version
        self.position = position
        self.snapshot = snapshot
        self.snapshotsSkipped = snapshotsSkipped
    }
}

/// The upper end of a read by position.
public enum ReadTarget: Hashable, Sendable {
    /// The head.
    case head
    /// Up to and with this position; beyond the head is the head.
    case position(Position)
    /// As of this moment, not after now.
    case time(Timestamp)
}

/// Reads a tenant's events by position.
public struct ReadRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// Only events after this position, in both directions.
    public var after: Position
    /// The upper end.
    public var target: ReadTarget
    /// Oldest or newest first.
    public var direction: Direction
    /// Which events.
    public var filter: EventFilter
    /// At most this many events; nil means all.
    public var eventsMax: UInt64?
    /// In which schema events are delivered.
    public var upcasting: UpcastingOptions

    /// A read of those parts.
    public init(
        tenant: TenantID, after: Position = .start, target: ReadTarget = .head, direction: Direction = .forward,
        filter: EventFilter = .all, eventsMax: UInt64? = nil, upcasting: UpcastingOptions = .latest
    ) {
        self.upcasting = upcasting
        self.tenant = tenant
        self.after = after
        self.target = target
        self.direction = direction
        self.filter = filter
        self.eventsMax = eventsMax
    }
}

/// The consistent view that a read reads from.
public struct ReadView: Hashable, Sendable {
    /// Events up to and with this position are read.
    public var to: Position
    /// The tenant's head when the read began.
    public var head: TenantHead

    /// A view of those parts.
    public init(to: Position, head: TenantHead) {
        self.to = to
        self.head = head
    }
}

/// Where a subscription starts.
public enum SubscriptionStart: Hashable, Sendable {
    /// After this position, at most the head; 0 is the beginning.
    case after(Position)
    /// From the first event recorded at or after this moment.
    case time(Timestamp)
    /// Only events that come after the head of now.
    case head
}

/// Follows a tenant's events.
public struct SubscribeRequest: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// Where to start.
    public var start: SubscriptionStart
    /// The last event that the subscriber saw: if the storage holds another one there, or none, the call ends with
    /// `HISTORY_CHANGED`. With ``SubscriptionStart/after(_:)`` only, at that position or before it.
    public var lastSeen: EventMark?
    /// Which events.
    public var filter: EventFilter
    /// How long without any other message until a heartbeat comes; nil means the server's default.
    public var heartbeatMillis: UInt32?
    /// In which schema events are delivered.
    public var upcasting: UpcastingOptions

    /// A subscription of those parts.
    public init(
        tenant: TenantID, start: SubscriptionStart = .after(.start), lastSeen: EventMark? = nil,
        filter: EventFilter = .all, heartbeatMillis: UInt32? = nil, upcasting: UpcastingOptions = .latest
    ) {
        self.lastSeen = lastSeen
        self.upcasting = upcasting
        self.tenant = tenant
        self.start = start
        self.filter = filter
        self.heartbeatMillis = heartbeatMillis
    }
}

/// One message of a subscription.
public struct SubscriptionMessage: Hashable, Sendable {
    /// What a message says beside the events that it carries.
    public enum Signal: Hashable, Sendable {
        /// The first message: events after this position will come.
        case started(after: Position)
        /// Everything up to this position was delivered or did not match; from here on events come live.
        case caughtUp(Position)
        /// Live mode ended at this position: events come from storage until the next ``caughtUp(_:)``.
        case fellBehind(Position)
        /// Nothing matched up to this position.
        case checkpoint(Position)
        /// Nothing else was sent for a while. `waitingForCreditBytes` is above 0 when the next event needs
        /// this many bytes of credit and fewer are left.
        case heartbeat(Position, waitingForCreditBytes: UInt64)
        /// The tenant's upcasters changed: events after this position are delivered under the settings of that
        /// revision.
        case upcastersChanged(Position, revision: UInt64)
    }

    /// Events, as entries (``EventPage/entries``); empty for none.
    public var entries: ByteBuffer
    /// How many events.
    public var count: Int
    /// The tenant's head as the server knows it when it sends this.
    public var head: TenantHead
    /// What else it says.
    public var signal: Signal?

    /// A message of those parts.
    public init(entries: ByteBuffer = ByteBuffer(), count: Int = 0, head: TenantHead, signal: Signal? = nil) {
        self.entries = entries
        self.count = count
        self.head = head
        self.signal = signal
    }
}

/// The server's status.
public struct ServerStatus: Hashable, Sendable {
    /// Version of the server program.
    public var serverVersion = ""
    /// The storage engine: `sqlite`, `postgresql`.
    public var storageEngine = ""
    /// Whether storage answered when it was asked for this call.
    public var storageReady = false
    /// What is wrong with storage; empty when it is ready.
    public var storageMessage = ""
    /// Version of the storage schema.
    public var schemaVersion: UInt32 = 0
    /// How long the server has been up, in microseconds.
    public var uptimeMicros: UInt64 = 0
    /// The server's clock.
    public var serverTime = Timestamp(microseconds: 0)
    /// Open connections.
    public var connections: UInt64 = 0
    /// Open subscriptions.
    public var subscriptions: UInt64 = 0
    /// Bytes of appends that wait for their commit.
    public var waitingAppendBytes: UInt64 = 0
    /// Events appended since the start.
    public var eventsAppended: UInt64 = 0
    /// Events delivered to loads, reads and subscriptions since the start.
    public var eventsDelivered: UInt64 = 0
    /// The server takes no new calls.
    public var isDraining = false
    /// Snapshots that loads could not use, since the start.
    public var snapshotsSkipped: UInt64 = 0
    /// Events that an upcaster failed on, since the start.
    public var upcastFailures: UInt64 = 0
    /// CPU time that the server's process has used, user and system, in microseconds.
    public var processCPUMicros: UInt64 = 0
    /// Memory of the server's process that is in RAM; 0 if the system does not tell.
    public var residentBytes: UInt64 = 0
    /// The most that ``residentBytes`` has been since the process started; 0 if the system does not tell.
    public var residentPeakBytes: UInt64 = 0

    /// A status to fill in.
    public init() {}
}
