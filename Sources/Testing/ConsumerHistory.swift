import FoundationEssentials
public import MartletModel
public import MartletStorage
import NIOCore

/// What servers store of a tenant's consumers, at random: two that are there, and one that was deleted. Its places are
/// those of events that the tenant has, and its keys belong to their slots.
public struct ConsumerHistory: Sendable {
    private let tenant: TenantID
    private var consumers: [ConsumerID] = []
    /// The last change of each definition.
    private var puts: [ConsumerChange] = []

    /// Stores it.
    /// - Parameters:
    ///   - label: what the consumers' names begin with.
    ///   - numbers: what makes it.
    public init(
        _ engine: any StorageEngine, of tenant: TenantID, label: String, _ numbers: inout SeededGenerator
    ) throws {
        self.tenant = tenant
        let events = try engine.makeReader().events(of: tenant)
        let writer = ConsumerWriter(engine.makeWriter())
        for (name, rule) in [("gone", KeyRule.aggregate), ("balances", .aggregate), ("mail", .aggregateType)] {
            let id = ConsumerID.named("\(label).\(name)", of: tenant)
            var definition = ConsumerDefinition(keyRule: rule, slotCount: Int.random(in: 2...6, using: &numbers))
            let start = name == "mail" ? nil : events.prefix(events.count / 2).randomElement(using: &numbers)
            func put() throws {
                let put = ConsumerChange(
                    .put(
                        PutConsumer(
                            definition, start: start.map { Checkpoint($0) } ?? .start, expected: .any, countMax: 9)),
                    of: id)
                try writer.change(put)
                puts.removeAll { $0.consumer == id }
                puts.append(put)
            }
            try put()
            let workers = ["worker-a", "worker-b"].map { GroupTending.Worker.named($0, &numbers) }
            let slots = try writer.tend(workers, of: id)
            guard name != "gone" else {
                try writer.change(ConsumerChange(.delete, of: id))
                puts.removeAll { $0.consumer == id }
                continue
            }
            consumers.append(id)
            for slot in slots {
                let own = events.filter { $0.key(rule).slot(of: definition.slotCount) == slot.number }
                var blocked: [ConsumerKey: BlockedKey?] = [:]
                for event in own.shuffled(using: &numbers).prefix(3) {
                    blocked[event.key(rule)] = BlockedKey.random(at: Checkpoint(event), &numbers)
                }
                let reached = events.filter { $0.position > slot.floor.position }.randomElement(using: &numbers)
                let change = SlotChange(
                    epoch: slot.epoch, from: slot.floor, to: reached.map { Checkpoint($0) } ?? slot.floor,
                    blocked: blocked)
                try writer.change(ConsumerChange(.progress([SlotSaving(slot: slot.number, change: change)]), of: id))
                if let key = blocked.keys.first {
                    try writer.change(ConsumerChange(.unblock([KeyUnblocking(slot: slot.number, key: key)]), of: id))
                }
            }
            if name == "mail" {
                definition.isRaw = true
                try put()
            }
            // Whatever has moved to another epoch is given out again.
            _ = try writer.tend(workers, of: id)
        }
    }

    /// What readers answer of the consumers, as text. Their workers are left out: their rows say only who may try.
    public func answers(of reader: any StorageReader) throws(StorageError) -> [String] {
        var answers: [String] = []
        for named in try reader.consumers(of: tenant, after: nil, countMax: 10) {
            answers.append("\(named.name) \(Self.text(named.consumer))")
        }
        for id in consumers {
            guard let group = try reader.group(id) else {
                answers.append("no consumer \(id.name)")
                continue
            }
            let slots = group.slots.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
            answers.append("\(Self.text(group.consumer)) \(slots) \(group.hasBlockedKeys)")
            for scope in [TenantScope.all, .only([tenant])] {
                let tenants = try reader.tenants(withConsumer: id.name, in: scope, after: nil, countMax: 10)
                answers.append("\(tenants)")
            }
            let blocked = try reader.blockedKeys(of: id, slot: nil, after: nil, countMax: 1_000)
            answers += blocked.map { "\($0)" }
            for slot in Set(blocked.map(\.slot)).sorted() {
                answers.append("\(try reader.blockedKeys(of: id, slot: slot, after: nil, countMax: 1_000))")
            }
        }
        return answers
    }

    /// What a writer answers when the definitions are put again, for which it reads all that is stored of them; it writes
    /// nothing new.
    public func answers(of writer: any StorageWriter) throws(StorageError) -> [String] {
        var answers: [String] = []
        for put in puts {
            answers.append("\(try writer.apply(.consumer(put), now: Timestamp(microseconds: 60_000)))")
        }
        return answers
    }

    private static func text(_ consumer: StoredConsumer) -> String {
        "\(consumer.revision) \(consumer.baseEpoch) \(consumer.start) \(String(buffer: consumer.document))"
    }
}

/// Changes consumers, one change at a time.
struct ConsumerWriter {
    private let writer: any StorageWriter

    init(_ writer: any StorageWriter) { self.writer = writer }

    @discardableResult
    func change(_ change: ConsumerChange) throws -> ConsumerOutcome {
        let outcome = try writer.apply(.consumer(change), now: .now())
        guard case .consumer(let outcome) = outcome, outcome.refusal == nil else {
            throw ConformanceFailure("a change of the consumer \(change.consumer.name) came to \(outcome)")
        }
        return outcome
    }

    /// - Returns: the slots that the workers have.
    func tend(_ workers: [GroupTending.Worker], of id: ConsumerID) throws -> [GroupView.Slot] {
        let tending = GroupTending(
            server: UUID(high: 7, low: 7), workers: workers, leaseMicros: 3_600_000_000, workersMax: 9)
        guard case .tended(let view) = try change(ConsumerChange(.tend(tending), of: id)) else { return [] }
        return view.workers.flatMap(\.slots)
    }
}

extension ConsumerID {
    static func named(_ name: String, of tenant: TenantID) -> ConsumerID {
        guard let name = ConsumerName(name) else { preconditionFailure("a valid name of a consumer") }
        return ConsumerID(tenant: tenant, name: name)
    }
}

extension GroupTending.Worker {
    static func named(_ name: String, _ numbers: inout SeededGenerator) -> GroupTending.Worker {
        guard let name = WorkerName(name) else { preconditionFailure("a valid name of a worker") }
        return GroupTending.Worker(
            session: UUID(high: numbers.next(), low: numbers.next()), name: name, isNew: true)
    }
}

extension Checkpoint {
    /// The place of that event.
    init(_ event: RecordedEvent) { self.init(position: event.position, eventID: event.event.id) }
}

extension RecordedEvent {
    /// Its key. It has no tags.
    func key(_ rule: KeyRule) -> ConsumerKey { ConsumerKey(rule, aggregate: aggregate) { _ in nil } }
}

extension BlockedKey {
    fileprivate static func random(at first: Checkpoint, _ numbers: inout SeededGenerator) -> BlockedKey {
        let retry = Until.retry(at: Timestamp(microseconds: .random(in: 0...1_000_000, using: &numbers)))
        var blocked = BlockedKey(
            first: first, until: Bool.random(using: &numbers) ? .asked : retry, reason: "no such account",
            tries: .random(in: 1...9, using: &numbers),
            since: Timestamp(microseconds: .random(in: 0...1_000_000, using: &numbers)))
        blocked.isFirstHandled = Bool.random(using: &numbers)
        return blocked
    }
}
