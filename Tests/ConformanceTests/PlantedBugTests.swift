import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// The suite must fail for an engine that does wrong.
@Suite struct PlantedBugTests {
    @Test(arguments: Mutant.Bug.allCases)
    func theSuiteFindsThePlantedBug(_ bug: Mutant.Bug) async throws {
        var found: [String] = []
        let clauses = ConformanceSuite.clauses.filter { clause in
            clause.id != "append.large" && !["race", "consumer"].contains { clause.id.hasPrefix($0) }
        }
        for clause in clauses {
            let subject = try EngineSubject(
                Mutant(bug), eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: .silent)
            let failed = await withTaskGroup(of: Bool.self) { group in
                group.addTask {
                    do {
                        try await clause.check(subject, random: SeededGenerator(seed: 1))
                        return false
                    } catch { return true }
                }
                // A subscription that waits for what never comes has failed, too.
                group.addTask {
                    try? await Task.sleep(for: .seconds(2))
                    return true
                }
                let first = await group.next() ?? true
                group.cancelAll()
                return first
            }
            await subject.shutDown()
            if failed {
                found.append(clause.id)
                break
            }
        }
        #expect(!found.isEmpty, "no clause noticed \(bug)")
    }
}

/// The oracle with a bug.
final class Mutant: StorageEngine {
    enum Bug: String, CaseIterable, Sendable, CustomStringConvertible {
        case noneIsAny, conflictWritesTheRest, replayIgnoresContent, loadLosesTheLastOfAPage, readIgnoresFilter
        case backwardIsForward, asOfIsNow, headLagsBehind, tenantsAreOne, pageRepeatsItsFirst, timeIsOff
        case snapshotsComeOldestFirst, snapshotsAreForgotten, oneSnapshotIsKept

        var description: String { rawValue }
    }

    private let base = MemoryEngine(writersMax: 1)
    private let bug: Bug

    init(_ bug: Bug) { self.bug = bug }

    let name = "mutant"
    let schemaVersion: UInt32 = 1
    let writersMax = 1
    let readersMax = 1

    func prepare() throws(StorageError) {}

    func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), bug: bug) }

    func makeReader() -> any StorageReader { Reader(base: base.makeReader(), bug: bug) }

    func makeListener() -> (any StorageListener)? { nil }

    private static let onlyTenant = TenantID(.init(high: 1, low: 1))

    private final class Writer: StorageWriter {
        let base: any StorageWriter
        let bug: Bug
        init(base: any StorageWriter, bug: Bug) {
            self.base = base
            self.bug = bug
        }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            let planted = batch.map { plant($0) }
            var result = try base.commit(planted, now: now)
            for (index, outcome) in result.outcomes.enumerated() {
                if bug == .conflictWritesTheRest, case .versionConflict(let conflicts) = outcome,
                    case .append(var rest) = planted[index]
                {
                    rest.aggregates.removeAll { part in conflicts.contains { $0.aggregate == part.aggregate } }
                    if !rest.aggregates.isEmpty { _ = try base.commit([.append(rest)], now: now) }
                }
                if bug == .replayIgnoresContent, case .eventIDsReused(let ids) = outcome, let first = ids.first {
                    result.outcomes[index] = .appended(
                        AppendReceipt(
                            aggregates: [], firstPosition: first.position, lastPosition: first.position,
                            recordedAt: now,
                            replayed: true))
                }
                if bug == .snapshotsAreForgotten, case .change(.saveSnapshot(let request, _)) = planted[index] {
                    let version = DeleteSnapshotsRequest(
                        tenant: request.tenant, aggregate: request.aggregate, version: request.version)
                    _ = try base.commit([.change(.deleteSnapshots(version))], now: now)
                }
            }
            return result
        }

        private func plant(_ command: WriteCommand) -> WriteCommand {
            switch command {
            case .append(var request):
                if bug == .tenantsAreOne { request.tenant = Mutant.onlyTenant }
                if bug == .noneIsAny {
                    for index in request.aggregates.indices where request.aggregates[index].expected == .none {
                        request.aggregates[index].expected = .any
                    }
                }
                return .append(request)
            case .change(.saveSnapshot(let request, _)) where bug == .oneSnapshotIsKept:
                return .change(.saveSnapshot(request, kept: 1))
            case .change: return command
            }
        }
    }

    private final class Reader: StorageReader {
        let base: any StorageReader
        let bug: Bug
        init(base: any StorageReader, bug: Bug) {
            self.base = base
            self.bug = bug
        }

        private func tenant(_ id: TenantID) -> TenantID { bug == .tenantsAreOne ? Mutant.onlyTenant : id }

        func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
            try base.tenantStates(of: tenants.map { tenant($0) }).map { tenantState in
                var tenantState = tenantState
                if bug == .headLagsBehind, tenantState.head.position > .start {
                    tenantState.head.position = Position(tenantState.head.position.rawValue - 1)
                }
                return tenantState
            }
        }

        func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
            try base.settings(of: self.tenant(tenant))
        }

        func consumers(
            of tenant: TenantID, after name: ConsumerName?, countMax: Int
        ) throws(StorageError) -> [NamedConsumer] {
            try base.consumers(of: self.tenant(tenant), after: name, countMax: countMax)
        }

        func tenants(
            withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
        ) throws(StorageError) -> [TenantID] {
            try base.tenants(withConsumer: name, in: scope, after: tenant, countMax: countMax)
        }

        func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
            try base.group(id)
        }

        func blockedKeys(
            of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
        ) throws(StorageError) -> [StoredBlockedKey] {
            try base.blockedKeys(of: id, slot: slot, after: key, countMax: countMax)
        }

        func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
            try base.lastBlockedKey(of: id)
        }

        func schedules(
            of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
        ) throws(StorageError) -> [ListedSchedule] {
            try base.schedules(of: self.tenant(tenant), after: key, isParkedOnly: isParkedOnly, countMax: countMax)
        }

        func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
            try base.dueSchedules(question)
        }

        func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
            let keys = try base.snapshots(of: aggregate, in: self.tenant(tenant))
            return bug == .snapshotsComeOldestFirst ? keys.reversed() : keys
        }

        func snapshot(
            of aggregate: AggregateName, in tenant: TenantID, at version: Version
        ) throws(StorageError) -> StoredSnapshot? {
            try base.snapshot(of: aggregate, in: self.tenant(tenant), at: version)
        }

        func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
            let time = bug == .timeIsOff ? Timestamp(microseconds: time.microseconds - 1) : time
            return try base.position(of: self.tenant(tenant), asOf: time)
        }

        func version(
            of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
        ) throws(StorageError) -> Version {
            try base.version(of: aggregate, in: self.tenant(tenant), asOf: bug == .asOfIsNow ? .max : position)
        }

        func position(
            of version: Version, of aggregate: AggregateName, in tenant: TenantID
        ) throws(StorageError) -> Position? {
            try base.position(of: version, of: aggregate, in: self.tenant(tenant))
        }

        func page(
            of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
        ) throws(StorageError) -> EventPage {
            let page = try base.page(
                of: aggregate, in: self.tenant(tenant), versions: range, bounds: turned(bounds))
            return broken(page)
        }

        func page(
            of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
        ) throws(StorageError) -> EventPage {
            let filter = bug == .readIgnoresFilter ? .all : filter
            let page = try base.page(
                of: self.tenant(tenant), positions: range, filter: filter, bounds: turned(bounds))
            return broken(page)
        }

        private func turned(_ bounds: PageBounds) -> PageBounds {
            var bounds = bounds
            if bug == .backwardIsForward { bounds.direction = .forward }
            return bounds
        }

        private func broken(_ page: EventPage) -> EventPage {
            guard bug == .loadLosesTheLastOfAPage || bug == .pageRepeatsItsFirst, page.count > 1,
                let events = try? RecordedEntries.decode(page.entries), let first = events.first
            else { return page }
            let kept = bug == .pageRepeatsItsFirst ? [first] + events : Array(events.dropLast())
            var page = page
            page.entries = ByteBuffer()
            page.count = kept.count
            for event in kept {
                guard let body = try? EncodedEvent(event.event).body else { continue }
                RecordedEntries.write(
                    position: event.position, version: event.version, recordedAt: event.recordedAt,
                    aggregate: event.aggregate, body: body, to: &page.entries)
            }
            return page
        }
    }
}
