import FoundationEssentials
import MartletModel
import MartletStorageMemory
import MartletTesting
import Testing
@testable import MartletStorage

/// Appends that carry the event of a consumer that they react to.
@Suite struct AppendCheckpointTests {
    @Test func anEventIsReactedToOnce() throws {
        let reactions = try Reactions(events: 5)
        let slot = try reactions.assign()
        #expect(try reactions.react(to: 2, slot).receipt?.checkpointStored == true)
        #expect(try reactions.floor() == 2)
        let again = try reactions.react(to: 2, slot)
        #expect(again == .checkpointRefused(.settled(to: Position(2))), "with other events")
        #expect(again.refusal?.reason == .eventSettled)
        #expect(try reactions.react(to: 1, slot) == .checkpointRefused(.settled(to: Position(2))))
        #expect(try reactions.count() == 1)
        #expect(try reactions.react(to: 5, slot).receipt?.checkpointStored == true)
        #expect(try reactions.floor() == 5)
    }

    @Test func whoHasLostTheSlotWritesNothing() throws {
        let reactions = try Reactions(events: 3)
        let slot = try reactions.assign()
        let next = try reactions.assign(to: "b", leaving: "a")
        // Whatever else is wrong with the append.
        let late = try reactions.react(to: 1, slot, expecting: .exact(Version(7)))
        #expect(late == .checkpointRefused(.fenced(epoch: next.epoch)))
        #expect(late.refusal?.reason == .fenced && late.refusal?.isRetryable == false)
        #expect(try reactions.count() == 0 && reactions.floor() == 0)
        let conflict = try reactions.react(to: 1, next, expecting: .exact(Version(7)))
        guard case .versionConflict = conflict else {
            Issue.record("\(conflict)")
            return
        }
        #expect(try reactions.floor() == 0, "what is refused settles nothing")
        var other = next
        other.number = 3
        #expect(try reactions.react(to: 1, other) == .checkpointRefused(.fenced(epoch: 0)), "nobody ever had it")
        #expect(try reactions.react(to: 1, next).receipt?.checkpointStored == true)
    }

    @Test func anEventThatIsNotStoredIsNoCheckpoint() throws {
        let reactions = try Reactions(events: 3)
        let slot = try reactions.assign()
        let elsewhere = Checkpoint(position: Position(2), eventID: reactions.events[0].eventID)
        let beyond = Checkpoint(position: Position(9), eventID: UUID())
        for event in [elsewhere, beyond] {
            let outcome = try reactions.react(to: event, slot)
            #expect(outcome == .checkpointRefused(.missing) && outcome.refusal?.reason == .historyChanged)
        }
        #expect(try reactions.count() == 0 && reactions.floor() == 0)
    }

    @Test func aReplaySettlesWhatIsNotSettled() throws {
        let reactions = try Reactions(events: 3)
        let slot = try reactions.assign()
        let events = [try EncodedEvent.sample()]
        // The events were stored without the checkpoint, as by a worker of another kind.
        #expect(try reactions.append(events).receipt?.replayed == false)
        let replay = try reactions.react(to: 2, slot, with: events).receipt
        #expect(replay?.replayed == true && replay?.checkpointStored == true)
        #expect(try reactions.floor() == 2)
        let again = try reactions.react(to: 2, slot, with: events).receipt
        #expect(again?.replayed == true && again?.checkpointStored == false, "the answer was lost: nothing is written")
        _ = try reactions.assign(to: "b", leaving: "a")
        let late = try reactions.react(to: 3, slot, with: events).receipt
        #expect(late?.replayed == true && late?.checkpointStored == false, "it is stored, and the slot is another's")
        #expect(try reactions.floor() == 2 && reactions.count() == 1)
    }

    @Test func aBlockedKeyIsSettledEventByEvent() throws {
        let reactions = try Reactions(events: 6)
        let slot = try reactions.assign()
        let key = ConsumerKey(bytes: [7])
        let blocked = BlockedKey(
            first: reactions.events[1], until: .asked, reason: "no such account", tries: 3,
            since: Timestamp(microseconds: 5))
        #expect(try reactions.save(slot, from: 0, to: 4, [key: blocked]) == .saved)
        // It was delivered before, and the worker is late.
        let late = try reactions.react(to: 2, slot, key: key, isBlocked: false)
        #expect(late == .checkpointRefused(.takenBack) && late.refusal?.reason == .eventTakenBack)
        #expect(try reactions.react(to: 5, slot, key: key, isBlocked: false) == .checkpointRefused(.takenBack))
        #expect(try reactions.react(to: 2, slot, key: key).receipt?.checkpointStored == true)
        #expect(try reactions.react(to: 2, slot, key: key) == .checkpointRefused(.settled(to: Position(2))))
        // The server has not heard of it, and blocks the key from the same event once more.
        #expect(try reactions.save(slot, from: 4, to: 4, [key: blocked]) == .saved)
        #expect(try reactions.react(to: 2, slot, key: key) == .checkpointRefused(.settled(to: Position(2))))
        #expect(try reactions.react(to: 3, slot, key: key).receipt?.checkpointStored == true, "the key's next one")
        #expect(try reactions.floor() == 4)
        let stored = try #require(try reactions.blockedKeys().first?.blocked)
        #expect(stored.first == reactions.events[2] && stored.isFirstHandled)
        #expect(try reactions.save(slot, from: 4, to: 4, [key: nil]) == .saved)
        #expect(try reactions.blockedKeys().isEmpty)
        #expect(try reactions.react(to: 5, slot, key: key).receipt?.checkpointStored == true, "no longer blocked")
        #expect(try reactions.floor() == 5)
    }

    /// A server stores what it knows of a slot, which may be less than appends have settled.
    @Test func progressTakesNothingBack() throws {
        let reactions = try Reactions(events: 6)
        let slot = try reactions.assign()
        #expect(try reactions.react(to: 4, slot).receipt != nil)
        #expect(try reactions.save(slot, from: 0, to: 2, [:]) == .saved)
        #expect(try reactions.floor() == 4)
        #expect(try reactions.save(slot, from: 2, to: 4, [:]) == .saved)
        #expect(try reactions.save(slot, from: 2, to: 5, [:]) == .saved)
        #expect(try reactions.floor() == 5)
    }

    /// The worker was slow: the server takes an event for one that failed, which the worker has reacted to.
    @Test func whatWasReactedToIsNotBlocked() throws {
        let reactions = try Reactions(events: 6)
        let slot = try reactions.assign()
        let (key, other) = (ConsumerKey(bytes: [7]), ConsumerKey(bytes: [8]))
        func late(_ position: Int) -> BlockedKey {
            BlockedKey(
                first: reactions.events[position - 1], until: .retry(at: Timestamp(microseconds: 9)), reason: "late",
                tries: 1, since: Timestamp(microseconds: 5))
        }
        #expect(try reactions.react(to: 2, slot).receipt != nil)
        #expect(try reactions.react(to: 4, slot).receipt != nil)
        #expect(try reactions.save(slot, from: 0, to: 5, [key: late(2), other: late(5)]) == .saved)
        for position in [2, 3, 4] {
            let again = try reactions.react(to: position, slot, key: key)
            #expect(again == .checkpointRefused(.settled(to: Position(4))))
        }
        #expect(try reactions.react(to: 5, slot, key: other).receipt?.checkpointStored == true, "it was not")
        #expect(try reactions.react(to: 6, slot, key: key).receipt?.checkpointStored == true, "it is a later one")
        #expect(try reactions.count() == 4 && reactions.floor() == 6)
    }

    @Test func reactionsOfOneBatchSeeThoseBeforeThem() throws {
        let reactions = try Reactions(events: 4)
        let slot = try reactions.assign()
        let requests = try [2, 2, 1, 3].map { try reactions.request(reactions.events[$0 - 1], slot) }
        let outcomes = try reactions.commit(requests.map { .append($0) })
        #expect(outcomes[0].receipt?.checkpointStored == true && outcomes[3].receipt?.checkpointStored == true)
        #expect(outcomes[1] == .checkpointRefused(.settled(to: Position(2))))
        #expect(outcomes[2] == .checkpointRefused(.settled(to: Position(2))))
        #expect(try reactions.floor() == 3 && reactions.count() == 2)
    }
}

/// A tenant with events, a consumer of them with workers, and an aggregate to which they react.
private final class Reactions {
    private let engine = MemoryEngine()
    private let tenant = TenantID(UUID(high: 1, low: 1))
    private let consumer: ConsumerID
    private let target = AggregateName.new("reactions")
    private var now: Int64 = 1_000_000
    let events: [Checkpoint]

    init(events count: Int) throws {
        consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("transfers")))
        let sources = try (0..<count).map { _ in try EncodedEvent.sample() }
        events = sources.enumerated().map {
            Checkpoint(position: Position(UInt64($0.offset + 1)), eventID: $0.element.id)
        }
        let put = PutConsumer(ConsumerDefinition(slotCount: 1), start: .start, expected: .none, countMax: 9)
        _ = try commit([
            .append(.of(sources, to: .new("sources"), tenant: tenant)),
            .change(.consumer(ConsumerChange(.put(put), of: consumer))),
        ])
    }

    func commit(_ batch: [WriteCommand]) throws -> [WriteOutcome] {
        now += 1
        return try engine.makeWriter().commit(batch, now: Timestamp(microseconds: now)).outcomes
    }

    private func change(_ kind: ConsumerChange.Kind) throws -> ConsumerOutcome? {
        let outcomes = try commit([.change(.consumer(ConsumerChange(kind, of: consumer)))])
        if case .consumer(let outcome)? = outcomes.first { return outcome } else { return nil }
    }

    private static func session(_ worker: String) -> UUID { UUID(high: UInt64(worker.utf8.first ?? 0), low: 1) }

    /// Gives the slot to a worker.
    func assign(to worker: String = "a", leaving other: String? = nil) throws -> GroupView.Slot {
        let tending = GroupTending(
            server: UUID(high: 8, low: 1),
            workers: [.init(session: Self.session(worker), name: try #require(WorkerName(worker)), isNew: true)],
            leaving: other.map { [Self.session($0)] } ?? [], leaseMicros: 5_000_000, workersMax: 9)
        guard case .tended(let view)? = try change(.tend(tending)) else { throw CancellationError() }
        return try #require(view.workers.first?.slots.first)
    }

    func request(
        _ event: Checkpoint, _ slot: GroupView.Slot, with reaction: [EncodedEvent]? = nil, key: ConsumerKey? = nil,
        isBlocked: Bool? = nil,
        expecting expected: ExpectedVersion = .any
    ) throws -> AppendRequest {
        var request = AppendRequest.of(
            try reaction ?? [try EncodedEvent.sample()], to: target, expected, tenant: tenant)
        request.checkpoint = AppendCheckpoint(
            consumer: consumer.name, slot: slot.number, epoch: slot.epoch, event: event,
            key: key ?? ConsumerKey(bytes: [1]), isKeyBlocked: isBlocked ?? (key != nil))
        return request
    }

    func react(
        to position: Int, _ slot: GroupView.Slot, with reaction: [EncodedEvent]? = nil, key: ConsumerKey? = nil,
        isBlocked: Bool? = nil,
        expecting expected: ExpectedVersion = .any
    ) throws -> WriteOutcome {
        let request = try request(
            events[position - 1], slot, with: reaction, key: key, isBlocked: isBlocked, expecting: expected)
        return try #require(try commit([.append(request)]).first)
    }

    func react(to event: Checkpoint, _ slot: GroupView.Slot) throws -> WriteOutcome {
        try #require(try commit([.append(try request(event, slot))]).first)
    }

    func append(_ events: [EncodedEvent]) throws -> WriteOutcome {
        try #require(try commit([.append(.of(events, to: target, tenant: tenant))]).first)
    }

    func save(
        _ slot: GroupView.Slot, from: Int, to: Int, _ blocked: [ConsumerKey: BlockedKey?]
    ) throws -> SlotSaved? {
        let places = [Checkpoint.start] + events
        let change = SlotChange(epoch: slot.epoch, from: places[from], to: places[to], blocked: blocked)
        let outcome = try self.change(.progress([SlotSaving(slot: slot.number, change: change)]))
        if case .progress(let saved)? = outcome { return saved.first } else { return nil }
    }

    func floor() throws -> UInt64? { try engine.makeReader().group(consumer)?.slot(0).floor.position.rawValue }

    func blockedKeys() throws -> [StoredBlockedKey] {
        try engine.makeReader().blockedKeys(of: consumer, slot: nil, after: nil, countMax: 9)
    }

    /// How many reactions are stored.
    func count() throws -> Int {
        try engine.makeReader().events(of: tenant).filter { $0.aggregate == target }.count
    }
}
