import FoundationEssentials
public import MartletModel
public import MartletStorage

/// What an operator can do with a consumer one of whose slots has a damaged row.
public enum DamagedSlot {
    /// Damages the row of slot 0, as SQL that the engines have in common.
    public static let statements = [
        "seal = seal + 1", "epoch = 1", "epoch = 9223372036854775807", "epoch = -1", "position = -1", "event_id = NULL",
    ].map { "UPDATE consumer_slots SET \($0) WHERE slot = 0" }

    /// Makes a consumer, has its slot damaged and it reset, then damaged again and deleted.
    /// - Parameters:
    ///   - tenant: has no events and no consumers yet.
    ///   - damage: damages the row of slot 0.
    /// - Throws: where something is not as it must be.
    public static func check(
        _ engine: any StorageEngine, of tenant: TenantID, damage: () throws -> Void
    ) throws {
        let engineWriter = engine.makeWriter()
        try engineWriter.append(.sample(3, tenant: tenant))
        let events = try engine.makeReader().events(of: tenant)
        let writer = ConsumerWriter(engineWriter)
        let id = ConsumerID.named("balances", of: tenant)
        var numbers = SeededGenerator(seed: 1)
        func outcome(_ kind: ConsumerChange.Kind) throws -> ConsumerOutcome? {
            let outcome = try engineWriter.apply(.consumer(ConsumerChange(kind, of: id)), now: .now())
            if case .consumer(let outcome) = outcome { return outcome } else { return nil }
        }
        func put(_ definition: ConsumerDefinition) -> ConsumerChange.Kind {
            .put(PutConsumer(definition, start: .start, expected: .any, countMax: 9))
        }
        func require(_ isSo: Bool, _ what: String) throws {
            if !isSo { throw ConformanceFailure(what) }
        }
        /// Slots that a worker has, after some others had them.
        func slots() throws -> [GroupView.Slot] {
            for name in ["a", "b", "c"] {
                try writer.change(ConsumerChange(put(ConsumerDefinition(slotCount: 2, isRaw: name == "b")), of: id))
                _ = try writer.tend([.named("w", &numbers)], of: id)
            }
            return try writer.tend([.named("w", &numbers)], of: id)
        }
        func isFenced(_ slot: GroupView.Slot, _ from: Checkpoint) throws -> Bool {
            let change = SlotChange(epoch: slot.epoch, from: from, to: Checkpoint(events[2]), blocked: [:])
            let outcome = try outcome(.progress([SlotSaving(slot: slot.number, change: change)]))
            if case .progress(let saved) = outcome, case .fenced? = saved.first { return true } else { return false }
        }

        try writer.change(ConsumerChange(put(ConsumerDefinition(slotCount: 2)), of: id))
        let held = try slots()
        try require(held.count == 2 && held.allSatisfy { $0.epoch > 3 }, "a worker has \(held)")
        for slot in held {
            let change = SlotChange(epoch: slot.epoch, from: .start, to: Checkpoint(events[1]), blocked: [:])
            try writer.change(ConsumerChange(.progress([SlotSaving(slot: slot.number, change: change)]), of: id))
        }
        try damage()
        for kind in [
            put(ConsumerDefinition(slotCount: 2, isPaused: true)),
            .tend(GroupTending(server: UUID(), workers: [.named("w", &numbers)], leaseMicros: 1, workersMax: 9)),
        ] {
            let refusal = try outcome(kind)?.refusal
            try require(
                refusal?.reason == .storageCorrupted && refusal?.message.contains("reset the consumer") == true,
                "with a damaged row came \(refusal?.message ?? "no refusal")")
        }
        do throws(StorageError) {
            _ = try engine.makeReader().group(id)
            throw StorageError(.misconfigured, "")
        } catch {
            try require(error.kind == .corrupted, "a reader has read a damaged row")
        }

        let reset = try outcome(.reset(to: .start))
        try require(reset == .reset(after: .start, before: Position(2)), "the reset came to another outcome")
        for slot in held {
            try require(try isFenced(slot, Checkpoint(events[1])), "who had slot \(slot.number) before is believed")
        }
        let again = try writer.tend([.named("w", &numbers)], of: id)
        let highest = held.map(\.epoch).max() ?? 0
        try require(
            again.count == 2 && again.allSatisfy { $0.epoch > highest && $0.floor == .start },
            "after the reset a worker has \(again)")
        for slot in held {
            try require(try isFenced(slot, .start), "who had slot \(slot.number) before is believed")
        }

        try damage()
        try require(try outcome(.delete) == .deleted, "it cannot be deleted")
        try require(try engine.makeReader().group(id) == nil, "something is left")
        try writer.change(ConsumerChange(put(ConsumerDefinition(slotCount: 2)), of: id))
        let next = try writer.tend([.named("w", &numbers)], of: id)
        let last = again.map(\.epoch).max() ?? 0
        try require(next.allSatisfy { $0.epoch > last }, "the next one of that name has \(next), after \(again)")
    }
}
