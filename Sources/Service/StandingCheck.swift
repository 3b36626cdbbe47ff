import FoundationEssentials
import MartletModel
import MartletStorage
import MartletSubscriptions
import MartletTenants

/// Holds what is remembered of followed tenants against where they stand in storage, on a storage thread.
struct StandingCheck: Sendable {
    /// Events of one tenant that are compared at a time.
    private static let marksAtOnce = 1_000

    let hub: EventHub
    let settings: SettingsCache
    /// Forgets the pages that were read of a tenant.
    let forgetPages: @Sendable (TenantID) -> Void

    /// Takes in where tenants stand. Where the storage has come back with another past, their feeds are told.
    func look(after asked: [StandingRefresh.Asked], _ reader: any StorageReader) throws(StorageError) {
        // Before storage is asked: what it says then is never older, unless it has come back with another past.
        let known = asked.compactMap { one in hub.followed(one.tenant).map { (one, $0, $0.head) } }
        let standings = try reader.standings(of: known.map(\.0.tenant))
        let moved = zip(known, standings).filter { $0.0.2.eventID != nil && $0.0.2.position < $0.1.head.position }
        let ids =
            moved.isEmpty
            ? [] : try reader.eventIDs(at: moved.map { EventPlace(tenant: $0.0.0.tenant, position: $0.0.2.position) })
        var changed: Set<TenantID> = []
        for (id, one) in zip(ids, moved) where id != one.0.2.eventID { changed.insert(one.0.0.tenant) }
        for ((one, feed, head), standing) in zip(known, standings) {
            let isOther =
                standing.head.position < head.position
                || (standing.head.position == head.position && head.eventID != nil
                    && standing.head.eventID != head.eventID)
            let isOver = one.overPast == feed.past
            if isOther || isOver || changed.contains(one.tenant) {
                try compare(feed, standing, reader)
            } else if one.overPast != nil {
                // What was found then has been dealt with.
                continue
            }
            // Settings first: what was appended after them is delivered under them.
            try hub.refreshSettings(one.tenant, standing, settings, reader)
            hub.headMoved(one.tenant, to: standing.head)
        }
    }

    /// Finds how far back the past is still the same, and tells the feed.
    private func compare(
        _ feed: TenantFeed, _ standing: TenantStanding, _ reader: any StorageReader
    ) throws(StorageError) {
        let marks = feed.marks
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
        hub.historyChanged(feed, comparable: min(comparable, standing.head.position), head: standing.head)
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
    /// Has a tenant's subscriptions go by the settings that it has by now, or end where there is no memory for these.
    func refreshSettings(
        _ tenant: TenantID, _ standing: TenantStanding, _ settings: SettingsCache, _ reader: any StorageReader
    ) throws(StorageError) {
        do throws(StorageError) {
            settingsChanged(tenant, to: try settings.resolve(tenant, standing, reader: reader))
        } catch {
            guard error.kind == .memoryFull else { throw error }
            settingsFailed(tenant, revision: standing.settingsRevision, MartletError(error))
        }
    }
}
