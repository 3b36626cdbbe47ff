public import FoundationEssentials
public import MartletModel

/// A schedule of a tenant.
public struct ScheduleID: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The schedule's key.
    public var key: ScheduleKey

    /// A schedule of those parts.
    public init(tenant: TenantID, key: ScheduleKey) {
        self.tenant = tenant
        self.key = key
    }
}

/// Sets and cancels schedules, or sets one aside whose event cannot be appended.
public struct SchedulesChange: Hashable, Sendable {
    /// What is to be changed.
    public enum Kind: Hashable, Sendable {
        /// What a client asked for: each of another schedule.
        case asked([ScheduleChange])
        /// The schedule, if its event still is that one, is set aside for that reason.
        case park(ScheduleKey, event: UUID, reason: String)
    }

    /// The tenant.
    public var tenant: TenantID
    /// What is to be changed.
    public var kind: Kind
    /// So many schedules the tenant may have.
    public var countMax: Int

    /// A change of those parts.
    public init(_ kind: Kind, of tenant: TenantID, countMax: Int) {
        self.kind = kind
        self.tenant = tenant
        self.countMax = countMax
    }

    /// Whether the tenant may come into being by it.
    var makesTenant: Bool {
        guard case .asked(let changes) = kind else { return false }
        return changes.contains { if case .set = $0 { true } else { false } }
    }

    /// The schedules.
    var keys: [ScheduleKey] {
        switch kind {
        case .asked(let changes): changes.map(\.key)
        case .park(let key, _, _): [key]
        }
    }

    /// Bytes that it carries, about.
    var contentBytes: Int {
        switch kind {
        case .asked(let changes): changes.reduce(0) { $0 + $1.contentBytes }
        case .park(_, _, let reason): reason.utf8.count
        }
    }
}

/// What became of a ``SchedulesChange``.
public enum SchedulesOutcome: Hashable, Sendable {
    /// What became of each change, in their order; nothing of a schedule that was to be parked.
    case changed([ScheduleChanged])
    /// These ids are stored with other content or elsewhere; nothing was written.
    case eventIDsReused([ReusedEventID])
    /// The tenant has as many schedules as it may; nothing was written.
    case tooMany(max: Int)
}

/// What became of an append of an event whose time had come.
public enum FiringOutcome: Hashable, Sendable {
    /// The schedule is not there any more, or not as it was; or its time has not come by the clock of the decision.
    case gone
    /// It cannot be appended, or would have been too late: the schedule is set aside, for that reason.
    case parked(reason: String)
}

/// What must be known of schedules to decide a batch.
public struct ScheduleQuestions: Hashable, Sendable {
    /// These schedules; an engine with several writers locks what there is of their tenants, after all else, in their order.
    public var schedules: Set<ScheduleID> = []

    /// No questions yet.
    public init() {}

    /// Whether there are none.
    public var isEmpty: Bool { schedules.isEmpty }

    /// The schedules, by tenant.
    public var tenants: [TenantID: [ScheduleKey]] {
        Dictionary(grouping: schedules, by: \.tenant).mapValues { $0.map(\.key) }
    }

    /// Adds what deciding an append takes.
    public mutating func add(_ request: AppendRequest) {
        for change in request.schedules { schedules.insert(ScheduleID(tenant: request.tenant, key: change.key)) }
        if let firing = request.firing { schedules.insert(ScheduleID(tenant: request.tenant, key: firing.key)) }
    }

    /// Adds what deciding that change takes.
    public mutating func add(_ change: SchedulesChange) {
        for key in change.keys { schedules.insert(ScheduleID(tenant: change.tenant, key: key)) }
    }
}

/// What an engine looked up of schedules. What is missing is not there.
public struct ScheduleFacts: Sendable {
    /// A schedule, as far as a decision takes it.
    public struct Row: Hashable, Sendable {
        /// When its event is to be appended.
        public var due: Timestamp
        /// The event's id.
        public var eventID: UUID
        /// It is set aside.
        public var isParked: Bool

        /// A row of those parts.
        public init(due: Timestamp, eventID: UUID, isParked: Bool = false) {
            self.due = due
            self.eventID = eventID
            self.isParked = isParked
        }
    }

    /// All schedules of a tenant.
    public struct Tenant: Hashable, Sendable {
        /// How many there are.
        public var count: Int
        /// The earliest of those that are not set aside, in the order of their times: at least one more than the batch has
        /// schedules of the tenant, or all.
        public var earliest: [(key: ScheduleKey, due: Timestamp)]

        /// Facts of those parts.
        public init(count: Int = 0, earliest: [(key: ScheduleKey, due: Timestamp)] = []) {
            self.count = count
            self.earliest = earliest
        }

        /// Whether they say the same.
        public static func == (a: Tenant, b: Tenant) -> Bool {
            a.count == b.count && a.earliest.elementsEqual(b.earliest, by: ==)
        }

        /// Hashes what is compared.
        public func hash(into hasher: inout Hasher) {
            hasher.combine(count)
            for (key, due) in earliest {
                hasher.combine(key)
                hasher.combine(due)
            }
        }
    }

    /// Those that were asked for.
    public var schedules: [ScheduleID: Row] = [:]
    /// The tenants of those that were asked for.
    public var tenants: [TenantID: Tenant] = [:]

    /// No facts yet.
    public init() {}
}

/// What is to be stored of a tenant's schedules.
public struct SchedulesPlan: Hashable, Sendable {
    /// What becomes of a schedule.
    public enum Change: Hashable, Sendable {
        /// Its row is written.
        case set(NewSchedule)
        /// It is set aside, for that reason.
        case park(reason: String, eventID: UUID)
        /// Its row is deleted.
        case delete
    }

    /// By the schedules' keys.
    public var changes: [ScheduleKey: Change]
    /// How many schedules the tenant has after it.
    public var count: Int
    /// When the first of them is due, those that are set aside left out; nil for none.
    public var due: Timestamp?
}

/// Schedules whose time has come.
public struct DueSchedules: Sendable {
    /// One of them.
    public struct Schedule: Hashable, Sendable {
        /// The tenant.
        public var tenant: TenantID
        /// What is to be appended.
        public var schedule: NewSchedule

        /// A schedule of a tenant.
        public init(tenant: TenantID, schedule: NewSchedule) {
            self.tenant = tenant
            self.schedule = schedule
        }
    }

    /// In the order of their times for each tenant.
    public var schedules: [Schedule] = []
    /// Schedules that are damaged, with the id of the event that is there.
    public var damaged: [ScheduleID: UUID] = [:]
    /// There may be more at that moment, and not before; nil where there are none that are not due already.
    public var next: Timestamp?

    /// None yet.
    public init() {}
}

/// Which schedules are looked for.
public struct DueQuestion: Sendable {
    /// Those that are due by then.
    public var now: Timestamp
    /// Those that another server has set only so long after that, in microseconds: it will append them itself.
    public var patienceMicros: Int64
    /// Of so many tenants, those whose schedules have been due for longest.
    public var tenantsMax: Int
    /// Of each of them so many.
    public var countPerTenantMax: Int
    /// Bytes of their events, over all of them; one is found even if that alone is larger.
    public var bytesMax: Int
    /// None of these tenants.
    public var except: Set<TenantID>

    /// A question of those parts.
    public init(
        now: Timestamp, patienceMicros: Int64, tenantsMax: Int, countPerTenantMax: Int, bytesMax: Int,
        except: Set<TenantID> = []
    ) {
        self.now = now
        self.patienceMicros = patienceMicros
        self.tenantsMax = tenantsMax
        self.countPerTenantMax = countPerTenantMax
        self.bytesMax = bytesMax
        self.except = except
    }
}
