import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import NIOPosix
import Testing

/// The clauses about schedules must fail where schedules go wrong.
@Suite struct SchedulePlantedBugTests {
    private static let clauses = ConformanceSuite.clauses.filter { $0.id.hasPrefix("schedule.") }

    /// - Returns: what the clause says; nil where it holds.
    private func failure(of clause: ConformanceClause, with bug: ScheduleMutant.Bug?) async throws -> String? {
        let subject = try EngineSubject(
            ScheduleMutant(bug), eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: .silent)
        var failure: String?
        // What never comes is not waited for as long as on a slow machine it may take.
        let patience = Duration.seconds(bug?.isFoundByWaiting == true ? 4 : 60)
        do {
            try await clause.check(subject, random: SeededGenerator(seed: 1), patience: patience)
        } catch { failure = "\(error)" }
        await subject.shutDown()
        return failure
    }

    @Test(arguments: ScheduleMutant.Bug.allCases)
    func theClausesFindABug(_ bug: ScheduleMutant.Bug) async throws {
        for clause in Self.clauses where bug.clauses.contains(clause.id) {
            let failure = try await failure(of: clause, with: bug)
            #expect(failure != nil, "\(clause) with \(bug): it holds")
        }
    }

    /// What the bugs are planted in keeps the contract without them.
    @Test(arguments: Self.clauses)
    func withoutABugTheClausesHold(_ clause: ConformanceClause) async throws {
        #expect(try await failure(of: clause, with: nil) == nil)
    }

    @Test func eachBugHasAClause() {
        for bug in ScheduleMutant.Bug.allCases {
            #expect(!bug.clauses.isEmpty && bug.clauses.isSubset(of: Self.clauses.map(\.id)), "\(bug)")
        }
    }
}

/// The oracle with a bug in what it makes of schedules.
final class ScheduleMutant: WrappingEngine {
    enum Bug: String, CaseIterable, Sendable, CustomStringConvertible {
        /// What is due is appended a second time, under another id.
        case firesTwice
        /// It is appended 2 s before its time.
        case firesEarly
        /// Of several that are due, the last comes first.
        case lastComesFirst
        /// A schedule that is cancelled stays.
        case cancelsNothing
        /// A key that is set again keeps its first event.
        case staysWhereItIs
        /// An append that is refused sets its schedules.
        case refusedAppendsSet
        /// An append that is stored already sets its schedules again.
        case replaysSet
        /// What cannot be appended is deleted.
        case parksNothing
        /// What is due for too long is appended all the same.
        case isNeverTooLate
        /// Whose event is stored is set again.
        case setsAgain

        var description: String { rawValue }

        /// Clauses that are there for it: each finds it.
        var clauses: Set<String> {
            switch self {
            case .firesTwice: ["schedule.past"]
            case .firesEarly: ["schedule.fires"]
            case .lastComesFirst: ["schedule.past"]
            case .cancelsNothing: ["schedule.cancels", "schedule.append"]
            case .staysWhereItIs: ["schedule.moves"]
            case .refusedAppendsSet, .replaysSet: ["schedule.append"]
            case .parksNothing: ["schedule.parks"]
            case .isNeverTooLate: ["schedule.missed"]
            case .setsAgain: ["schedule.again"]
            }
        }

        /// Something does not come, rather than that something wrong does.
        var isFoundByWaiting: Bool { self == .parksNothing || self == .staysWhereItIs }
    }

    let base: any StorageEngine = MemoryEngine(writersMax: 1)
    private let bug: Bug?

    init(_ bug: Bug?) { self.bug = bug }

    func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), reader: base.makeReader(), bug: bug) }

    func makeReader() -> any StorageReader { ScheduleMutantReader(base: base.makeReader(), bug: bug) }

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
                let planted = try plant(command)
                let early = bug == .firesEarly ? Timestamp(microseconds: now.microseconds + 2_000_000) : now
                let isFiring = if case .append(let request) = command { request.firing != nil } else { false }
                let result = try base.commit([planted], now: isFiring ? early : now, lockWait: lockWait)
                all.outcomes += result.outcomes
                all.runs += result.runs
                for more in try more(after: command, result.outcomes[0]) {
                    all.runs += try base.commit([more], now: now, lockWait: lockWait).runs
                }
            }
            return all
        }

        private func plant(_ command: WriteCommand) throws(StorageError) -> WriteCommand {
            switch command {
            case .append(var request):
                switch bug {
                case .cancelsNothing: request.schedules.removeAll { if case .cancel = $0 { true } else { false } }
                case .isNeverTooLate: request.firing?.latenessMillisMax = nil
                default: break
                }
                return .append(request)
            case .change(.schedules(let change)):
                guard case .asked(var changes) = change.kind else { return command }
                switch bug {
                case .cancelsNothing:
                    // Says that it is done: of a key that nobody has.
                    changes = changes.filter { if case .set = $0 { true } else { false } }
                    guard !changes.isEmpty else { return command.withoutChanges }
                case .staysWhereItIs:
                    let known = try reader.schedules(
                        of: change.tenant, after: nil, isParkedOnly: false, countMax: 100)
                    changes = changes.filter { change in !known.contains { $0.key == change.key } }
                case .setsAgain:
                    changes = try changes.map { change throws(StorageError) in try again(change) }
                default: break
                }
                var planted = change
                planted.kind = .asked(changes)
                return .change(.schedules(planted))
            default: return command
            }
        }

        /// The same with an event of another id.
        private func again(_ change: ScheduleChange) throws(StorageError) -> ScheduleChange {
            guard case .set(var schedule) = change else { return change }
            schedule.event = Self.other(schedule.event)
            return .set(schedule)
        }

        private static func other(_ event: EncodedEvent) -> EncodedEvent {
            guard let other = try? EncodedEvent.sample("{}", kind: event.type.text) else { return event }
            return other
        }

        private func more(
            after command: WriteCommand, _ outcome: WriteOutcome
        ) throws(StorageError) -> [WriteCommand] {
            guard case .append(let request) = command else { return [] }
            let sets = WriteCommand.change(
                .schedules(SchedulesChange(.asked(request.schedules), of: request.tenant, countMax: .max)))
            switch (bug, outcome) {
            case (.firesTwice, .appended) where request.firing != nil:
                var again = request
                again.firing = nil
                again.aggregates[0].events = request.aggregates[0].events.map { Self.other($0) }
                return [.append(again)]
            case (.refusedAppendsSet, .versionConflict): return request.schedules.isEmpty ? [] : [sets]
            case (.replaysSet, .appended(let receipt)) where receipt.replayed:
                return request.schedules.isEmpty ? [] : [sets]
            case (.parksNothing, .firing(.parked)):
                guard let key = request.firing?.key else { return [] }
                return [
                    .change(.schedules(SchedulesChange(.asked([.cancel(key)]), of: request.tenant, countMax: .max)))
                ]
            default: return []
            }
        }
    }
}

extension WriteCommand {
    /// The same change of nothing.
    fileprivate var withoutChanges: WriteCommand {
        guard case .change(.schedules(var change)) = self else { return self }
        change.kind = .asked([])
        return .change(.schedules(change))
    }
}

/// Says of schedules that are due what is not so.
private final class ScheduleMutantReader: StorageReader {
    let base: any StorageReader
    let bug: ScheduleMutant.Bug?

    init(base: any StorageReader, bug: ScheduleMutant.Bug?) {
        self.base = base
        self.bug = bug
    }

    func dueSchedules(_ question: DueQuestion) throws(StorageError) -> DueSchedules {
        var question = question
        if bug == .firesEarly { question.now.microseconds += 2_000_000 }
        var found = try base.dueSchedules(question)
        if bug == .lastComesFirst { found.schedules.reverse() }
        return found
    }

    func tenantStates(of tenants: [TenantID]) throws(StorageError) -> [TenantState] {
        try base.tenantStates(of: tenants)
    }

    func eventIDs(at places: [EventPlace]) throws(StorageError) -> [UUID?] {
        try base.eventIDs(at: places)
    }

    func settings(of tenant: TenantID) throws(StorageError) -> StoredSettings {
        try base.settings(of: tenant)
    }

    func consumers(of tenant: TenantID, after name: ConsumerName?, countMax: Int) throws(StorageError)
        -> [NamedConsumer]
    {
        try base.consumers(of: tenant, after: name, countMax: countMax)
    }

    func tenants(
        withConsumer name: ConsumerName, in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(StorageError) -> [TenantID] {
        try base.tenants(withConsumer: name, in: scope, after: tenant, countMax: countMax)
    }

    func group(_ id: ConsumerID) throws(StorageError) -> StoredGroup? {
        try base.group(id)
    }

    func blockedKeys(of id: ConsumerID, slot: Int?, after key: BlockedKeyID?, countMax: Int) throws(StorageError)
        -> [StoredBlockedKey]
    {
        try base.blockedKeys(of: id, slot: slot, after: key, countMax: countMax)
    }

    func lastBlockedKey(of id: ConsumerID) throws(StorageError) -> StoredBlockedKey? {
        try base.lastBlockedKey(of: id)
    }

    func schedules(of tenant: TenantID, after key: ScheduleKey?, isParkedOnly: Bool, countMax: Int) throws(StorageError)
        -> [ListedSchedule]
    {
        try base.schedules(of: tenant, after: key, isParkedOnly: isParkedOnly, countMax: countMax)
    }

    func snapshots(of aggregate: AggregateName, in tenant: TenantID) throws(StorageError) -> [SnapshotInfo] {
        try base.snapshots(of: aggregate, in: tenant)
    }

    func snapshot(of aggregate: AggregateName, in tenant: TenantID, at version: Version) throws(StorageError)
        -> StoredSnapshot?
    {
        try base.snapshot(of: aggregate, in: tenant, at: version)
    }

    func position(of tenant: TenantID, asOf time: Timestamp) throws(StorageError) -> Position {
        try base.position(of: tenant, asOf: time)
    }

    func version(of aggregate: AggregateName, in tenant: TenantID, asOf position: Position) throws(StorageError)
        -> Version
    {
        try base.version(of: aggregate, in: tenant, asOf: position)
    }

    func position(of version: Version, of aggregate: AggregateName, in tenant: TenantID) throws(StorageError)
        -> Position?
    {
        try base.position(of: version, of: aggregate, in: tenant)
    }

    func page(of aggregate: AggregateName, in tenant: TenantID, versions range: PageRange<Version>, bounds: PageBounds)
        throws(StorageError) -> EventPage
    {
        try base.page(of: aggregate, in: tenant, versions: range, bounds: bounds)
    }

    func page(of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds)
        throws(StorageError) -> EventPage
    {
        try base.page(of: tenant, positions: range, filter: filter, bounds: bounds)
    }
}
