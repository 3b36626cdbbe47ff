public import FoundationEssentials
public import MartletModel
import MartletRecordCodec

/// Where events are kept. Each engine implements this port; everything above it is the same for all.
///
/// The contract, which the conformance suite holds every engine to:
///
/// 1. *One decision.* A writer looks up what ``WriteDecision`` asks for, lets it decide, and stores exactly
///    what the plan says. It has no opinion of its own on versions, ids, positions, snapshots or settings.
/// 2. *Atomic.* All plans of a batch commit in one transaction, or none do. A command of the batch that
///    is refused changes nothing and leaves the others alone.
/// 3. *Durable.* When ``StorageWriter/commit(_:now:)`` returns, the commit record is on disk (or on a
///    synchronous replica).
/// 4. *Isolated.* What the decision is based on cannot change before the commit, even by another process on
///    the same storage. Positions and versions are therefore without gap, in commit order.
/// 5. *Honest.* A commit that surely did not happen throws ``StorageError/Kind-swift.enum/unavailable`` or
///    ``StorageError/Kind-swift.enum/full``; one that may have happened throws
///    ``StorageError/Kind-swift.enum/outcomeUnknown``. After either, the next call tries to reach storage
///    anew: no restart is needed.
/// 6. *Verbatim.* Records are handed out byte for byte as the plan encoded them.
/// 7. *Read your writes.* A read that begins after a commit returned sees that commit, and never part of one.
/// 8. *Side by side.* Snapshots and settings are kept beside the events and never change them. A tenant's settings
///    revision grows by one with each change of its settings, in the same transaction.
/// 9. *Probed.* A commit of an empty batch tells whether one can be stored: it writes something that changes nothing, as
///    durably as any other, and throws what any other would throw.
///
/// Engines block: a writer and a reader are each used by one thread at a time, which is not an event loop.
public protocol StorageEngine: Sendable {
    /// The engine's name as it is reported: `sqlite`, `postgresql`, `memory`.
    var name: String { get }
    /// The version of the storage schema that this engine reads and writes.
    var schemaVersion: UInt32 { get }
    /// How many writers may commit side by side: 1 where the storage has only one.
    var writersMax: Int { get }
    /// How many readers are of use.
    var readersMax: Int { get }
    /// Whether a read takes this process's processors, and not mostly waits for another process.
    var readsTakeProcessors: Bool { get }
    /// How many of one tenant's reads may be under way at a time: 1 to ``readersMax``.
    var readersPerTenantMax: Int { get }

    /// Updates the schema: creates it, or migrates it step by step. Safe when two servers do so at
    /// once. Called once, before any writer or reader is made.
    /// - Throws: ``StorageError``; `schemaTooNew` where the schema is newer than the engine knows.
    func prepare() throws(StorageError)

    /// A writer. It connects lazily: making one never fails.
    func makeWriter() -> any StorageWriter

    /// A reader. It connects lazily: making one never fails.
    func makeReader() -> any StorageReader

    /// Waits until another process commits to this storage, or until the time-out, and says what moved.
    /// Nil where no other process can write, or where only the clock tells.
    func makeListener() -> (any StorageListener)?

    /// Makes calls of that kind which wait for something beyond this process fail at once, those under way and those to
    /// come; from any thread, for a server that has to end. A commit that waits ends as
    /// ``StorageError/Kind-swift.enum/outcomeUnknown``. It does not block.
    func interrupt(_ work: StorageWork)
}

/// Which calls ``StorageEngine/interrupt(_:)`` ends.
public enum StorageWork: Hashable, Sendable {
    /// Those of writers.
    case writes
    /// All.
    case all
}

extension StorageEngine {
    /// It does.
    public var readsTakeProcessors: Bool { true }

    /// As many as the engine takes.
    public var readersPerTenantMax: Int { readersMax }

    /// Nothing: no call waits for anything beyond this process for long.
    public func interrupt(_ work: StorageWork) {}
}

/// Commits what is written; used by one thread at a time.
public protocol StorageWriter: AnyObject {
    /// Decides and commits a batch, as the contract of ``StorageEngine`` says.
    ///
    /// - Parameters:
    ///   - batch: commands in the order in which they are decided; of several tenants, at most
    ///     ``Limits/commitEventsMax`` rows unless it is one command.
    ///   - now: the server's clock.
    ///   - lockWait: so long the commit may wait for tenants that another program has locked. Where it is zero, those
    ///     tenants are left out (``CommitResult/lockedTenants``), and the others commit.
    /// - Returns: one outcome a command, in order, and what was committed.
    /// - Throws: ``StorageError``; `locked` where the batch as a whole would have had to wait for longer.
    func commit(_ batch: [WriteCommand], now: Timestamp, lockWait: Duration) throws(StorageError) -> CommitResult

    /// Decides and commits a batch without waiting for locked tenants. Where the commands of some tenants take longer to
    /// decide than those of the others, these need not wait for them: the slower ones are handed over.
    ///
    /// - Parameter handOver: takes commands, as their indices in the batch in order, at most once, before anything is committed,
    ///   and never all of them: of a tenant all commands, or those that are ``WriteCommand/isOfConsumers`` where the others
    ///   need not keep to their order. Nothing of them is decided here: they are to be committed by
    ///   ``commit(_:now:lockWait:)``, by this writer or another one, and have no place among the outcomes.
    /// - Returns: one outcome for each command that was not handed over, in order, and what was committed.
    /// - Throws: ``StorageError``, as ``commit(_:now:lockWait:)`` does; it says nothing of what was handed over.
    func commit(
        _ batch: [WriteCommand], now: Timestamp, handOver: ([Int]) -> Void
    ) throws(StorageError) -> CommitResult
}

extension StorageWriter {
    /// Decides and commits a whole batch: to an engine that asks its storage the same for all, all take as long.
    public func commit(
        _ batch: [WriteCommand], now: Timestamp, handOver: ([Int]) -> Void
    ) throws(StorageError) -> CommitResult {
        try commit(batch, now: now, lockWait: .zero)
    }

    /// Decides and commits a batch, and waits for locked tenants for as long as a call may at most.
    public func commit(_ batch: [WriteCommand], now: Timestamp) throws(StorageError) -> CommitResult {
        try commit(batch, now: now, lockWait: LockWait.max)
    }
}

/// Reads; used by one thread at a time. Each call sees one consistent state.
public protocol StorageReader: AnyObject {
    /// Where several tenants stand, in one round trip, in the order of `tenants`; ``TenantState/empty`` for a
    /// tenant without events and settings.
    func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState]

    /// Which events are at those places; nil where there is none.
    func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?]

    /// A tenant's settings of all kinds, and their revision, which belong together.
    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings

    /// A tenant's consumers in the order of their names, above that one, at most so many.
    func consumers(
        of tenant: TenantID, after name: ConsumerName?, countMax: Int
    ) throws(StorageError) -> [NamedConsumer]

    /// The tenants of a scope that have a consumer of that name, in the order of their ids' bytes and above `tenant`; at
    /// most `countMax`, 1 or more. Where consumers are kept on disk, the cost grows with how many tenants are found and with
    /// how many the scope names, not with how many tenants or consumers are stored.
    func tenants(
        withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(StorageError) -> [TenantID]

    /// A consumer with its slots and workers; nil where there is none.
    func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup?

    /// A consumer's blocked keys in the order of their slots and bytes, those of one slot or (nil) of all, above that key,
    /// at most so many.
    func blockedKeys(
        of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) throws(StorageError) -> [StoredBlockedKey]

    /// Of a consumer's blocked keys the one with the highest ``BlockedKey/since``, and of several of those the last one by
    /// slot and bytes; nil where none is blocked. What it costs does not grow with how many are blocked, where they are
    /// kept on disk.
    func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey?

    /// Schedules of a tenant in the order of their keys, above that one, at most so many; only those that are set aside, or
    /// all. Their events are not read.
    func schedules(
        of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
    ) throws(StorageError) -> [ListedSchedule]

    /// Schedules of any tenants whose time has come.
    func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules

    /// What snapshots an aggregate has, newest first. Their states are not read: one counts as intact where it is as long
    /// as it was saved.
    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo]

    /// The snapshot of that version; nil where there is none (any more).
    func snapshot(
        of aggregate: AggregateName, in tenant: TenantID, at version: Version
    ) throws(StorageError) -> StoredSnapshot?

    /// The last position recorded at or before that moment; ``Position/start`` where there is none.
    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position

    /// The version that an aggregate had as of a position: that of its last event at or before it; 0 where
    /// there is none.
    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version

    /// The position of one event of an aggregate; nil where the aggregate has no such version.
    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position?

    /// Events of one aggregate with `range.after < version <= range.to`, in version order or backward.
    /// ``EventPage/scannedTo`` is not used.
    /// - Throws: `historyChanged` where ``PageBounds/following`` is not the event before the page.
    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage

    /// Events of a tenant with `range.after < position <= range.to` that match, in position order or
    /// backward. `range.to` is at most the tenant's head.
    /// - Throws: `historyChanged` where ``PageBounds/following`` is not the event before the page.
    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage
}

extension StorageReader {
    /// Reads the events one by one.
    public func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?] {
        var ids: [UUID?] = []
        for place in places {
            guard place.position > .start else {
                ids.append(nil)
                continue
            }
            let range = PageRange(after: Position(place.position.rawValue - 1), to: place.position)
            let page = try page(
                of: place.tenant, positions: range, filter: .all, bounds: PageBounds(eventsMax: 1, bytesMax: 1))
            ids.append(RecordedEntries.firstEventID(in: page.entries))
        }
        return ids
    }

    /// What is stored of a consumer itself; nil where there is none.
    public func consumer(_ id: ConsumerID) throws(StorageError) -> StoredConsumer? { try group(id)?.consumer }

    /// Where the tenant stands.
    public func tenantState(of tenant: TenantID) throws(StorageError) -> TenantState {
        try tenantStates(of: [tenant])[0]
    }

    /// The tenant's head; ``TenantHead/empty`` for a tenant without events.
    public func head(of tenant: TenantID) throws(StorageError) -> TenantHead { try tenantState(of: tenant).head }

    /// The heads of several tenants in one round trip, in the order of `tenants`.
    public func heads(of tenants: [TenantID]) throws(StorageError) -> [TenantHead] {
        try tenantStates(of: tenants).map(\.head)
    }
}

/// Hears of commits by other processes; used by one thread.
public protocol StorageListener: AnyObject, Sendable {
    /// Waits at most that long for news.
    /// - Returns: tenants that moved, with their head, or with the empty one where settings changed;
    ///   ``StorageNews/unknown`` where something moved and it is not known what, ``StorageNews/reconnected`` after the
    ///   connection was lost: then every tenant of interest is looked at.
    /// - Throws: ``StorageError`` while storage cannot be reached.
    func wait(atMost milliseconds: Int) throws(StorageError) -> StorageNews

    /// Makes ``wait(atMost:)`` return at once, from any thread, now or at its next call; for shutting down.
    func interrupt()
}

/// What a listener heard.
public enum StorageNews: Hashable, Sendable {
    /// These tenants moved to these heads; empty when the time ran out.
    case moved([TenantID: TenantHead])
    /// Something may have moved.
    case unknown
    /// The storage was away, or nobody listened before: something may have moved, and it may have come back with another
    /// past.
    case reconnected
}

/// A range of a page: above `after`, up to and with `to`.
public struct PageRange<Bound: Comparable & Sendable & Hashable>: Hashable, Sendable {
    /// Exclusive lower bound.
    public var after: Bound
    /// Inclusive upper bound.
    public var to: Bound

    /// A range of those bounds.
    public init(after: Bound, to: Bound) {
        self.after = after
        self.to = to
    }
}

/// How much a page holds.
public struct PageBounds: Hashable, Sendable {
    /// Oldest or newest first.
    public var direction: Direction
    /// At most this many events, 1 or more.
    public var eventsMax: Int
    /// At most this many bytes of entries; a page holds one event even if that alone is larger.
    public var bytesMax: Int
    /// A filtered read by position looks at no more events than about this before it answers, perhaps with
    /// an empty page.
    public var scanMax: Int
    /// Id of the event right before the page, in the page's direction, for a page that goes on from another one: where
    /// another event is there by now, or none, the storage has come back with another past. Nil for a page that goes on
    /// from nothing.
    public var following: UUID?
    /// Whether ``EventPage/endEventID`` is wanted where that costs a look-up: where the last event that was looked at does
    /// not match.
    public var marksEnd = false

    /// Bounds of those parts.
    public init(
        direction: Direction = .forward, eventsMax: Int = .max, bytesMax: Int, scanMax: Int = .max,
        following: UUID? = nil, marksEnd: Bool = false
    ) {
        self.following = following
        self.marksEnd = marksEnd
        self.direction = direction
        self.eventsMax = eventsMax
        self.bytesMax = bytesMax
        self.scanMax = scanMax
    }
}

extension PageBounds {
    /// Holds the event before a page against the one that the page is to follow.
    ///
    /// - Parameter eventID: the id of the event of that number.
    /// - Throws: `historyChanged`.
    public func check<Bound: RawRepresentable<UInt64>>(
        _ range: PageRange<Bound>, _ eventID: (Bound) -> UUID?
    ) throws(StorageError) {
        guard let following else { return }
        let before = direction == .forward ? range.after : Bound(rawValue: range.to.rawValue + 1)
        guard before.flatMap(eventID) != following else { return }
        throw .historyChanged
    }
}

/// The place of an event.
public struct EventPlace: Hashable, Sendable {
    /// The tenant.
    public var tenant: TenantID
    /// The position, from 1.
    public var position: Position

    /// A place of those parts.
    public init(tenant: TenantID, position: Position) {
        self.tenant = tenant
        self.position = position
    }
}

/// The result of a batch.
public struct CommitResult: Sendable {
    /// One outcome a command, in the order of the batch.
    public var outcomes: [WriteOutcome]
    /// The events that were committed, one run a tenant that has any.
    public var runs: [RecordedRun]
    /// Tenants that another program had locked: nothing of theirs was decided, and the outcomes of their commands are
    /// refusals that say so.
    public var lockedTenants: Set<TenantID>

    /// A result of those parts.
    public init(outcomes: [WriteOutcome], runs: [RecordedRun], lockedTenants: Set<TenantID> = []) {
        self.outcomes = outcomes
        self.runs = runs
        self.lockedTenants = lockedTenants
    }

    /// The result of storing the plan of those commands of a batch whose tenants were not locked.
    public init(_ plan: BatchPlan, of batch: [WriteCommand], without locked: Set<TenantID>) {
        self.init(plan)
        guard !locked.isEmpty else { return }
        var decided = outcomes.makeIterator()
        outcomes = batch.map { command in
            if !locked.contains(command.tenant), let outcome = decided.next() { return outcome }
            return .refused(MartletError(.tenantLocked))
        }
        lockedTenants = locked
    }

    /// The result of storing a plan.
    public init(_ plan: BatchPlan) {
        self.init(outcomes: plan.outcomes, runs: plan.tenants.compactMap { $0.run })
    }
}

/// How storage failed.
public struct StorageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What a caller must tell apart.
    public enum Kind: Hashable, Sendable {
        /// Storage cannot be reached, or refused; nothing was written.
        case unavailable
        /// The commit may or may not have happened.
        case outcomeUnknown
        /// No room; nothing was written.
        case full
        /// What is stored cannot be what was written.
        case corrupted
        /// The schema is newer than this server knows.
        case schemaTooNew
        /// The storage is not set up as it must be.
        case misconfigured
        /// Older settings that the tenant's open calls still use leave no room for the current ones; nothing was delivered.
        case memoryFull
        /// The storage has come back with another past than the one that a read goes on from.
        case historyChanged
        /// Another program has locked what is to be written, for longer than was to be waited; nothing was written.
        case locked
    }

    /// What is read is not what came before.
    public static let historyChanged = StorageError(
        .historyChanged, "the storage has a different event than before, or none: it was restored, or has failed over")

    /// A tenant is locked.
    public static let tenantLocked = StorageError(.locked, "another program has locked the tenant's row")

    /// What a caller must tell apart.
    public var kind: Kind
    /// For who runs the server: what happened, and the next step where there is one. It may name hosts, paths and what
    /// libraries said, and is for the log. No credentials.
    public var description: String
    /// Where in the caller's own data something is damaged, as in `position 7`: all of an error that a peer may be told.
    public var place: String?

    /// An error of those parts.
    public init(_ kind: Kind, _ description: String, place: String? = nil) {
        self.kind = kind
        self.description = description
        self.place = place
    }
}
