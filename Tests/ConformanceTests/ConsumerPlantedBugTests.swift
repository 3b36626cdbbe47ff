import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import NIOPosix
import Testing

/// The clauses about consumers must fail where consumers go wrong.
@Suite struct ConsumerPlantedBugTests {
    private static let clauses = ConformanceSuite.clauses.filter { $0.id.hasPrefix("consumer.") }

    /// - Returns: what the clause says; nil where it holds.
    private func failure(
        of clause: ConformanceClause, on engine: any StorageEngine,
        plant: (EngineSubject) -> any ConformanceSubject = { $0 }
    ) async throws -> String? {
        let subject = try EngineSubject(
            engine, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: .silent)
        var failure: String?
        do {
            try await clause.check(plant(subject), random: SeededGenerator(seed: 1))
        } catch { failure = "\(error)" }
        await subject.shutDown()
        return failure
    }

    /// What must not come has come: nobody has only waited in vain, as on a machine that is slow.
    private func expectFound(_ failure: String?, _ comment: Comment) {
        #expect(failure?.contains("seconds") == false, comment)
    }

    @Test(arguments: ConsumerMutant.Bug.allCases)
    func theClausesFindABugOfTheStorage(_ bug: ConsumerMutant.Bug) async throws {
        for clause in Self.clauses where bug.clauses.contains(clause.id) {
            let failure = try await failure(of: clause, on: ConsumerMutant(bug))
            expectFound(failure, "\(clause) with \(bug): \(failure ?? "it holds")")
        }
    }

    @Test(arguments: ["consumer.ack", "consumer.ack.gap", "consumer.ack.slots"])
    func theClausesFindAnAcknowledgementThatSettlesTooMuch(_ id: String) async throws {
        let clause = try #require(Self.clauses.first { $0.id == id })
        let failure = try await failure(of: clause, on: MemoryEngine()) { GenerousSubject(base: $0) }
        expectFound(failure, "\(clause): \(failure ?? "it holds")")
    }

    /// What the bugs are planted in keeps the contract without them, as far as they are looked for.
    @Test(arguments: Self.clauses.filter { ConsumerMutant.Bug.allClauses.contains($0.id) })
    func withoutABugTheClausesHold(_ clause: ConformanceClause) async throws {
        #expect(try await failure(of: clause, on: ConsumerMutant(nil)) == nil)
    }

    @Test func eachBugHasAClause() {
        for bug in ConsumerMutant.Bug.allCases {
            #expect(!bug.clauses.isEmpty && bug.clauses.isSubset(of: Self.clauses.map(\.id)), "\(bug)")
        }
    }
}

/// The oracle with a bug in what it stores of consumers, or says of that.
final class ConsumerMutant: WrappingEngine {
    enum Bug: String, CaseIterable, Sendable, CustomStringConvertible {
        /// An acknowledgement moves the checkpoint over a gap: to the head.
        case checkpointGoesOverAGap
        /// A slot moves to another worker, and whoever had it before is not fenced off: its epoch stays.
        case epochsStandStill
        /// Progress is believed whatever the epoch under which it was made.
        case everyEpochIsBelieved
        /// A slot is given to a worker while another one has it.
        case slotsHaveTwoWorkers
        /// A parked key lets the event behind its first one through.
        case parkedKeysGoOn
        /// Who opens a slot is not told of its blocked keys.
        case blockedKeysAreForgotten
        /// An append that reacts to an event settles nothing.
        case reactionsSettleNothing
        /// What failed last is the first blocked key by slot and bytes, or the last one.
        case theFirstKeyFailedLast, theLastKeyFailedLast

        var description: String { rawValue }
    }

    let base: any StorageEngine = MemoryEngine(writersMax: 1)
    private let bug: Bug?

    init(_ bug: Bug?) { self.bug = bug }

    func makeWriter() -> any StorageWriter {
        Writer(base: base.makeWriter(), reader: base.makeReader(), bug: bug)
    }

    func makeReader() -> any StorageReader {
        bug.map { MutantReader(base: base.makeReader(), bug: $0) } ?? base.makeReader()
    }

    private final class Writer: StorageWriter {
        let base: any StorageWriter
        let reader: any StorageReader
        let bug: Bug?

        init(base: any StorageWriter, reader: any StorageReader, bug: Bug?) {
            self.base = base
            self.reader = reader
            self.bug = bug
        }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            // One by one: each is planted as if the ones before it were stored.
            var all = CommitResult(outcomes: [], runs: [])
            for command in batch {
                guard case .change(.consumer(let change)) = command else {
                    add(try base.commit([try plant(command)], now: now, lockWait: lockWait), to: &all)
                    continue
                }
                var result = try base.commit([try plant(change)], now: now, lockWait: lockWait)
                if case .consumer(.tended(let view))? = result.outcomes.first {
                    result.outcomes = [.consumer(.tended(plant(view)))]
                }
                add(result, to: &all)
                if bug == .parkedKeysGoOn, let more = Self.skip(after: change) {
                    _ = try base.commit([more], now: now, lockWait: lockWait)
                }
            }
            return all
        }

        private func add(_ result: CommitResult, to all: inout CommitResult) {
            all.outcomes += result.outcomes
            all.runs += result.runs
        }

        private func plant(_ command: WriteCommand) throws(StorageError) -> WriteCommand {
            guard case .append(var request) = command, let checkpoint = request.checkpoint else { return command }
            switch bug {
            case .reactionsSettleNothing: request.checkpoint = nil
            case .everyEpochIsBelieved:
                let group = try reader.group(ConsumerID(tenant: request.tenant, name: checkpoint.consumer))
                request.checkpoint?.epoch = group?.slot(checkpoint.slot).epoch ?? checkpoint.epoch
            default: break
            }
            return .append(request)
        }

        private func plant(_ change: ConsumerChange) throws(StorageError) -> WriteCommand {
            guard let group = try reader.group(change.consumer) else { return .change(.consumer(change)) }
            var change = change
            switch change.kind {
            case .progress(var savings):
                for index in savings.indices {
                    let slot = group.slot(savings[index].slot)
                    if bug == .checkpointGoesOverAGap {
                        let head = try reader.head(of: change.consumer.tenant)
                        savings[index].change.to = Checkpoint(position: head.position, eventID: head.eventID)
                    }
                    if bug == .epochsStandStill || bug == .everyEpochIsBelieved {
                        savings[index].change.epoch = slot.epoch
                    }
                }
                change.kind = .progress(savings)
            case .tend(var tending) where bug == .epochsStandStill:
                for index in tending.returned.indices {
                    tending.returned[index].epoch = group.slot(tending.returned[index].slot).epoch
                }
                change.kind = .tend(tending)
            default: break
            }
            return .change(.consumer(change))
        }

        private func plant(_ view: GroupView) -> GroupView {
            var view = view
            let all = view.workers.flatMap(\.slots).sorted { $0.number < $1.number }
            for index in view.workers.indices {
                if bug == .slotsHaveTwoWorkers { view.workers[index].slots = all }
                for slot in view.workers[index].slots.indices where bug == .epochsStandStill {
                    view.workers[index].slots[slot].epoch = 1
                }
            }
            return view
        }

        /// What lets the events behind those through that were just parked.
        private static func skip(after change: ConsumerChange) -> WriteCommand? {
            guard case .progress(let savings) = change.kind else { return nil }
            let keys = savings.flatMap { saving in
                saving.change.blocked.compactMap { key, blocked -> KeyUnblocking? in
                    guard let blocked, blocked.until == .asked else { return nil }
                    return KeyUnblocking(slot: saving.slot, key: key, skipping: blocked.first.position)
                }
            }
            return keys.isEmpty ? nil : .change(.consumer(ConsumerChange(.unblock(keys), of: change.consumer)))
        }
    }
}

extension ConsumerMutant.Bug {
    /// The clauses of all bugs.
    static var allClauses: Set<String> { allCases.reduce(into: []) { $0.formUnion($1.clauses) } }

    /// Clauses that are there for it: each finds it.
    var clauses: Set<String> {
        switch self {
        case .checkpointGoesOverAGap: ["consumer.ack", "consumer.ack.gap"]
        case .epochsStandStill: ["consumer.share", "consumer.leave", "consumer.replaced"]
        case .everyEpochIsBelieved: ["consumer.reset.late", "consumer.react.fenced"]
        case .reactionsSettleNothing: ["consumer.react", "consumer.react.taken-back", "consumer.react.replay"]
        case .slotsHaveTwoWorkers: ["consumer.share", "consumer.spare"]
        case .parkedKeysGoOn, .blockedKeysAreForgotten: ["consumer.park.order"]
        case .theFirstKeyFailedLast, .theLastKeyFailedLast: ["consumer.failure"]
        }
    }
}

/// Says of no slot which keys of it are blocked, or not which of a consumer's failed last.
private final class MutantReader: StorageReader {
    let base: any StorageReader
    let bug: ConsumerMutant.Bug

    init(base: any StorageReader, bug: ConsumerMutant.Bug) {
        self.base = base
        self.bug = bug
    }

    func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
        let all = try base.blockedKeys(of: id, slot: nil, after: nil, countMax: 100)
        switch bug {
        case .theFirstKeyFailedLast: return all.first
        case .theLastKeyFailedLast: return all.last
        default: return try base.lastBlockedKey(of: id)
        }
    }

    func schedules(
        of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int
    ) throws(StorageError) -> [ListedSchedule] {
        try base.schedules(of: tenant, after: key, isParkedOnly: isParkedOnly, countMax: countMax)
    }

    func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
        try base.dueSchedules(question)
    }

    func blockedKeys(
        of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) throws(StorageError) -> [StoredBlockedKey] {
        guard bug != .blockedKeysAreForgotten || slot == nil else { return [] }
        return try base.blockedKeys(of: id, slot: slot, after: key, countMax: countMax)
    }

    func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
        try base.tenantStates(of: tenants)
    }

    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings { try base.settings(of: tenant) }

    func consumers(
        of tenant: TenantID, after name: ConsumerName?, countMax: Int
    ) throws(StorageError) -> [NamedConsumer] {
        try base.consumers(of: tenant, after: name, countMax: countMax)
    }

    func tenants(
        withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(StorageError) -> [TenantID] {
        try base.tenants(withConsumer: name, in: scope, after: tenant, countMax: countMax)
    }

    func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? { try base.group(id) }

    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
        try base.snapshots(of: aggregate, in: tenant)
    }

    func snapshot(
        of aggregate: AggregateName, in tenant: TenantID, at version: Version
    ) throws(StorageError) -> StoredSnapshot? {
        try base.snapshot(of: aggregate, in: tenant, at: version)
    }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        try base.position(of: tenant, asOf: time)
    }

    func version(
        of aggregate: AggregateName, in tenant: TenantID, asOf position: Position
    ) throws(StorageError) -> Version {
        try base.version(of: aggregate, in: tenant, asOf: position)
    }

    func position(
        of version: Version, of aggregate: AggregateName, in tenant: TenantID
    ) throws(StorageError) -> Position? {
        try base.position(of: version, of: aggregate, in: tenant)
    }

    func page(
        of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        try base.page(of: aggregate, in: tenant, versions: range, bounds: bounds)
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) throws(StorageError) -> EventPage {
        try base.page(of: tenant, positions: range, filter: filter, bounds: bounds)
    }
}
