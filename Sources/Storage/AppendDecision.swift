public import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import NIOCore

/// The append decision: which calls of a batch are stored, under which versions and positions.
///
/// A pure function of the batch and of ``BatchFacts``, which the engine looked up in the transaction that
/// will store the plan. The calls are decided one after the other, each as if the ones before it were
/// stored already. For one call, in this order:
///
/// 1. *Replay.* Every event id is stored, each in the aggregate that the call names, with the same
///    content, at consecutive positions in the order of the call: the answer is the original one, whatever
///    the expected versions say.
/// 2. *Reuse.* Otherwise, any event id that is stored: `EVENT_ID_REUSED`, naming all of them.
/// 3. *Conflict.* Any expected version that does not hold: `VERSION_CONFLICT`, naming all of them.
/// 4. *Limit.* What the storage has no number left for: `STORAGE_LIMIT_REACHED`.
/// 5. *Append.* Versions and positions go on from what is there, in the order of the call.
///    The commit time is `now`, or the tenant's last one where that is later. A snapshot in the call is one of
///    the state after the call's events of its aggregate; which others stay is up to ``SnapshotDecision``.
public enum AppendDecision {
    /// The facts that deciding this batch takes. An engine looks these up, in any order, in few round trips.
    public static func questions(of batch: [AppendRequest]) -> BatchQuestions {
        var questions = BatchQuestions()
        for request in batch {
            questions.tenants.insert(request.tenant)
            for part in request.aggregates {
                let key = AggregateKey(tenant: request.tenant, name: part.aggregate)
                questions.aggregates.insert(key)
                if part.snapshot != nil { questions.snapshots.insert(key) }
                for event in part.events {
                    questions.events.insert(EventKey(tenant: request.tenant, id: event.id))
                }
            }
        }
        return questions
    }

    /// Decides a batch.
    ///
    /// - Precondition: within one call, aggregates and event ids are distinct and every aggregate has events;
    ///   ``EventStore`` refuses other calls.
    public static func decide(_ batch: [AppendRequest], facts: BatchFacts, now: Timestamp) -> BatchPlan {
        var state = State(facts: facts, now: now)
        state.reserve(for: batch)
        var outcomes: [AppendOutcome] = []
        outcomes.reserveCapacity(batch.count)
        for request in batch { outcomes.append(state.decide(request)) }
        return BatchPlan(outcomes: outcomes, tenants: state.plans())
    }
}

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
    /// Heads of these tenants; rows are locked in the tenants' order.
    public var tenants: Set<TenantID> = []
    /// Versions of these aggregates.
    public var aggregates: Set<AggregateKey> = []
    /// Which of these events are stored.
    public var events: Set<EventKey> = []
    /// Which snapshots these aggregates have; most often none are asked for.
    public var snapshots: Set<AggregateKey> = []

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
    /// Heads of the batch's tenants.
    public var heads: [TenantID: TenantHead] = [:]
    /// Versions of the batch's aggregates.
    public var versions: [AggregateKey: Version] = [:]
    /// How large the batch's aggregates are.
    public var sizes: [AggregateKey: AggregateSize] = [:]
    /// Those of the batch's event ids that are stored.
    public var stored: [EventKey: StoredEvent] = [:]
    /// Snapshots of those aggregates that were asked for.
    public var snapshots: [AggregateKey: [SnapshotKey]] = [:]
    /// The highest position that the storage can keep.
    public var positionMax = Position.max
    /// How many tenants the storage can keep, and how many more than those of ``heads``.
    public var newTenants: (max: UInt64, left: UInt64) = (.max, .max)

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
    /// One outcome a call, in the order of the batch.
    public var outcomes: [AppendOutcome]
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

    /// The tenant's head before; ``TenantHead/empty`` for a new tenant.
    public var oldHead: TenantHead
    /// The events; `run.head` is the head after.
    public var run: RecordedRun
    /// The aggregates that move.
    public var aggregates: [AggregateName: Move]
    /// Changes of snapshots.
    public var snapshots: [SnapshotChange]
}

/// The decision at work: what is stored, as it would be after the calls decided so far.
private struct State {
    /// What is added to one tenant. A class, so that it is changed in place wherever it is held.
    final class Tenant {
        let id: TenantID
        let oldHead: TenantHead
        var position: Position
        var recordedAt: Timestamp
        var entries = ByteBuffer()
        var events: [RecordedRun.Event] = []
        var moves: [AggregateName: TenantPlan.Move] = [:]
        var snapshots: [TenantPlan.SnapshotChange] = []
        /// Ids of the events that are added: index into `events`.
        var added: [UUID: Int] = [:]

        init(_ id: TenantID, after head: TenantHead, now: Timestamp) {
            self.id = id
            oldHead = head
            position = head.position
            recordedAt = max(now, head.recordedAt)
        }
    }

    var facts: BatchFacts
    let now: Timestamp
    var tenants: [TenantID: Tenant] = [:]
    /// The tenant that was asked for last.
    var current: Tenant?
    /// How many tenants come into being by what is stored.
    var newTenantCount: UInt64 = 0

    init(facts: BatchFacts, now: Timestamp) {
        self.facts = facts
        self.now = now
    }

    /// Makes room for what a batch of one tenant adds.
    mutating func reserve(for batch: [AppendRequest]) {
        guard let id = batch.first?.tenant, batch.allSatisfy({ $0.tenant == id }) else { return }
        let events = batch.reduce(0) { $0 + $1.eventCount }
        let bytes = batch.reduce(0) { $0 + $1.contentBytes }
        let tenant = makeTenant(id)
        tenant.entries.reserveCapacity(bytes + events * Self.headBytes)
        tenant.events.reserveCapacity(events)
        tenant.added.reserveCapacity(events)
        tenant.moves.reserveCapacity(batch.count)
    }

    /// About what the position, the version, the time, the aggregate and the checksum of an event take in its record.
    private static let headBytes = 72

    mutating func decide(_ request: AppendRequest) -> AppendOutcome {
        let tenant = current?.id == request.tenant ? current : tenants[request.tenant]
        current = tenant
        // Nothing that this batch could know of is known yet: nothing can be stored.
        if !(facts.stored.isEmpty && tenant?.added.isEmpty ?? true), let outcome = known(request) { return outcome }
        if case .refused(let error) = request.admission { return .refused(error) }
        var conflicts: [VersionConflict] = []
        var limit: StorageLimit?
        for part in request.aggregates {
            let actual = version(of: part.aggregate, in: request.tenant)
            let (needed, isTooMany) = actual.rawValue.addingReportingOverflow(UInt64(part.events.count))
            if isTooMany || needed > Version.max.rawValue {
                limit = .versions(max: Version.max.rawValue, needed: isTooMany ? .max : needed)
            }
            if !part.expected.holds(at: actual) {
                conflicts.append(VersionConflict(aggregate: part.aggregate, expected: part.expected, actual: actual))
            }
        }
        guard conflicts.isEmpty else { return .versionConflict(conflicts) }
        if let limit = limit ?? limitReached(by: request, tenant) { return .limitReached(limit) }
        return .appended(append(request, to: tenant ?? makeTenant(request.tenant)))
    }

    /// Whether what is stored of the tenant is the first of it.
    private func isNew(_ id: TenantID, _ tenant: Tenant?) -> Bool {
        tenant?.events.isEmpty ?? true && facts.heads[id] == nil
    }

    /// The bound of the storage that the call would go beyond; nil for none.
    private func limitReached(by request: AppendRequest, _ tenant: Tenant?) -> StorageLimit? {
        let head = tenant?.position ?? facts.heads[request.tenant]?.position ?? .start
        let count = UInt64(request.eventCount)
        let (needed, isTooMany) = head.rawValue.addingReportingOverflow(count)
        if isTooMany || needed > facts.positionMax.rawValue {
            return .positions(max: facts.positionMax.rawValue, needed: isTooMany ? .max : needed)
        }
        guard newTenantCount >= facts.newTenants.left, isNew(request.tenant, tenant) else { return nil }
        return .tenants(max: facts.newTenants.max)
    }

    /// The outcome of a call of whose event ids any is stored already.
    private func known(_ request: AppendRequest) -> AppendOutcome? {
        var reused: [ReusedEventID] = []
        var answered: [AppendedAggregate] = []
        var first: StoredEvent?
        var last: StoredEvent?
        var isReplay = true
        for part in request.aggregates {
            var firstVersion: Version?
            for event in part.events {
                guard let stored = storedEvent(event.id, in: request.tenant) else {
                    isReplay = false
                    continue
                }
                reused.append(
                    ReusedEventID(
                        id: event.id, aggregate: stored.aggregate, version: stored.version, position: stored.position))
                if let last, last.position.next != stored.position { isReplay = false }
                if !isSame(event, in: part.aggregate, as: stored) { isReplay = false }
                if first == nil { first = stored }
                if firstVersion == nil { firstVersion = stored.version }
                last = stored
            }
            if let firstVersion, let last {
                answered.append(
                    AppendedAggregate(aggregate: part.aggregate, firstVersion: firstVersion, lastVersion: last.version))
            }
        }
        guard let first, let last else { return nil }
        guard isReplay else { return .eventIDsReused(reused) }
        return .appended(
            AppendReceipt(
                aggregates: answered, firstPosition: first.position, lastPosition: last.position,
                recordedAt: first.recordedAt, replayed: true))
    }

    /// Whether storing `event` where `stored` is would give the same bytes, but for a checksum.
    private func isSame(_ event: EncodedEvent, in aggregate: AggregateName, as stored: StoredEvent) -> Bool {
        guard aggregate == stored.aggregate, let outline = RecordOutline(stored.record) else { return false }
        let place = stored.record.readerIndex + outline.event.lowerBound
        return stored.record.getSlice(at: place, length: outline.event.count) == event.body
    }

    private func storedEvent(_ id: UUID, in tenant: TenantID) -> StoredEvent? {
        if !facts.stored.isEmpty, let stored = facts.stored[EventKey(tenant: tenant, id: id)] { return stored }
        guard let additions = current, let index = additions.added[id] else { return nil }
        let event = additions.events[index]
        return StoredEvent(
            aggregate: event.aggregate, version: event.version,
            position: Position(additions.oldHead.position.rawValue + UInt64(index) + 1),
            recordedAt: additions.recordedAt,
            record: additions.entries.getSlice(at: event.recordStart, length: event.end - event.recordStart)
                ?? ByteBuffer())
    }

    private func version(of aggregate: AggregateName, in tenant: TenantID) -> Version {
        current?.moves[aggregate]?.to ?? facts.versions[AggregateKey(tenant: tenant, name: aggregate)] ?? .none
    }

    private mutating func append(_ request: AppendRequest, to tenant: Tenant) -> AppendReceipt {
        let firstPosition = tenant.position.next
        if facts.newTenants.left < .max, isNew(request.tenant, tenant) { newTenantCount += 1 }
        var answered: [AppendedAggregate] = []
        for part in request.aggregates {
            let key = AggregateKey(tenant: request.tenant, name: part.aggregate)
            let known =
                tenant.moves[part.aggregate]
                ?? {
                    let from = facts.versions[key] ?? .none
                    return TenantPlan.Move(from: from, to: from, size: facts.sizes[key] ?? AggregateSize())
                }()
            var version = known.to
            var size = known.size
            for event in part.events {
                version = version.next
                tenant.position = tenant.position.next
                let start = RecordedEntries.write(
                    position: tenant.position, version: version, recordedAt: tenant.recordedAt,
                    aggregate: part.aggregate, event: event, tenant: tenant.id, to: &tenant.entries)
                tenant.added[event.id] = tenant.events.count
                tenant.events.append(
                    RecordedRun.Event(
                        aggregate: part.aggregate, version: version, id: event.id, type: event.type,
                        contentType: event.contentType, schemaVersion: event.schemaVersion,
                        payloadBytes: event.payloadBytes, recordStart: start, end: tenant.entries.writerIndex))
                size.bytes += UInt64(tenant.entries.writerIndex - start)
            }
            if let snapshot = part.snapshot {
                save(snapshot, of: key, at: version, kept: part.snapshotPolicy.kept, &size, in: tenant)
            }
            answered.append(
                AppendedAggregate(
                    aggregate: part.aggregate, firstVersion: known.to.next, lastVersion: version,
                    snapshotDue: part.snapshotPolicy.isDue(
                        events: version.rawValue - min(version, size.snapshotVersion).rawValue,
                        bytes: size.bytes - min(size.bytes, size.snapshotBytes))))
            tenant.moves[part.aggregate] = TenantPlan.Move(from: known.from, to: version, size: size)
        }
        return AppendReceipt(
            aggregates: answered, firstPosition: firstPosition, lastPosition: tenant.position,
            recordedAt: tenant.recordedAt, replayed: false)
    }

    private mutating func save(
        _ new: NewSnapshot, of key: AggregateKey, at version: Version, kept: Int, _ size: inout AggregateSize,
        in tenant: Tenant
    ) {
        let existing = facts.snapshots[key] ?? []
        let plan = SnapshotDecision.decide(
            SnapshotKey(version: version, schemaVersion: new.schemaVersion), existing: existing,
            kept: kept)
        let put = plan.isKept ? StoredSnapshot(new, version: version, now: tenant.recordedAt) : nil
        tenant.snapshots.append(TenantPlan.SnapshotChange(aggregate: key.name, put: put, dropped: plan.dropped))
        facts.snapshots[key] =
            existing.filter { $0.version != version && !plan.dropped.contains($0.version) }
            + [SnapshotKey(version: version, schemaVersion: new.schemaVersion)]
        size.note(plan)
    }

    private mutating func makeTenant(_ id: TenantID) -> Tenant {
        let tenant = Tenant(id, after: facts.heads[id] ?? .empty, now: now)
        tenants[id] = tenant
        current = tenant
        return tenant
    }

    func plans() -> [TenantPlan] {
        tenants.filter { !$0.value.events.isEmpty }.sorted { $0.key < $1.key }.map { id, tenant in
            TenantPlan(
                oldHead: tenant.oldHead,
                run: RecordedRun(
                    tenant: id, firstPosition: tenant.oldHead.position.next, recordedAt: tenant.recordedAt,
                    entries: tenant.entries, events: tenant.events),
                aggregates: tenant.moves, snapshots: tenant.snapshots)
        }
    }
}
