import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// Events in memory, in the simplest way that is right: what other engines are compared with. Not durable.
public final class MemoryEngine: StorageEngine {
    struct Stored: Sendable {
        var event: RecordedRun.Event
        var recordedAt: Timestamp
        var record: ByteBuffer
    }

    struct Tenant: Sendable {
        /// The event at position p stands at index p - 1.
        var events: [Stored] = []
        var settings = StoredSettings()
        var snapshots: [AggregateName: [StoredSnapshot]] = [:]
        var sizes: [AggregateName: AggregateSize] = [:]
        var consumers = MemoryConsumers()
        var schedules = MemorySchedules()

        var head: TenantHead {
            events.last.map {
                TenantHead(
                    position: Position(UInt64(events.count)), recordedAt: $0.recordedAt, eventID: $0.event.id)
            } ?? .empty
        }

        func position(_ index: Int) -> Position { Position(UInt64(index) + 1) }

        func eventID(at position: Position) -> UUID? {
            0 < position.rawValue && position.rawValue <= UInt64(events.count)
                ? events[Int(position.rawValue) - 1].event.id : nil
        }

        func indices(of aggregate: AggregateName) -> [Int] {
            events.indices.filter { events[$0].event.aggregate == aggregate }
        }

        func version(of aggregate: AggregateName) -> Version {
            indices(of: aggregate).last.map { events[$0].event.version } ?? .none
        }

        /// Newest first.
        func snapshotKeys(of aggregate: AggregateName) -> [SnapshotKey] {
            (snapshots[aggregate] ?? []).map(\.snapshot).sorted { $0.version > $1.version }
                .map { SnapshotKey(version: $0.version, schemaVersion: $0.schemaVersion) }
        }

        mutating func change(_ aggregate: AggregateName, put: StoredSnapshot?, dropped: [Version]) {
            var all = snapshots[aggregate] ?? []
            all.removeAll { dropped.contains($0.snapshot.version) || $0.snapshot.version == put?.snapshot.version }
            if let put { all.append(put) }
            snapshots[aggregate] = all
        }
    }

    let tenants = NIOLockedValueBox<[TenantID: Tenant]>([:])

    /// `memory`.
    public let name = "memory"
    /// There is only one.
    public let schemaVersion: UInt32 = 1
    /// Writers take turns at the lock.
    public let writersMax: Int
    /// Readers take turns at the lock.
    public let readersMax = 2

    /// An engine without events.
    public init(writersMax: Int = 2) { self.writersMax = writersMax }

    /// Nothing to prepare.
    public func prepare() throws(StorageError) {}

    /// A writer to the same events.
    public func makeWriter() -> any StorageWriter { Writer(engine: self) }

    /// A reader of the same events.
    public func makeReader() -> any StorageReader { Reader(engine: self) }

    /// Nil: nobody else can write.
    public func makeListener() -> (any StorageListener)? { nil }

    private final class Writer: StorageWriter {
        let engine: MemoryEngine
        init(engine: MemoryEngine) { self.engine = engine }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            engine.tenants.withLockedValue { tenants in
                let plan = WriteDecision.decide(batch, facts: Self.facts(of: batch, tenants), now: now)
                for plan in plan.tenants { tenants[plan.tenant, default: Tenant()].carryOut(plan) }
                return CommitResult(plan)
            }
        }

        private static func facts(of batch: [WriteCommand], _ tenants: [TenantID: Tenant]) -> BatchFacts {
            let questions = WriteDecision.questions(of: batch)
            var facts = BatchFacts()
            for id in questions.tenants {
                facts.heads[id] = tenants[id]?.head
                facts.settingsRevisions[id] = tenants[id]?.settings.revision
            }
            for key in questions.aggregates {
                guard let tenant = tenants[key.tenant], let last = tenant.indices(of: key.name).last else { continue }
                facts.versions[key] = tenant.events[last].event.version
                facts.sizes[key] = tenant.sizes[key.name]
                if questions.snapshots.contains(key) { facts.snapshots[key] = tenant.snapshotKeys(of: key.name) }
            }
            var consumers = MemoryConsumers.facts(questions.consumers) { tenants[$0]?.consumers }
            for key in questions.consumers.events {
                guard let tenant = tenants[key.tenant] else { continue }
                let index = tenant.events.firstIndex { $0.event.id == key.id }
                consumers.positions[key] = index.map { tenant.position($0) }
            }
            facts.consumers = consumers
            facts.schedules = MemorySchedules.facts(questions.schedules) { tenants[$0]?.schedules }
            for key in questions.events {
                guard let tenant = tenants[key.tenant],
                    let index = tenant.events.firstIndex(where: { $0.event.id == key.id })
                else { continue }
                let stored = tenant.events[index]
                facts.stored[key] = StoredEvent(
                    aggregate: stored.event.aggregate, version: stored.event.version,
                    position: tenant.position(index), recordedAt: stored.recordedAt, record: stored.record)
            }
            return facts
        }
    }

    private final class Reader: StorageReader {
        let engine: MemoryEngine
        init(engine: MemoryEngine) { self.engine = engine }

        private func tenant(_ id: TenantID) -> Tenant { engine.tenants.withLockedValue { $0[id] ?? Tenant() } }

        func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
            tenants.map { id in
                let tenant = tenant(id)
                return TenantState(head: tenant.head, settingsRevision: tenant.settings.revision)
            }
        }

        func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?] {
            places.map { tenant($0.tenant).eventID(at: $0.position) }
        }

        func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings { self.tenant(tenant).settings }

        func consumers(
            of tenant: TenantID, after name: ConsumerName?, countMax: Int
        ) throws(StorageError) -> [NamedConsumer] {
            self.tenant(tenant).consumers.list(after: name, countMax: countMax)
        }

        func tenants(
            withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
        ) throws(StorageError) -> [TenantID] {
            let owners = engine.tenants.withLockedValue { $0.filter { $1.consumers.has(name) }.keys.sorted() }
            let found = owners.filter { owner in scope.allows(owner) && tenant.map { owner > $0 } ?? true }
            return Array(found.prefix(countMax))
        }

        func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
            tenant(id.tenant).consumers.group(id.name)
        }

        func blockedKeys(
            of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
        ) throws(StorageError) -> [StoredBlockedKey] {
            tenant(id.tenant).consumers.blockedKeys(of: id.name, slot: slot, after: key, countMax: countMax)
        }

        func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
            tenant(id.tenant).consumers.lastBlockedKey(of: id.name)
        }

        func schedules(
            of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
        ) throws(StorageError) -> [ListedSchedule] {
            self.tenant(tenant).schedules.list(after: key, isParkedOnly: isParkedOnly, countMax: countMax)
        }

        func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules { engine.due(question) }

        func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
            (self.tenant(tenant).snapshots[aggregate] ?? []).map(\.info).sorted { $0.version > $1.version }
        }

        func snapshot(
            of aggregate: AggregateName, in tenant: TenantID, at version: Version
        ) throws(StorageError) -> StoredSnapshot? {
            self.tenant(tenant).snapshots[aggregate]?.first { $0.snapshot.version == version }
        }

        func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
            Position(UInt64(self.tenant(tenant).events.count { $0.recordedAt <= time }))
        }

        func version(
            of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
        ) throws(StorageError) -> Version {
            let tenant = self.tenant(tenant)
            let last = tenant.indices(of: aggregate).last { tenant.position($0) <= position }
            return last.map { tenant.events[$0].event.version } ?? .none
        }

        func position(
            of version: Version, of aggregate: AggregateName, in tenant: TenantID
        ) throws(StorageError) -> Position? {
            let tenant = self.tenant(tenant)
            return tenant.indices(of: aggregate).first { tenant.events[$0].event.version == version }
                .map { tenant.position($0) }
        }

        func page(
            of aggregate: AggregateName, in id: TenantID, versions range: PageRange<Version>, bounds: PageBounds
        ) throws(StorageError) -> EventPage {
            let tenant = tenant(id)
            let own = tenant.indices(of: aggregate)
            try bounds.check(range) { version in
                own.first { tenant.events[$0].event.version == version }.map { tenant.events[$0].event.id }
            }
            let indices = own.filter {
                let version = tenant.events[$0].event.version
                return version > range.after && version <= range.to
            }
            let page = Self.page(indices, tenant, bounds)
            try RecordCheck(tenant: id).check(page, of: aggregate, versions: range, bounds.direction)
            return page
        }

        func page(
            of id: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
        ) throws(StorageError) -> EventPage {
            let tenant = tenant(id)
            guard range.after < range.to else {
                return EventPage(scannedTo: bounds.direction == .forward ? range.to : range.after.next)
            }
            try bounds.check(range) { tenant.eventID(at: $0) }
            let scanned = range.scanned(filter: filter, bounds: bounds)
            let indices = tenant.events.indices.filter {
                let position = tenant.position($0)
                return position > scanned.after && position <= scanned.to
                    && filter.matches(tenant.events[$0].event.aggregate, tenant.events[$0].event.type)
            }
            var page = Self.page(indices, tenant, bounds)
            page.complete(scanned: scanned, of: range, isFiltered: !filter.isEmpty, bounds.direction)
            page.endEventID = tenant.eventID(at: page.scannedTo)
            try RecordCheck(tenant: id).check(page, positions: range, filter: filter, bounds.direction)
            return page
        }

        private static func page(_ indices: [Int], _ tenant: Tenant, _ bounds: PageBounds) -> EventPage {
            var page = EventPage()
            for index in bounds.direction == .forward ? indices : indices.reversed() {
                let stored = tenant.events[index]
                let bytes = RecordedEntries.entryBytes(recordBytes: stored.record.readableBytes)
                guard page.count < bounds.eventsMax,
                    page.count == 0 || page.entries.readableBytes + bytes <= bounds.bytesMax
                else {
                    page.isLast = false
                    break
                }
                RecordedEntries.write(record: stored.record, to: &page.entries)
                page.count += 1
                page.lastPosition = tenant.position(index)
                page.lastVersion = stored.event.version
                page.endEventID = stored.event.id
            }
            return page
        }
    }
}

extension MemoryEngine.Tenant {
    fileprivate mutating func carryOut(_ plan: TenantPlan) {
        if let run = plan.run {
            for (index, event) in run.events.enumerated() {
                events.append(
                    MemoryEngine.Stored(event: event, recordedAt: run.recordedAt, record: run.record(at: index)))
            }
        }
        for (name, move) in plan.aggregates { sizes[name] = move.size }
        for change in plan.snapshots { self.change(change.aggregate, put: change.put, dropped: change.dropped) }
        if let change = plan.settings {
            for (kind, document) in change.documents { settings.documents[kind] = document.value }
            settings.revision = change.revision
        }
        consumers.carryOut(plan.consumers, epochFloor: plan.consumerEpochFloor)
        if let plan = plan.schedules { schedules.carryOut(plan) }
    }
}

extension MemoryEngine {
    /// Comes back with another past, as a database does that is restored or fails over: of each tenant the first so many
    /// events are left, with the snapshots and the settings that it has then.
    /// - Parameter losesSettings: the settings are lost, whatever events are left.
    public func restore(_ kept: [TenantID: Int], losesSettings: Bool = false) {
        tenants.withLockedValue { tenants in
            for (id, count) in kept {
                guard var tenant = tenants[id] else { continue }
                tenant.events.removeSubrange(min(count, tenant.events.count)...)
                tenant.snapshots = [:]
                tenant.sizes = [:]
                if count == 0 || losesSettings { tenant.settings = StoredSettings() }
                tenants[id] = tenant
            }
        }
    }

    /// Damages a snapshot's state, as a disk might.
    public func damageSnapshot(of aggregate: AggregateName, in tenant: TenantID, at version: Version) {
        tenants.withLockedValue { tenants in
            guard
                let index = tenants[tenant]?.snapshots[aggregate]?.firstIndex(where: { $0.snapshot.version == version })
            else { return }
            tenants[tenant]?.snapshots[aggregate]?[index].snapshot.payload.setInteger(UInt8(0), at: 0)
        }
    }
}
