import FoundationEssentials
import MartletModel
public import MartletStorage
import NIOConcurrencyHelpers

/// An engine that fails as it is told to, and counts what it is asked; otherwise another engine.
public final class FaultyEngine: WrappingEngine {
    /// What happens to commits.
    public enum CommitFault: Hashable, Sendable {
        /// Nothing.
        case none
        /// Storage cannot be reached: nothing is written.
        case unavailable
        /// Storage is full: nothing is written.
        case full
        /// The commit happens, and nobody can tell.
        case unknownAfterCommit
        /// The commit does not happen, and nobody can tell.
        case unknownWithoutCommit
    }

    /// What was asked of storage so far.
    public struct Asked: Hashable, Sendable {
        /// Calls that ask where tenants stand.
        public var tenantStates = 0
        /// The tenants of those calls.
        public var tenants = 0
        /// Pages of tenants' histories.
        public var pages = 0
    }

    private struct Faults {
        var asked = Asked()
        var commit = CommitFault.none
        var commitsLeft = 0
        var readsToFail = 0
    }

    /// The engine behind.
    public let base: any StorageEngine
    private let faults = NIOLockedValueBox(Faults())

    /// An engine that does what `base` does, until it is told otherwise.
    public init(_ base: any StorageEngine) { self.base = base }

    /// What was asked of storage so far.
    public var asked: Asked { faults.withLockedValue { $0.asked } }

    /// Fails the next commits that way; by default all from now on.
    public func failCommits(_ fault: CommitFault, count: Int = .max) {
        faults.withLockedValue {
            $0.commit = fault
            $0.commitsLeft = fault == .none ? 0 : count
        }
    }

    /// Fails reads from now on, or no more.
    public func failReads(_ fails: Bool) { failReads(count: fails ? .max : 0) }

    /// Fails so many reads more.
    public func failReads(count: Int) { faults.withLockedValue { $0.readsToFail = count } }

    /// A writer that fails as it is told to.
    public func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), engine: self) }

    /// A reader that fails as it is told to.
    public func makeReader() -> any StorageReader { Reader(base: base.makeReader(), engine: self) }

    /// What happens to a commit that is only a probe: it takes none of those that are to fail.
    private var fault: CommitFault { faults.withLockedValue { $0.commitsLeft > 0 ? $0.commit : .none } }

    private func nextFault() -> CommitFault {
        faults.withLockedValue { faults in
            guard faults.commitsLeft > 0 else { return .none }
            faults.commitsLeft -= 1
            return faults.commit
        }
    }

    private func checkRead(_ count: (inout Asked) -> Void = { _ in }) throws(StorageError) {
        let fails = faults.withLockedValue { faults in
            count(&faults.asked)
            guard faults.readsToFail > 0 else { return false }
            if faults.readsToFail < .max { faults.readsToFail -= 1 }
            return true
        }
        if fails { throw StorageError(.unavailable, "a read was made to fail") }
    }

    /// A probe is not counted, and is none of the reads that are to fail.
    private func checkProbe() throws(StorageError) {
        guard faults.withLockedValue({ $0.readsToFail > 0 }) else { return }
        throw StorageError(.unavailable, "a probe was made to fail")
    }

    private final class Writer: StorageWriter {
        let base: any StorageWriter
        let engine: FaultyEngine
        init(base: any StorageWriter, engine: FaultyEngine) {
            self.base = base
            self.engine = engine
        }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            switch batch.isEmpty ? engine.fault : engine.nextFault() {
            case .none: return try base.commit(batch, now: now, lockWait: lockWait)
            case .unavailable: throw StorageError(.unavailable, "a commit was made to fail")
            case .full: throw StorageError(.full, "a commit was made to find no room")
            case .unknownWithoutCommit: throw StorageError(.outcomeUnknown, "a commit was made to get lost")
            case .unknownAfterCommit:
                _ = try base.commit(batch, now: now, lockWait: lockWait)
                throw StorageError(.outcomeUnknown, "a commit's answer was made to get lost")
            }
        }
    }

    private final class Reader: StorageReader {
        let base: any StorageReader
        let engine: FaultyEngine
        init(base: any StorageReader, engine: FaultyEngine) {
            self.base = base
            self.engine = engine
        }

        func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
            if tenants == [EventStore.serverOwner] {
                try engine.checkProbe()
            } else {
                try engine.checkRead { asked in
                    asked.tenantStates += 1
                    asked.tenants += tenants.count
                }
            }
            return try base.tenantStates(of: tenants)
        }

        func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?] {
            try engine.checkRead()
            return try base.eventIDs(at: places)
        }

        func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
            try engine.checkRead()
            return try base.settings(of: tenant)
        }

        func consumers(
            of tenant: TenantID, after name: ConsumerName?, countMax: Int
        ) throws(StorageError) -> [NamedConsumer] {
            try engine.checkRead()
            return try base.consumers(of: tenant, after: name, countMax: countMax)
        }

        func tenants(
            withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
        ) throws(StorageError) -> [TenantID] {
            try engine.checkRead()
            return try base.tenants(withConsumer: name, in: scope, after: tenant, countMax: countMax)
        }

        func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
            try engine.checkRead()
            return try base.group(id)
        }

        func blockedKeys(
            of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
        ) throws(StorageError) -> [StoredBlockedKey] {
            try engine.checkRead()
            return try base.blockedKeys(of: id, slot: slot, after: key, countMax: countMax)
        }

        func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
            try engine.checkRead()
            return try base.lastBlockedKey(of: id)
        }

        func schedules(
            of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
        ) throws(StorageError) -> [ListedSchedule] {
            try engine.checkRead()
            return try base.schedules(of: tenant, after: key, isParkedOnly: isParkedOnly, countMax: countMax)
        }

        func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
            try engine.checkRead()
            return try base.dueSchedules(question)
        }

        func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
            try engine.checkRead()
            return try base.snapshots(of: aggregate, in: tenant)
        }

        func snapshot(
            of aggregate: AggregateName, in tenant: TenantID, at version: Version
        ) throws(StorageError) -> StoredSnapshot? {
            try engine.checkRead()
            return try base.snapshot(of: aggregate, in: tenant, at: version)
        }

        func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
            try engine.checkRead()
            return try base.position(of: tenant, asOf: time)
        }

        func version(
            of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
        ) throws(StorageError) -> Version {
            try engine.checkRead()
            return try base.version(of: aggregate, in: tenant, asOf: position)
        }

        func position(
            of version: Version, of aggregate: AggregateName, in tenant: TenantID
        ) throws(StorageError) -> Position? {
            try engine.checkRead()
            return try base.position(of: version, of: aggregate, in: tenant)
        }

        func page(
            of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
        ) throws(StorageError) -> EventPage {
            try engine.checkRead()
            return try base.page(of: aggregate, in: tenant, versions: range, bounds: bounds)
        }

        func page(
            of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
        ) throws(StorageError) -> EventPage {
            try engine.checkRead { $0.pages += 1 }
            return try base.page(of: tenant, positions: range, filter: filter, bounds: bounds)
        }
    }
}
