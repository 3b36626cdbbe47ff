import FoundationEssentials
import MartletModel
import MartletStorage

/// A reader that tells when settings are read, before and after.
final class SettingsWatch: StorageReader {
    private let inner: any StorageReader
    private let before: (TenantID) throws(StorageError) -> Void
    private let after: () -> Void

    init(
        _ inner: any StorageReader, before: @escaping (TenantID) throws(StorageError) -> Void = { _ in },
        after: @escaping () -> Void = {}
    ) {
        self.inner = inner
        self.before = before
        self.after = after
    }

    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
        try before(tenant)
        let found = try inner.settings(of: tenant)
        after()
        return found
    }

    func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
        try inner.tenantStates(of: tenants)
    }

    func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?] { try inner.eventIDs(at: places) }

    func consumers(
        of tenant: TenantID, after name: ConsumerName?, countMax: Int
    ) throws(StorageError) -> [NamedConsumer] {
        try inner.consumers(of: tenant, after: name, countMax: countMax)
    }

    func tenants(
        withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(StorageError) -> [TenantID] {
        try inner.tenants(withConsumer: name, in: scope, after: tenant, countMax: countMax)
    }

    func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
        try inner.group(id)
    }

    func blockedKeys(
        of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) throws(StorageError) -> [StoredBlockedKey] {
        try inner.blockedKeys(of: id, slot: slot, after: key, countMax: countMax)
    }

    func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
        try inner.lastBlockedKey(of: id)
    }

    func schedules(
        of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
    ) throws(StorageError) -> [ListedSchedule] {
        try inner.schedules(of: tenant, after: key, isParkedOnly: isParkedOnly, countMax: countMax)
    }

    func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
        try inner.dueSchedules(question)
    }

    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] { [] }

    func snapshot(
        of aggregate: AggregateName, in tenant: TenantID, at version: Version
    ) throws(StorageError) -> StoredSnapshot? { nil }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        try inner.position(of: tenant, asOf: time)
    }

    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version { try inner.version(of: aggregate, in: tenant, asOf: position) }

    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position? { try inner.position(of: version, of: aggregate, in: tenant) }

    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        try inner.page(of: aggregate, in: tenant, versions: range, bounds: bounds)
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        try inner.page(of: tenant, positions: range, filter: filter, bounds: bounds)
    }
}
