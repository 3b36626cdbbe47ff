public import FoundationEssentials
public import MartletModel
public import NIOCore

/// An aggregate of a tenant.
public struct AggregateKey: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The aggregate.
    public var name: AggregateName

    /// A key of those parts.
    public init(tenant: TenantID, name: AggregateName) {
        self.tenant = tenant
        self.name = name
    }
}

/// An event id of a tenant.
public struct EventKey: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The event's id.
    public var id: UUID

    /// A key of those parts.
    public init(tenant: TenantID, id: UUID) {
        self.tenant = tenant
        self.id = id
    }
}

/// What must be known to decide a batch.
public struct BatchQuestions: Sendable {
    /// Heads of these tenants.
    public var tenants: Set<TenantID> = []
    /// Those of them that get events, settings or other consumers: an engine with several writers locks their rows, in the
    /// tenants' order. Of the others nothing changes but snapshots, and how far consumers have come.
    public var movingTenants: Set<TenantID> = []
    /// Those of ``tenants`` that may come into being without events: an engine with several writers makes their rows, and
    /// locks none that is there.
    public var madeTenants: Set<TenantID> = []
    /// Versions of these aggregates.
    public var aggregates: Set<AggregateKey> = []
    /// Which of these events are stored.
    public var events: Set<EventKey> = []
    /// Which snapshots these aggregates have; most often none are asked for. An engine with several writers locks them, after
    /// the tenants.
    public var snapshots: Set<AggregateKey> = []
    /// What there is of consumers; most often nothing is asked for. An engine with several writers locks it last.
    public var consumers = ConsumerQuestions()
    /// What there is of schedules; most often nothing is asked for.
    public var schedules = ScheduleQuestions()

    /// No questions yet.
    public init() {}
}

/// An event that is stored already.
public struct StoredEvent: Hashable, Sendable {
    /// Its aggregate.
    public var aggregate: AggregateName
    /// Its version there.
    public var version: Version
    /// Its position.
    public var position: Position
    /// When it was committed.
    public var recordedAt: Timestamp
    /// Its encoded RecordedEvent.
    public var record: ByteBuffer

    /// A stored event of those parts.
    public init(
        aggregate: AggregateName, version: Version, position: Position, recordedAt: Timestamp, record: ByteBuffer
    ) {
        self.aggregate = aggregate
        self.version = version
        self.position = position
        self.recordedAt = recordedAt
        self.record = record
    }
}

/// What an engine looked up for a batch. What is missing is not there: no events, version 0, id not stored.
public struct BatchFacts: Sendable {
    /// Heads of those of the batch's tenants that the storage has; ``TenantHead/empty`` where they have no events.
    public var heads: [TenantID: TenantHead] = [:]
    /// Versions of the batch's aggregates.
    public var versions: [AggregateKey: Version] = [:]
    /// How large the batch's aggregates are.
    public var sizes: [AggregateKey: AggregateSize] = [:]
    /// Those of the batch's event ids that are stored.
    public var stored: [EventKey: StoredEvent] = [:]
    /// Snapshots of those aggregates that were asked for.
    public var snapshots: [AggregateKey: [SnapshotKey]] = [:]
    /// What was asked for of consumers.
    public var consumers: ConsumerFacts {
        get { if case .facts(let facts, _)? = beside { facts } else { ConsumerFacts() } }
        set { beside = .facts(newValue, schedules) }
    }
    /// Revisions of the settings of the batch's tenants.
    public var settingsRevisions: [TenantID: UInt64] = [:]
    /// The highest revision that the storage can keep.
    public var settingsRevisionMax = UInt64(Int64.max)
    /// The highest position that the storage can keep.
    public var positionMax = Position.max
    /// How many tenants the storage can keep, and how many more than those of ``heads``.
    public var newTenants: (max: UInt64, left: UInt64) = (.max, .max)

    /// What was asked for of schedules.
    public var schedules: ScheduleFacts {
        get { if case .facts(_, let facts)? = beside { facts } else { ScheduleFacts() } }
        set { beside = .facts(consumers, newValue) }
    }

    /// Boxed: most batches have nothing to do with either.
    private indirect enum Beside {
        case facts(ConsumerFacts, ScheduleFacts)
    }

    private var beside: Beside?

    /// No facts yet.
    public init() {}
}

/// What an aggregate has grown by since its last snapshot can be told from this.
public struct AggregateSize: Hashable, Sendable {
    /// Bytes of all its records.
    public var bytes: UInt64
    /// Version of its newest snapshot; 0 without one.
    public var snapshotVersion: Version
    /// ``bytes`` as of when that was saved.
    public var snapshotBytes: UInt64

    /// A snapshot was saved, or was not worth keeping: only one that is newer than all others puts the next one off.
    public mutating func note(_ plan: SnapshotDecision.Plan) {
        snapshotVersion = plan.newestVersion
        if plan.isNewest { snapshotBytes = bytes }
    }

    /// A size of those parts.
    public init(bytes: UInt64 = 0, snapshotVersion: Version = .none, snapshotBytes: UInt64 = 0) {
        self.bytes = bytes
        self.snapshotVersion = snapshotVersion
        self.snapshotBytes = snapshotBytes
    }
}

/// What is to be answered and stored.
public struct BatchPlan: Sendable {
    /// One outcome a command, in the order of the batch.
    public var outcomes: [WriteOutcome]
    /// What is to be stored, one plan a tenant that has something, in the tenants' order.
    public var tenants: [TenantPlan]
}

/// What is to be stored for one tenant.
public struct TenantPlan: Sendable {
    /// How an aggregate moves.
    public struct Move: Sendable {
        /// Its version before; 0 for a new aggregate.
        public var from: Version
        /// Its version after.
        public var to: Version
        /// Its size after.
        public var size: AggregateSize
        /// What ``size`` says of snapshots is to be stored.
        public var hasSnapshots = false
    }

    /// What becomes of an aggregate's snapshots; an engine carries these out in their order.
    public struct SnapshotChange: Sendable {
        /// The aggregate.
        public var aggregate: AggregateName
        /// Written, in the place of one of the same version.
        public var put: StoredSnapshot?
        /// Deleted.
        public var dropped: [Version]
    }

    /// What becomes of the settings.
    public struct SettingsChange: Sendable {
        /// A document that is written, or deleted.
        public struct Document: Sendable {
            /// The revision with which it is.
            public var revision: UInt64
            /// Nil where it is deleted.
            public var value: ByteBuffer?
        }

        /// The revision after.
        public var revision: UInt64
        /// The last change of each kind.
        public var documents: [SettingsKind: Document]
    }

    /// Whose it is and where it stood: the run says so where there is one.
    private enum Place: Sendable {
        case run(RecordedRun)
        case head(TenantID, TenantHead)
    }

    /// What is stored beside the events. Boxed, like the place in the run: plans are passed on many times, and few have this.
    private indirect enum Beside: Sendable {
        case changes(
            snapshots: [SnapshotChange], settings: SettingsChange?, consumers: [ConsumerPlan],
            schedules: SchedulesPlan?)
    }

    private let place: Place
    private let beside: Beside?
    /// The aggregates that move, or whose snapshots change.
    public var aggregates: [AggregateName: Move]

    init(
        tenant: TenantID, oldHead: TenantHead, run: RecordedRun?, aggregates: [AggregateName: Move],
        snapshots: [SnapshotChange], settings: SettingsChange?, consumers: [ConsumerPlan], schedules: SchedulesPlan?
    ) {
        place = run.map { .run($0) } ?? .head(tenant, oldHead)
        self.aggregates = aggregates
        let isEmpty = snapshots.isEmpty && settings == nil && consumers.isEmpty && schedules == nil
        beside =
            isEmpty
            ? nil
            : .changes(snapshots: snapshots, settings: settings, consumers: consumers, schedules: schedules)
    }

    /// Whose it is.
    public var tenant: TenantID {
        switch place {
        case .run(let run): run.tenant
        case .head(let tenant, _): tenant
        }
    }

    /// The tenant's head before; ``TenantHead/empty`` for one without events.
    public var oldHead: TenantHead {
        switch place {
        case .run(let run): run.previous
        case .head(_, let head): head
        }
    }

    /// The tenant's head after.
    public var head: TenantHead {
        switch place {
        case .run(let run): run.head
        case .head(_, let head): head
        }
    }

    /// The events; nil for none.
    public var run: RecordedRun? { if case .run(let run) = place { run } else { nil } }

    /// Changes of snapshots.
    public var snapshots: [SnapshotChange] {
        if case .changes(let snapshots, _, _, _)? = beside { snapshots } else { [] }
    }

    /// The change of the settings; nil for none.
    public var settings: SettingsChange? {
        if case .changes(_, let settings, _, _)? = beside { settings } else { nil }
    }

    /// Changes of consumers, in the order of their names.
    public var consumers: [ConsumerPlan] {
        if case .changes(_, _, let consumers, _)? = beside { consumers } else { [] }
    }

    /// The change of the schedules; nil for none.
    public var schedules: SchedulesPlan? {
        if case .changes(_, _, _, let schedules)? = beside { schedules } else { nil }
    }

    /// The highest epoch or revision of any consumer that was deleted; nil where it stays.
    public var consumerEpochFloor: UInt64? { consumers.lazy.compactMap(\.epochFloor).max() }
}
