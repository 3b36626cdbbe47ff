import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Random changes of consumers: definitions that are put, expected at a revision or not, replaced and deleted; resets;
/// workers that come, stay, leave, are replaced and are over at once; slots given back; progress under the right epoch and
/// under others, from the right floor and from others, with keys that are blocked and no longer blocked; keys tried again.
struct ConsumerWorkload {
    private static let names = ["balances", "mail"].compactMap { ConsumerName($0) }
    private static let workers = ["a", "b", "c"].compactMap { WorkerName($0) }
    private static let eventIDs = (0..<4).map { UUID(high: 7, low: $0) }

    /// What servers would know of the slots that their workers have.
    private var held: [ConsumerID: [GroupView.Slot]] = [:]

    static func ids(of tenant: TenantID) -> [ConsumerID] { names.map { ConsumerID(tenant: tenant, name: $0) } }

    /// Takes in what became of a batch.
    mutating func note(_ batch: [WriteCommand], _ outcomes: [WriteOutcome]) {
        for case (.change(.consumer(let change)), .consumer(let outcome)) in zip(batch, outcomes) {
            if case .tended(let view) = outcome { held[change.consumer] = view.workers.flatMap(\.slots) }
            guard case (.progress(let savings), .progress(let saved)) = (change.kind, outcome) else { continue }
            for case (let saving, .saved) in zip(savings, saved) {
                for index in held[change.consumer, default: []].indices
                where held[change.consumer]?[index].number == saving.slot {
                    held[change.consumer]?[index].floor = saving.change.to
                }
            }
        }
    }

    mutating func change(of tenant: TenantID, _ random: inout SeededGenerator) -> ConsumerChange {
        let id = ConsumerID(tenant: tenant, name: Self.names[Int.random(in: 0..<2, using: &random)])
        return ConsumerChange(kind(id, &random), of: id)
    }

    /// What an append carries that reacts to one of those events; nil for none.
    func checkpoint(
        of tenant: TenantID, among events: [RecordedEvent], _ random: inout SeededGenerator
    ) -> AppendCheckpoint? {
        let name = Self.names[Int.random(in: 0..<2, using: &random)]
        guard let event = events.randomElement(using: &random) else { return nil }
        let known = held[ConsumerID(tenant: tenant, name: name)]?.randomElement(using: &random)
        // Another one's position now and then.
        let position = Int.random(in: 0..<8, using: &random) == 0 ? Position(2) : event.position
        return AppendCheckpoint(
            consumer: name, slot: known?.number ?? 0,
            epoch: (known?.epoch ?? 1) + (Int.random(in: 0..<6, using: &random) == 0 ? 1 : 0),
            event: Checkpoint(position: position, eventID: event.event.id),
            key: key(&random), isKeyBlocked: Bool.random(using: &random))
    }

    private func kind(_ id: ConsumerID, _ random: inout SeededGenerator) -> ConsumerChange.Kind {
        switch Int.random(in: 0..<16, using: &random) {
        case 0...2:
            var definition = ConsumerDefinition(slotCount: Bool.random(using: &random) ? 4 : 6)
            definition.isPaused = Int.random(in: 0..<3, using: &random) == 0
            if Bool.random(using: &random) { definition.keyRule = .tag("région") }
            let expected: ExpectedDefinition =
                switch Int.random(in: 0..<4, using: &random) {
                case 0: .none
                case 1: .revision(.random(in: 0...6, using: &random))
                default: .any
                }
            return .put(PutConsumer(definition, start: place(0, &random), expected: expected, countMax: 2))
        case 3: return Int.random(in: 0..<3, using: &random) == 0 ? .delete : .reset(to: place(0, &random))
        case 4...8: return .tend(tending(id, &random))
        case 9...13:
            return .progress((0..<Int.random(in: 1...2, using: &random)).map { _ in saving(id, &random) })
        default:
            return .unblock(
                (0..<2).map { _ in
                    KeyUnblocking(
                        slot: .random(in: 0..<4, using: &random), key: key(&random),
                        skipping: Bool.random(using: &random) ? nil : Position(.random(in: 1...6, using: &random)))
                })
        }
    }

    private func tending(_ id: ConsumerID, _ random: inout SeededGenerator) -> GroupTending {
        var workers: [GroupTending.Worker] = []
        for (index, name) in Self.workers.enumerated() where Bool.random(using: &random) {
            workers.append(
                GroupTending.Worker(
                    session: UUID(high: UInt64(index), low: .random(in: 1...2, using: &random)), name: name,
                    epochAbove: .random(in: 0...8, using: &random), isNew: Bool.random(using: &random)))
        }
        let returned = held[id, default: []].filter { _ in Int.random(in: 0..<4, using: &random) == 0 }
        return GroupTending(
            server: UUID(high: 9, low: .random(in: 1...2, using: &random)), workers: workers,
            leaving: [UUID(high: .random(in: 0...2, using: &random), low: .random(in: 1...2, using: &random))],
            returned: returned.map { GroupTending.Returned(slot: $0.number, epoch: $0.epoch) },
            // Over at once, or not before the test is.
            leaseMicros: Int.random(in: 0..<5, using: &random) == 0 ? -1_000_000 : 3_600_000_000, workersMax: 2)
    }

    private func saving(_ id: ConsumerID, _ random: inout SeededGenerator) -> SlotSaving {
        let known = held[id]?.randomElement(using: &random)
        let slot = known?.number ?? .random(in: 0..<4, using: &random)
        let epoch = (known?.epoch ?? 1) + (Int.random(in: 0..<6, using: &random) == 0 ? 1 : 0)
        let floor =
            Int.random(in: 0..<6, using: &random) == 0
            ? place(0, &random) : known?.floor ?? .start
        var blocked: [ConsumerKey: BlockedKey?] = [:]
        if Bool.random(using: &random) {
            var state = BlockedKey(
                first: place(1, &random),
                until: Bool.random(using: &random)
                    ? .asked : .retry(at: Timestamp(microseconds: .random(in: 0...9, using: &random))),
                reason: "no such account\0: \u{1F4A5}", tries: .random(in: 1...9, using: &random),
                since: Timestamp(microseconds: .random(in: 0...9, using: &random)))
            state.isFirstHandled = Bool.random(using: &random)
            blocked[key(&random)] = .some(state)
        }
        if Bool.random(using: &random) { blocked[key(&random)] = .some(nil) }
        return SlotSaving(
            slot: slot,
            change: SlotChange(
                epoch: epoch, from: floor, to: place(Int(floor.position.rawValue), &random), blocked: blocked))
    }

    private func key(_ random: inout SeededGenerator) -> ConsumerKey {
        ConsumerKey(bytes: [0x67, 0, UInt8.random(in: 0xF0...0xF2, using: &random)])
    }

    private func place(_ least: Int, _ random: inout SeededGenerator) -> Checkpoint {
        let position = Position(UInt64(Int.random(in: least...(least + 3), using: &random)))
        guard position > .start else { return .start }
        return Checkpoint(position: position, eventID: Self.eventIDs[Int.random(in: 0..<4, using: &random)])
    }
}
