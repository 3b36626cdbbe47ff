import FoundationEssentials
import MartletModel
import MartletStorageMemory
import MartletTesting
import Testing
@testable import MartletStorage

/// What is decided on consumers, their slots and their workers.
@Suite struct ConsumerDecisionTests {
    // MARK: Definitions

    @Test func aConsumerIsMadeOnceAndReplacedByItsRevision() throws {
        let group = Group()
        let definition = ConsumerDefinition(slotCount: 4)
        #expect(try group.put(definition, .none) == .put(revision: 1, isNew: true))
        #expect(try group.put(definition, .none) == .put(revision: 1, isNew: false), "the same again")
        let other = ConsumerDefinition(slotCount: 4, isRaw: true)
        #expect(try group.put(other, .none) == .exists(revision: 1))
        #expect(try group.put(other, .revision(7)) == .revisionConflict(1))
        #expect(try group.put(definition, .revision(7)) == .revisionConflict(1), "also where nothing would change")
        #expect(try group.put(other, .revision(1)) == .put(revision: 2, isNew: false))
        #expect(try group.stored()?.consumer.document == other.encoded())
        #expect(try Group().put(other, .revision(1)) == .revisionConflict(0), "there is none")
    }

    @Test func aTenantHasSoManyConsumersAtMost() throws {
        let group = Group()
        for name in ["a", "b"] {
            let outcome = try group.put(ConsumerDefinition(), .none, named: name, countMax: 2)
            #expect(outcome == .put(revision: 1, isNew: true))
        }
        #expect(try group.put(ConsumerDefinition(), .none, named: "c", countMax: 2) == .tooMany(max: 2))
        let replaced = try group.put(ConsumerDefinition(isRaw: true), .any, named: "a", countMax: 2)
        #expect(replaced == .put(revision: 2, isNew: false))
    }

    @Test func theNextConsumerOfANameGoesOnAboveTheEpochsOfTheDeletedOne() throws {
        let group = Group()
        _ = try group.put(ConsumerDefinition(slotCount: 2), .none)
        for _ in 0..<3 { _ = try group.tend([.worker("a", isNew: true)], leaving: group.sessions) }
        let last = try #require(try group.tend([.worker("a", isNew: true)]).workers.first?.slots.map(\.epoch).max())
        #expect(try group.change(.delete) == .deleted)
        #expect(try group.change(.delete) == .missing)
        #expect(try group.stored() == nil)
        guard case .put(let revision, isNew: true) = try group.put(ConsumerDefinition(slotCount: 2), .none) else {
            Issue.record("it was not made")
            return
        }
        #expect(revision > 1, "who knows the old revision cannot change the new one")
        let next = try group.tend([.worker("a", isNew: true)])
        #expect(next.workers.first?.slots.allSatisfy { $0.epoch > last && $0.floor == .start } == true)
    }

    @Test func anotherDefinitionFencesOffWhoWorksButKeepsThePlace() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        #expect(try group.save(slot, to: 5) == .saved)
        _ = try group.put(ConsumerDefinition(slotCount: 1, isRaw: true), .any)
        #expect(try group.save(slot, from: 5, to: 6) == .fenced(epoch: slot.epoch + 1))
        let again = try group.onlySlot("a", isNew: false)
        #expect(again.epoch == slot.epoch + 2 && again.floor == Group.place(5))
    }

    @Test func keysAreDividedAnewOnlyWhereNobodyWorksAndNoneIsBlocked() throws {
        let group = Group(slots: 2)
        let slots = try #require(try group.tend([.worker("a", isNew: true)]).workers.first?.slots)
        #expect(try group.save(slots[0], to: 9) == .saved)
        #expect(try group.save(slots[1], to: 4, blocked: [Group.key: Group.blocked(at: 3)]) == .saved)
        #expect(try group.put(ConsumerDefinition(slotCount: 3), .any) == .divisionInUse(isPaused: false))
        _ = try group.put(ConsumerDefinition(slotCount: 2, isPaused: true), .any)
        #expect(try group.put(ConsumerDefinition(slotCount: 3), .any) == .divisionInUse(isPaused: true))
        #expect(
            try group.put(ConsumerDefinition(keyRule: .aggregateType, slotCount: 2), .any)
                == .divisionInUse(isPaused: true))
        _ = try group.put(ConsumerDefinition(slotCount: 2), .any)
        let held = try #require(try group.tend([.worker("a")]).workers.first?.slots)
        #expect(try group.save(held[1], from: 4, to: 6, blocked: [Group.key: nil]) == .saved)
        _ = try group.put(ConsumerDefinition(slotCount: 2, isPaused: true), .any)
        #expect(try group.put(ConsumerDefinition(slotCount: 3), .any) == .put(revision: 5, isNew: false))
        let divided = try #require(try group.tend([.worker("a")]).workers.first?.slots)
        #expect(divided.map(\.number) == [0, 1, 2])
        #expect(divided.allSatisfy { $0.floor == Group.place(6) }, "where the slot was that had come least far")
        #expect(divided.allSatisfy { $0.epoch > held[1].epoch })
    }

    @Test func tagsAreTheSameWhereTheirBytesAre() throws {
        let group = Group()
        _ = try group.put(ConsumerDefinition(keyRule: .tag("Caf\u{E9}"), slotCount: 1), .none)
        let other = ConsumerDefinition(keyRule: .tag("Cafe\u{301}"), slotCount: 1)
        #expect(try group.put(other, .any) == .divisionInUse(isPaused: false))
    }

    @Test func aResetForgetsBlockedKeysAndFencesOffWhoWorks() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        #expect(try group.save(slot, to: 5, blocked: [Group.key: Group.blocked(at: 3)]) == .saved)
        #expect(try group.change(.reset(to: Group.place(2))) == .reset(after: Position(2), before: Position(5)))
        #expect(try group.save(slot, from: 5, to: 6) == .fenced(epoch: 0))
        #expect(try group.blockedKeys().isEmpty)
        let again = try group.onlySlot("a", isNew: false)
        #expect(again.floor == Group.place(2) && again.epoch > slot.epoch)
    }

    // MARK: Workers

    @Test func workersOfAllServersShareTheSlots() throws {
        let group = Group(slots: 5)
        let alone = try group.tend([.worker("a", isNew: true)], server: 1)
        #expect(alone.workers.first?.slots.map(\.number) == [0, 1, 2, 3, 4] && alone.workers.first?.excess == 0)
        let second = try group.tend([.worker("b", isNew: true)], server: 2)
        #expect(second.workers.first?.slots.isEmpty == true && second.workerCount == 2, "all are taken still")
        let excess = try group.tend([.worker("a")], server: 1)
        #expect(excess.workers.first?.excess == 2, "who has more keeps the odd one")
        let returned = try #require(excess.workers.first?.slots.suffix(2))
        let after = try group.tend([.worker("a")], server: 1, returning: Array(returned))
        #expect(after.workers.first?.slots.map(\.number) == [0, 1, 2] && after.workers.first?.excess == 0)
        let shared = try group.tend([.worker("b")], server: 2)
        #expect(shared.workers.first?.slots.map(\.number) == [3, 4])
        #expect(shared.workers.first?.slots.map(\.epoch) == [2, 2] && shared.workers.first?.excess == 0)
    }

    @Test func theSlotsOfAWorkerWhoseTimeIsOverGoToOthers() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        group.now += 10_000_000
        let view = try group.tend([.worker("b", isNew: true)])
        #expect(view.workers.first?.slots.map(\.epoch) == [slot.epoch + 1] && view.workerCount == 1)
        #expect(try group.save(slot, to: 5) == .fenced(epoch: slot.epoch + 1), "however late it wakes")
        let late = try group.tend([.worker("a")])
        #expect(late.workers.first?.slots.isEmpty == true && late.workerCount == 2)
    }

    @Test func aWorkerWhoseTimeIsOverKeepsWhatNobodyTook() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        group.now += 10_000_000
        #expect(try group.onlySlot("a", isNew: false) == slot)
        #expect(try group.save(slot, to: 5) == .saved)
    }

    @Test func aNewSessionTakesThePlaceOfTheOldOneOfItsName() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        let view = try group.tend([.worker("a", session: 2, isNew: true)], server: 2)
        #expect(view.workers.first?.slots.map(\.epoch) == [slot.epoch + 1] && view.workerCount == 1)
        let old = try group.tend([.worker("a")], server: 1)
        #expect(old.workers.isEmpty && old.refused == [Group.session("a", 1): .replaced])
    }

    @Test(arguments: [[1, 2], [2, 1]])
    func aNewSessionTakesThePlaceOfTheOldOneOfItsServer(_ order: [UInt64]) throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        let view = try group.tend(order.map { .worker("a", session: $0, isNew: $0 == 2) })
        #expect(view.refused == [Group.session("a", 1): .replaced], "whichever is named first")
        #expect(view.workers.map(\.session) == [Group.session("a", 2)])
        #expect(view.workers.first?.slots.map(\.epoch) == [slot.epoch + 1] && view.workerCount == 1)
    }

    @Test func oneWorkerMoreThanMayBeIsRefused() throws {
        let group = Group(slots: 4)
        let view = try group.tend([.worker("a", isNew: true), .worker("b", isNew: true)], workersMax: 1)
        #expect(view.workers.map(\.session) == [Group.session("a", 1)] && view.workerCount == 1)
        #expect(view.refused == [Group.session("b", 1): .full])
    }

    @Test func aPausedConsumerGivesNothingAndTakesAllBack() throws {
        let group = Group(slots: 2)
        _ = try group.tend([.worker("a", isNew: true)])
        _ = try group.put(ConsumerDefinition(slotCount: 2, isPaused: true), .any)
        let view = try group.tend([.worker("a")])
        let worker = try #require(view.workers.first)
        #expect(view.definition.isPaused && worker.slots.isEmpty && worker.excess == 0)
    }

    @Test func aSlotGetsAnEpochAboveWhatTheWorkersDatabaseHolds() throws {
        let group = Group(slots: 1)
        let view = try group.tend([.worker("a", epochAbove: 41, isNew: true)])
        #expect(view.workers.first?.slots.map(\.epoch) == [42])
    }

    @Test func aSlotIsNotGivenBackUnderAnotherEpoch() throws {
        let group = Group(slots: 1)
        var slot = try group.onlySlot("a")
        slot.epoch += 1
        #expect(try group.tend([.worker("a")], returning: [slot]).workers.first?.slots.count == 1)
    }

    // MARK: Progress

    @Test func progressIsStoredUnderItsEpochAndForward() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        #expect(try group.save(slot, to: 5) == .saved)
        #expect(try group.save(slot, to: 5) == .saved, "the same again, where nobody knew whether it was stored")
        #expect(try group.save(slot, to: 7) == .saved, "from a floor before it")
        #expect(try group.save(slot, to: 6) == .saved, "an append may have moved it meanwhile")
        #expect(try group.stored()?.slot(0).floor == Group.place(7), "not back")
        #expect(try group.save(slot, from: 8, to: 9) == .fenced(epoch: slot.epoch), "over a gap")
        let elsewhere = Checkpoint(position: Position(7), eventID: UUID(high: 3, low: 3))
        let other = SlotChange(epoch: slot.epoch, from: elsewhere, to: Group.place(9), blocked: [:])
        #expect(try group.save(slot, other) == .fenced(epoch: slot.epoch), "another past")
        var late = slot
        late.epoch -= 1
        #expect(try group.save(late, from: 7, to: 9) == .fenced(epoch: slot.epoch))
        #expect(try group.stored()?.slot(0).floor == Group.place(7))
    }

    @Test func slotsThatNobodyEverHadStoreNothing() throws {
        let group = Group(slots: 1)
        let slot = GroupView.Slot(number: 0, epoch: 0, floor: .start)
        #expect(try group.save(slot, to: 5) == .fenced(epoch: 0))
    }

    @Test func aKeyIsTriedAgainUnderANewEpoch() throws {
        let group = Group(slots: 1)
        let slot = try group.onlySlot("a")
        #expect(try group.save(slot, to: 5, blocked: [Group.key: Group.blocked(at: 3)]) == .saved)
        func unblock(_ skipping: UInt64?) throws -> ConsumerOutcome {
            try group.change(
                .unblock([KeyUnblocking(slot: 0, key: Group.key, skipping: skipping.map { Position($0) })]))
        }
        #expect(try unblock(4) == .unblocked(0, skipped: 0), "it is not blocked from there")
        #expect(try group.save(slot, from: 5, to: 6) == .saved, "nothing happened")
        #expect(try unblock(3) == .unblocked(1, skipped: 1))
        #expect(try unblock(3) == .unblocked(0, skipped: 0), "skipped before")
        #expect(try group.save(slot, from: 6, to: 7) == .fenced(epoch: slot.epoch + 1))
        let skipped = try #require(try group.blockedKeys().first?.blocked)
        #expect(skipped.isFirstHandled && skipped.until == .retry(at: Timestamp(microseconds: 0)))
        #expect(try unblock(nil) == .unblocked(1, skipped: 0), "again")
        let other = KeyUnblocking(slot: 0, key: ConsumerKey(bytes: [1]))
        #expect(try group.change(.unblock([other])) == .unblocked(0, skipped: 0))
    }

    /// Nothing but damage makes two of them: what is stored must not end the server.
    @Test func twoRowsOfWorkersWithOneSessionDivideTheSlots() throws {
        let session = Group.session("a", 1)
        let (name, other) = (try #require(WorkerName("a")), try #require(WorkerName("b")))
        let id = ConsumerID(tenant: TenantID(UUID(high: 1, low: 1)), name: try #require(ConsumerName("balances")))
        var stored = StoredGroup(
            consumer: StoredConsumer(
                document: ConsumerDefinition(slotCount: 2).encoded(), revision: 1, baseEpoch: 0, start: .start))
        for name in [name, other] {
            stored.workers[name] = GroupWorker(
                name: name, session: session, server: session, until: Timestamp(microseconds: 9_000_000))
        }
        var facts = ConsumerFacts()
        facts.groups[id] = stored
        let decision = ConsumerDecision(facts, now: Timestamp(microseconds: 1_000_000))
        let tending = GroupTending(
            server: session, workers: [GroupTending.Worker(session: session, name: name)], leaseMicros: 1_000,
            workersMax: 9)
        guard case .tended(let view) = decision.decide(ConsumerChange(.tend(tending), of: id)).0 else {
            throw Unexpected(outcome: "the group was not tended")
        }
        #expect(view.workers.first?.slots.map(\.number) == [0, 1])
    }

    @Test func changesOfOneBatchSeeThoseBeforeThem() throws {
        let group = Group()
        let session = Group.session("a", 1)
        let tending = GroupTending(
            server: session, workers: [.worker("a", isNew: true)], leaseMicros: 1_000, workersMax: 9)
        let put = PutConsumer(ConsumerDefinition(slotCount: 1), start: .start, expected: .none, countMax: 9)
        let blocked: [ConsumerKey: BlockedKey?] = [Group.key: Group.blocked(at: 2)]
        let save = SlotSaving(
            slot: 0, change: SlotChange(epoch: 1, from: .start, to: Group.place(4), blocked: blocked))
        let outcomes = try group.changes([
            .put(put), .tend(tending), .progress([save]), .unblock([KeyUnblocking(slot: 0, key: Group.key)]),
            .progress([save]), .delete, .tend(tending), .put(put), .tend(tending),
        ])
        #expect(outcomes[0] == .put(revision: 1, isNew: true))
        #expect(outcomes[2] == .progress([.saved]) && outcomes[3] == .unblocked(1, skipped: 0))
        #expect(outcomes[4] == .progress([.fenced(epoch: 2)]))
        #expect(outcomes[5] == .deleted && outcomes[6] == .missing && outcomes[7] == .put(revision: 3, isNew: true))
        let stored = try #require(try group.stored())
        #expect(stored.slots == [0: StoredSlot(epoch: 3, floor: .start, owner: session)])
        #expect(try group.blockedKeys().isEmpty)
    }
}

private struct Unexpected: Error {
    var outcome: String
}

/// A consumer in an engine.
private final class Group {
    static let key = ConsumerKey(bytes: Array("a:account/1".utf8))

    private let engine = MemoryEngine()
    private let tenant = TenantID(UUID(high: 1, low: 1))
    var now: Int64 = 1_000_000
    var sessions: [UUID] { ["a", "b"].map { Self.session($0, 1) } }

    init() {}

    convenience init(slots: Int) {
        self.init()
        _ = try? put(ConsumerDefinition(slotCount: slots), .none)
    }

    static func session(_ name: String, _ number: UInt64) -> UUID {
        UUID(high: UInt64(name.utf8.first ?? 0), low: number)
    }

    static func place(_ position: UInt64) -> Checkpoint {
        position == 0 ? .start : Checkpoint(position: Position(position), eventID: UUID(high: 2, low: position))
    }

    static func blocked(at position: UInt64) -> BlockedKey {
        BlockedKey(
            first: place(position), until: .asked, reason: "no such account", tries: 5,
            since: Timestamp(microseconds: 77))
    }

    private func id(_ name: String) -> ConsumerID {
        guard let name = ConsumerName(name) else { preconditionFailure("a name") }
        return ConsumerID(tenant: tenant, name: name)
    }

    func changes(_ kinds: [ConsumerChange.Kind], named name: String = "balances") throws -> [ConsumerOutcome] {
        let batch = kinds.map { WriteCommand.change(.consumer(ConsumerChange($0, of: id(name)))) }
        let result = try engine.makeWriter().commit(batch, now: Timestamp(microseconds: now))
        return result.outcomes.compactMap { if case .consumer(let outcome) = $0 { outcome } else { nil } }
    }

    func change(_ kind: ConsumerChange.Kind) throws -> ConsumerOutcome { try #require(try changes([kind]).first) }

    func put(
        _ definition: ConsumerDefinition, _ expected: ExpectedDefinition, named name: String = "balances",
        countMax: Int = 9
    ) throws -> ConsumerOutcome {
        let put = PutConsumer(definition, start: .start, expected: expected, countMax: countMax)
        return try #require(try changes([.put(put)], named: name).first)
    }

    func tend(
        _ workers: [GroupTending.Worker], server: UInt64 = 1, leaving: [UUID] = [],
        returning: [GroupView.Slot] = [], workersMax: Int = 9
    ) throws -> GroupView {
        let tending = GroupTending(
            server: UUID(high: 8, low: server), workers: workers, leaving: leaving,
            returned: returning.map { GroupTending.Returned(slot: $0.number, epoch: $0.epoch) },
            leaseMicros: 5_000_000, workersMax: workersMax)
        guard case .tended(let view) = try change(.tend(tending)) else {
            throw Unexpected(outcome: "the group was not tended")
        }
        return view
    }

    func onlySlot(_ worker: String, isNew: Bool = true) throws -> GroupView.Slot {
        try #require(try tend([.worker(worker, isNew: isNew)]).workers.first?.slots.first)
    }

    func save(
        _ slot: GroupView.Slot, from: UInt64 = 0, to: UInt64, blocked: [ConsumerKey: BlockedKey?] = [:]
    ) throws -> SlotSaved {
        try save(
            slot, SlotChange(epoch: slot.epoch, from: Self.place(from), to: Self.place(to), blocked: blocked))
    }

    func save(_ slot: GroupView.Slot, _ change: SlotChange) throws -> SlotSaved {
        guard case .progress(let saved) = try self.change(.progress([SlotSaving(slot: slot.number, change: change)]))
        else { throw Unexpected(outcome: "progress came to something else") }
        return try #require(saved.first)
    }

    func stored() throws -> StoredGroup? { try engine.makeReader().group(id("balances")) }

    func blockedKeys() throws -> [StoredBlockedKey] {
        try engine.makeReader().blockedKeys(of: id("balances"), slot: nil, after: nil, countMax: 9)
    }
}

extension GroupTending.Worker {
    fileprivate static func worker(
        _ name: String, session: UInt64 = 1, epochAbove: UInt64 = 0, isNew: Bool = false
    ) -> GroupTending.Worker {
        guard let worker = WorkerName(name) else { preconditionFailure("a name") }
        return GroupTending.Worker(
            session: Group.session(name, session), name: worker, epochAbove: epochAbove, isNew: isNew)
    }
}
