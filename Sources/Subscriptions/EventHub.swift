import FoundationEssentials
import HeapModule
public import MartletModel
public import MartletStorage
public import MartletTenants
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// Fans committed events out to those who follow their tenant.
///
/// For each tenant that is followed the hub keeps a ``TenantFeed``: the head and the recent events in memory.
/// Nothing is kept of the others. Tenants do not wait for each other: each feed has a lock of its own, and
/// the table of feeds is spread over several.
public final class EventHub: Sendable {
    private struct Entry {
        let feed: TenantFeed
        var followers: Int
    }

    private static let shardCount = 16

    private let limits: Limits
    private let shards: [NIOLockedValueBox<[TenantID: Entry]>]
    private let held: HeldBytes
    /// Numbers the runs, so that the oldest of all tenants can be told.
    private let nextSequence = Atomic<UInt64>(0)
    private let isTrimming = Atomic<Bool>(false)
    private let onDoubt: @Sendable (TenantFeed, _ overPast: UInt64?) -> Void

    /// A hub that nobody follows anything on.
    ///
    /// - Parameter onDoubt: has a tenant's past compared with what the storage holds now. Where it is another one, as is
    ///   certain where the number of the past that is over is given, ``historyChanged(_:comparable:head:)`` is called. It
    ///   may be asked again before that.
    public init(
        limits: Limits, onDoubt: @escaping @Sendable (TenantFeed, _ overPast: UInt64?) -> Void = { _, _ in }
    ) {
        self.limits = limits
        self.onDoubt = onDoubt
        held = HeldBytes(bytesMax: limits.tailBytesMax)
        shards = (0..<Self.shardCount).map { _ in NIOLockedValueBox([:]) }
    }

    /// Bytes of memory that recent events take, over all tenants, with the pages that were made of them last; bounded by
    /// ``Limits/tailBytesMax``.
    public var tailBytes: Int { held.value }

    /// The tenants that somebody follows. After ``StorageNews/unknown`` their heads are read from storage and
    /// given to ``headMoved(_:to:)``.
    public var followedTenants: [TenantID] { shards.flatMap { $0.withLockedValue { Array($0.keys) } } }

    /// Takes in what this server committed. Of one tenant, runs come in position order, after their commit.
    public func publish(_ run: RecordedRun) {
        guard let feed = feed(of: run.tenant) else { return }
        let sequence = nextSequence.wrappingAdd(1, ordering: .relaxed).newValue
        let (woken, doubt) = feed.publish(run, sequence: sequence)
        Self.wake(woken)
        if let doubt { onDoubt(feed, doubt.overPast) }
        if held.isOver { trim() }
    }

    /// Takes in that a tenant has this head, as storage says; an older head than the one known changes nothing.
    /// What came in between is not in memory: followers read it from storage.
    public func headMoved(_ tenant: TenantID, to head: TenantHead) {
        guard let feed = feed(of: tenant) else { return }
        Self.wake(feed.headMoved(to: head))
    }

    /// Takes in a page of a tenant's history that others committed, for all who follow: what is read without a filter.
    ///
    /// - Parameters:
    ///   - following: the id of the event at that position; nil where it is not known.
    ///   - past: the number of the past that was read.
    func fill(_ feed: TenantFeed, _ page: EventPage, after: Position, following: UUID?, past: UInt64) {
        // The first who gets the page has done it for the others.
        guard !feed.holds(after: after) else { return }
        let previous = TenantHead(position: after, recordedAt: Timestamp(microseconds: 0), eventID: following)
        guard let run = RecordedRun(page: page, of: feed.tenant, after: previous) else { return }
        feed.fill(run, past: past, sequence: nextSequence.wrappingAdd(1, ordering: .relaxed).newValue)
        if held.isOver { trim() }
    }

    /// What was delivered of a tenant does not fit what the storage holds: the past of that number is over.
    public func doubt(_ feed: TenantFeed, past: UInt64) { onDoubt(feed, past) }

    /// Whether it is of interest that a tenant has that head, or other settings, where the head is the empty one.
    public func isNews(_ head: TenantHead, of tenant: TenantID) -> Bool {
        guard let feed = feed(of: tenant) else { return false }
        return head == .empty || head.position > feed.head.position
    }

    /// Takes in that the storage has come back with another past of a tenant: nothing of before is believed, and those who
    /// have got more than is comparable end.
    ///
    /// - Parameters:
    ///   - comparable: up to here nothing has changed.
    ///   - head: where the tenant is now.
    ///   - settings: those in force now; a failure where they cannot be had.
    public func historyChanged(
        _ feed: TenantFeed, comparable: Position, head: TenantHead, settings: Result<TenantSettings, MartletError>
    ) {
        Self.wake(feed.historyChanged(comparable: comparable, head: head, settings: settings))
    }

    /// The feed of a tenant that somebody follows.
    public func followed(_ tenant: TenantID) -> TenantFeed? { feed(of: tenant) }

    /// Takes in a tenant's settings: events that are delivered from now on are upcast by them. Older settings than those
    /// known change nothing.
    public func settingsChanged(_ tenant: TenantID, to settings: TenantSettings) {
        guard let feed = feed(of: tenant) else { return }
        Self.wake(feed.adopt(settings))
    }

    /// Takes in that a tenant's settings of that revision cannot be had: subscriptions that need them end with that error,
    /// unless the feed knows these settings, or newer ones, already.
    ///
    /// - Parameter epoch: the one in which the revision was seen (``TenantSettings/epoch``).
    public func settingsFailed(_ tenant: TenantID, epoch: UInt64, revision: UInt64, _ error: MartletError) {
        guard let feed = feed(of: tenant) else { return }
        Self.wake(feed.settingsFailed(error, epoch: epoch, revision: revision))
    }

    /// Follows a tenant: from now on its feed misses nothing that is published. Each call is paired with one
    /// of ``unfollow(_:)``.
    public func follow(_ tenant: TenantID) -> TenantFeed {
        shard(of: tenant).withLockedValue { entries in
            if let feed = entries[tenant]?.feed {
                entries[tenant]?.followers += 1
                return feed
            }
            let feed = TenantFeed(tenant: tenant, limits: limits, held: held)
            entries[tenant] = Entry(feed: feed, followers: 1)
            return feed
        }
    }

    /// Ends one ``follow(_:)``; with the last one the tenant's events leave memory.
    /// - Returns: whether it was the last one.
    @discardableResult
    public func unfollow(_ feed: TenantFeed) -> Bool {
        let isLast = shard(of: feed.tenant).withLockedValue { entries in
            guard let followers = entries[feed.tenant]?.followers else { return false }
            if followers > 1 {
                entries[feed.tenant]?.followers = followers - 1
                return false
            }
            entries[feed.tenant] = nil
            return true
        }
        if isLast { feed.close() }
        return isLast
    }

    private func shard(of tenant: TenantID) -> NIOLockedValueBox<[TenantID: Entry]> {
        shards[Int(UInt(bitPattern: tenant.hashValue) % UInt(Self.shardCount))]
    }

    private func feed(of tenant: TenantID) -> TenantFeed? {
        shard(of: tenant).withLockedValue { $0[tenant]?.feed }
    }

    /// Wakes waiters with one task an event loop: a commit that a thousand subscribers wait for costs
    /// the committing thread no thousand switches.
    private static func wake(_ schedulers: [WakeupScheduler]) { for scheduler in schedulers { scheduler.begin() } }

    /// Drops the oldest runs of all tenants until an eighth of the room is free, so that the walk over
    /// the feeds is worth its while. One thread does so at a time.
    private func trim() {
        while held.isOver, !isTrimming.exchange(true, ordering: .acquiring) {
            defer { isTrimming.store(false, ordering: .releasing) }
            let feeds = shards.flatMap { $0.withLockedValue { $0.values.map(\.feed) } }
            var oldest = Heap(
                feeds.compactMap { feed in feed.oldestSequence.map { OldestRun(sequence: $0, feed: feed) } })
            let target = limits.tailBytesMax - limits.tailBytesMax / 8
            var dropped = 0
            while tailBytes > target, let next = oldest.popMin() {
                let change = next.feed.dropOldest()
                dropped += change.droppedBytes
                if let sequence = change.oldestSequence {
                    oldest.insert(OldestRun(sequence: sequence, feed: next.feed))
                }
            }
            if dropped == 0 { return }
        }
    }
}

/// A feed and the number of the oldest run that it holds.
private struct OldestRun: Comparable {
    let sequence: UInt64
    let feed: TenantFeed

    static func == (a: OldestRun, b: OldestRun) -> Bool { a.sequence == b.sequence }

    static func < (a: OldestRun, b: OldestRun) -> Bool { a.sequence < b.sequence }
}
