import FoundationEssentials
import MartletModel
import MartletStorage
import MartletSubscriptions
import MartletTenants

/// Holds what is remembered of followed tenants against where they stand in storage, on a storage thread.
struct TenantStateCheck: Sendable {
    /// Events of one tenant that are compared at a time.
    private static let marksAtOnce = 1_000

    let hub: EventHub
    let settings: SettingsCache
    /// Forgets the pages that were read of a tenant.
    let forgetPages: @Sendable (TenantID) -> Void

    /// What is known of a tenant before storage is asked: an answer is never older, unless it is of another past.
    private struct Known {
        let asked: TenantStateRefresh.Asked
        let feed: TenantFeed
        let head: TenantHead

        /// Whether storage must say which event is at the head that is known.
        func isBehind(_ tenantState: TenantState) -> Bool {
            head.eventID != nil && head.position < tenantState.head.position
        }

        /// Whether there are fewer events than were known, or the last one is another.
        func isContradicted(by tenantState: TenantState) -> Bool {
            if tenantState.head.position != head.position { return tenantState.head.position < head.position }
            guard head.eventID != nil else { return false }
            return tenantState.head.eventID != head.eventID || isStoredAgain(tenantState)
        }

        /// Whether the last event is the same one, stored a second time: a client has sent again what was lost. What came
        /// before it may be anything.
        func isStoredAgain(_ tenantState: TenantState) -> Bool {
            tenantState.head.position == head.position && tenantState.head.eventID == head.eventID
                && tenantState.head.recordedAt != head.recordedAt
        }
    }

    /// Takes in where tenants stand. Where the storage has come back with another past, their feeds are told.
    func look(after asked: [TenantStateRefresh.Asked], _ reader: any StorageReader) throws(StorageError) {
        let known = asked.compactMap { asked in
            hub.followed(asked.tenant).map { Known(asked: asked, feed: $0, head: $0.head) }
        }
        let tenantStates = try reader.tenantStates(of: known.map(\.asked.tenant))
        let behind = zip(known, tenantStates).filter { $0.isBehind($1) }.map(\.0)
        let ids =
            behind.isEmpty
            ? []
            : try reader.eventIDs(at: behind.map { EventPlace(tenant: $0.asked.tenant, position: $0.head.position) })
        let changed = Set(zip(behind, ids).filter { $0.head.eventID != $1 }.map(\.0.asked.tenant))
        for (known, tenantState) in zip(known, tenantStates) {
            let tenant = known.asked.tenant
            if known.asked.overPast == known.feed.past || known.isContradicted(by: tenantState)
                || changed.contains(tenant)
            {
                try compare(known, tenantState, reader)
            } else if known.asked.overPast != nil {
                // What was found then has been dealt with.
                continue
            }
            // Settings first: what was appended after them is delivered under them.
            try hub.refreshSettings(tenant, tenantState, settings, reader)
            hub.headMoved(tenant, to: tenantState.head)
        }
    }

    /// Finds how far back the past is still the same, and tells the feed.
    private func compare(
        _ known: Known, _ tenantState: TenantState, _ reader: any StorageReader
    ) throws(StorageError) {
        let feed = known.feed
        // Of an event that was stored again, its id says nothing of what is before it.
        let marks =
            known.isStoredAgain(tenantState) ? feed.marks.filter { $0.position < known.head.position } : feed.marks
        var comparable = Position.start
        let same = try countSame(marks, feed.tenant, reader)
        if same > 0 { comparable = marks[same - 1].position }
        if same < marks.count {
            // In between there may be events in memory.
            let finer = feed.marks(after: comparable, to: marks[same].position, max: Self.marksAtOnce)
            let same = try countSame(finer, feed.tenant, reader)
            // They are of use only where none is missing before them.
            if same > 0 { comparable = finer[same - 1].position }
        }
        settings.forget(feed.tenant)
        forgetPages(feed.tenant)
        hub.historyChanged(
            feed, comparable: min(comparable, tenantState.head.position), head: tenantState.head,
            settings: try settings.inForce(feed.tenant, tenantState, reader))
    }

    /// How many of the first marks are still so.
    private func countSame(
        _ marks: [EventMark], _ tenant: TenantID, _ reader: any StorageReader
    ) throws(StorageError) -> Int {
        guard !marks.isEmpty else { return 0 }
        let ids = try reader.eventIDs(at: marks.map { EventPlace(tenant: tenant, position: $0.position) })
        return zip(marks, ids).prefix { $0.eventID == $1 }.count
    }
}

extension EventHub {
    /// Has a tenant's subscriptions go by the settings that it has by now, or end where there is no memory for these, or they
    /// are damaged: that is no matter of other tenants.
    func refreshSettings(
        _ tenant: TenantID, _ tenantState: TenantState, _ settings: SettingsCache, _ reader: any StorageReader
    ) throws(StorageError) {
        let epoch = settings.epoch
        switch try settings.inForce(tenant, tenantState, reader) {
        case .success(let settings): settingsChanged(tenant, to: settings)
        case .failure(let error):
            settingsFailed(tenant, epoch: epoch, revision: tenantState.settingsRevision, error)
        }
    }
}

extension SettingsCache {
    /// The settings that a tenant has by now; a failure where there is no memory for them, or they are damaged.
    fileprivate func inForce(
        _ tenant: TenantID, _ tenantState: TenantState, _ reader: any StorageReader
    ) throws(StorageError) -> Result<TenantSettings, MartletError> {
        do throws(StorageError) {
            return .success(try resolve(tenant, tenantState, reader: reader))
        } catch {
            guard error.kind == .memoryFull || error.kind == .corrupted else { throw error }
            return .failure(MartletError(error))
        }
    }
}
