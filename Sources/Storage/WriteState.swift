import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// The decision at work: what is stored, as it would be after the calls decided so far.
struct WriteState {
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
        var settings: TenantPlan.SettingsChange?
        var hasConsumerChanges = false
        var hasScheduleChanges = false
        /// Ids of the events that are added: index into `events`.
        var added: [UUID: Int] = [:]

        /// Whether something of the tenant is to be stored.
        var isChanged: Bool {
            !events.isEmpty || !snapshots.isEmpty || settings != nil || hasConsumerChanges || hasScheduleChanges
        }

        init(_ id: TenantID, after head: TenantHead, now: Timestamp) {
            self.id = id
            oldHead = head
            position = head.position
            recordedAt = max(now, head.recordedAt)
        }
    }

    var facts: BatchFacts
    let now: Timestamp
    /// What decides on consumers and schedules; one reference, as the state is passed on.
    final class Beside {
        /// Made for the first change of a consumer.
        var consumers: ConsumerDecision?
        /// Made for the first change of a schedule.
        var schedules: ScheduleDecision?
    }

    var beside: Beside?
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
    mutating func reserve(for batch: [WriteCommand]) {
        guard case .append(let first)? = batch.first, batch.allSatisfy({ $0.tenant == first.tenant }) else { return }
        let id = first.tenant
        let events = batch.reduce(0) { $0 + $1.rowCount }
        let bytes = batch.reduce(0) { $0 + $1.contentBytes }
        let tenant = makeTenant(id)
        tenant.entries.reserveCapacity(bytes + events * Self.headBytes)
        tenant.events.reserveCapacity(events)
        tenant.added.reserveCapacity(events)
        tenant.moves.reserveCapacity(batch.count)
    }

    /// About what the position, the version, the time, the aggregate and the checksum of an event take in its record.
    private static let headBytes = 72

    /// The tenant, where the batch has come to it before.
    mutating func find(_ id: TenantID) -> Tenant? {
        if current?.id != id { current = tenants[id] }
        return current
    }

    mutating func decide(_ request: AppendRequest) -> WriteOutcome {
        if request.firing != nil { return decide(firing: request) }
        let tenant = find(request.tenant)
        // Nothing that this batch could know of is known yet: nothing can be stored.
        if !(facts.stored.isEmpty && tenant?.added.isEmpty ?? true), let outcome = known(request) {
            return settling(request, replayed: outcome)
        }
        if let checkpoint = request.checkpoint,
            let refusal = consumerDecision().refusal(of: checkpoint, in: request.tenant)
        {
            return .checkpointRefused(refusal)
        }
        if case .refused(let error) = request.admission { return .refused(error) }
        if request.hasExtras,
            let refusal = refusal(of: request.schedules, in: request.tenant, countMax: request.schedulesMax)
        {
            return .schedules(refusal)
        }
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
        var receipt = append(request, to: tenant ?? makeTenant(request.tenant))
        if let checkpoint = request.checkpoint {
            consumerDecision().settle(checkpoint, in: request.tenant)
            receipt.checkpointStored = true
        }
        if request.hasExtras { _ = apply(request.schedules, to: request.tenant) }
        return .appended(receipt)
    }

    /// What a replay is answered, and its checkpoint, where that is still to be stored.
    private mutating func settling(_ request: AppendRequest, replayed outcome: WriteOutcome) -> WriteOutcome {
        guard case .appended(var receipt) = outcome, let checkpoint = request.checkpoint,
            consumerDecision().refusal(of: checkpoint, in: request.tenant) == nil
        else { return outcome }
        consumerDecision().settle(checkpoint, in: request.tenant)
        (find(request.tenant) ?? makeTenant(request.tenant)).hasConsumerChanges = true
        receipt.checkpointStored = true
        return .appended(receipt)
    }

    private mutating func consumerDecision() -> ConsumerDecision {
        let beside = decisionsBeside()
        let decision = beside.consumers ?? ConsumerDecision(facts.consumers, now: now)
        beside.consumers = decision
        return decision
    }

    mutating func decisionsBeside() -> Beside {
        let known = beside ?? Beside()
        beside = known
        return known
    }

    /// Whether what is stored of the tenant is the first of it.
    func isNew(_ id: TenantID, _ tenant: Tenant?) -> Bool {
        tenant?.isChanged != true && facts.heads[id] == nil
    }

    /// The bound of the storage that the call would go beyond; nil for none.
    func limitReached(by request: AppendRequest, _ tenant: Tenant?) -> StorageLimit? {
        let head = tenant?.position ?? facts.heads[request.tenant]?.position ?? .start
        let count = UInt64(request.eventCount)
        let (needed, isTooMany) = head.rawValue.addingReportingOverflow(count)
        if isTooMany || needed > facts.positionMax.rawValue {
            return .positions(max: facts.positionMax.rawValue, needed: isTooMany ? .max : needed)
        }
        return limitReached(byTenant: request.tenant, tenant)
    }

    func limitReached(byTenant id: TenantID, _ tenant: Tenant?) -> StorageLimit? {
        guard newTenantCount >= facts.newTenants.left, isNew(id, tenant) else { return nil }
        return .tenants(max: facts.newTenants.max)
    }

    mutating func count(_ id: TenantID, _ tenant: Tenant?) {
        if facts.newTenants.left < .max, isNew(id, tenant) { newTenantCount += 1 }
    }

    /// The outcome of a call of whose event ids any is stored already.
    func known(_ request: AppendRequest) -> WriteOutcome? {
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
    func isSame(_ event: EncodedEvent, in aggregate: AggregateName, as stored: StoredEvent) -> Bool {
        guard aggregate == stored.aggregate, let outline = RecordOutline(stored.record) else { return false }
        let place = stored.record.readerIndex + outline.event.lowerBound
        return stored.record.getSlice(at: place, length: outline.event.count) == event.body
    }

    func storedEvent(_ id: UUID, in tenant: TenantID) -> StoredEvent? {
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

    func version(of aggregate: AggregateName, in tenant: TenantID) -> Version {
        current?.moves[aggregate]?.to ?? facts.versions[AggregateKey(tenant: tenant, name: aggregate)] ?? .none
    }

    mutating func append(_ request: AppendRequest, to tenant: Tenant) -> AppendReceipt {
        let firstPosition = tenant.position.next
        count(request.tenant, tenant)
        var answered: [AppendedAggregate] = []
        for part in request.aggregates {
            let key = AggregateKey(tenant: request.tenant, name: part.aggregate)
            let known = move(of: key, in: tenant)
            var moved = known
            var version = known.to
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
                moved.size.bytes += UInt64(tenant.entries.writerIndex - start)
            }
            moved.to = version
            if let snapshot = part.snapshot {
                _ = save(
                    snapshot, of: key, at: version, kept: part.snapshotPolicy.kept, now: tenant.recordedAt, &moved,
                    in: tenant)
            }
            let size = moved.size
            answered.append(
                AppendedAggregate(
                    aggregate: part.aggregate, firstVersion: known.to.next, lastVersion: version,
                    snapshotDue: part.snapshotPolicy.isDue(
                        events: version.rawValue - min(version, size.snapshotVersion).rawValue,
                        bytes: size.bytes - min(size.bytes, size.snapshotBytes))))
            tenant.moves[part.aggregate] = moved
        }
        return AppendReceipt(
            aggregates: answered, firstPosition: firstPosition, lastPosition: tenant.position,
            recordedAt: tenant.recordedAt, replayed: false)
    }

    /// What the batch makes of an aggregate so far.
    private func move(of key: AggregateKey, in tenant: Tenant) -> TenantPlan.Move {
        if let known = tenant.moves[key.name] { return known }
        let from = facts.versions[key] ?? .none
        return TenantPlan.Move(from: from, to: from, size: facts.sizes[key] ?? AggregateSize())
    }

    mutating func decide(_ change: TenantChange) -> WriteOutcome {
        let tenant = find(change.tenant)
        switch change {
        case .saveSnapshot(let request, let kept):
            let key = AggregateKey(tenant: request.tenant, name: request.aggregate)
            let version = version(of: request.aggregate, in: request.tenant)
            guard version > .none, request.version <= version else { return .snapshotBeyondAggregate(version) }
            let tenant = tenant ?? makeTenant(request.tenant)
            var moved = move(of: key, in: tenant)
            let plan = save(request.snapshot, of: key, at: request.version, kept: kept, now: now, &moved, in: tenant)
            tenant.moves[key.name] = moved
            return .snapshotSaved(SaveSnapshotReceipt(isKept: plan.isKept, newestVersion: plan.newestVersion))
        case .deleteSnapshots(let request):
            let key = AggregateKey(tenant: request.tenant, name: request.aggregate)
            let existing = facts.snapshots[key] ?? []
            let deleted = existing.map(\.version).filter { request.version == nil || request.version == $0 }
            guard !deleted.isEmpty else { return .snapshotsDeleted(0) }
            let tenant = tenant ?? makeTenant(request.tenant)
            let left = existing.filter { !deleted.contains($0.version) }
            facts.snapshots[key] = left
            tenant.snapshots.append(TenantPlan.SnapshotChange(aggregate: key.name, put: nil, dropped: deleted))
            var moved = move(of: key, in: tenant)
            moved.size.snapshotVersion = left.map(\.version).max() ?? .none
            if left.isEmpty { moved.size.snapshotBytes = 0 }
            moved.hasSnapshots = true
            tenant.moves[key.name] = moved
            return .snapshotsDeleted(deleted.count)
        case .putSettings(let request):
            let revision = tenant?.settings?.revision ?? facts.settingsRevisions[request.tenant] ?? 0
            guard request.expectedRevision == nil || request.expectedRevision == revision else {
                return .settingsConflict(revision: revision)
            }
            guard revision < facts.settingsRevisionMax else {
                return .limitReached(.settingsRevisions(max: facts.settingsRevisionMax))
            }
            if let limit = limitReached(byTenant: request.tenant, tenant) { return .limitReached(limit) }
            count(request.tenant, tenant)
            let tenant = tenant ?? makeTenant(request.tenant)
            var settings = tenant.settings ?? TenantPlan.SettingsChange(revision: revision, documents: [:])
            settings.revision = revision + 1
            settings.documents[request.kind] = TenantPlan.SettingsChange.Document(
                revision: revision + 1, value: request.document.readableBytes == 0 ? nil : request.document)
            tenant.settings = settings
            return .settingsPut(revision: revision + 1)
        case .consumer(let change):
            if change.makesTenant, let limit = limitReached(byTenant: change.consumer.tenant, tenant) {
                return .limitReached(limit)
            }
            let (outcome, isStored) = consumerDecision().decide(change)
            guard isStored else { return .consumer(outcome) }
            count(change.consumer.tenant, tenant)
            (tenant ?? makeTenant(change.consumer.tenant)).hasConsumerChanges = true
            return .consumer(outcome)
        case .schedules(let change):
            if change.makesTenant, let limit = limitReached(byTenant: change.tenant, tenant) {
                return .limitReached(limit)
            }
            return .schedules(decide(change))
        }
    }

    private mutating func save(
        _ new: NewSnapshot, of key: AggregateKey, at version: Version, kept: Int, now: Timestamp,
        _ move: inout TenantPlan.Move, in tenant: Tenant
    ) -> SnapshotDecision.Plan {
        let existing = facts.snapshots[key] ?? []
        let added = SnapshotKey(version: version, schemaVersion: new.schemaVersion)
        let plan = SnapshotDecision.decide(added, existing: existing, kept: kept)
        let put = plan.isKept ? StoredSnapshot(new, version: version, now: now) : nil
        tenant.snapshots.append(TenantPlan.SnapshotChange(aggregate: key.name, put: put, dropped: plan.dropped))
        var left = existing.filter { !plan.dropped.contains($0.version) }
        if plan.isKept { left = left.filter { $0.version != version } + [added] }
        facts.snapshots[key] = left
        move.size.note(plan)
        move.hasSnapshots = true
        return plan
    }

    mutating func makeTenant(_ id: TenantID) -> Tenant {
        let tenant = Tenant(id, after: facts.heads[id] ?? .empty, now: now)
        tenants[id] = tenant
        current = tenant
        return tenant
    }

    func plans() -> [TenantPlan] {
        tenants.filter { $0.value.isChanged }.sorted { $0.key < $1.key }.map { id, tenant in
            let run =
                tenant.events.isEmpty
                ? nil
                : RecordedRun(
                    tenant: id, after: tenant.oldHead, recordedAt: tenant.recordedAt,
                    entries: tenant.entries, events: tenant.events)
            return TenantPlan(
                tenant: id, oldHead: tenant.oldHead, run: run, aggregates: tenant.moves, snapshots: tenant.snapshots,
                settings: tenant.settings, consumers: beside?.consumers?.plans(of: id) ?? [],
                schedules: beside?.schedules?.plan(of: id))
        }
    }
}
