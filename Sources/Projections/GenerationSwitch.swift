import MartletClient
import MartletModel

/// Makes a generation the live one, in one transaction.
///
/// What must hold of the new generation, at place R, when the pointer moves:
///
/// - R is not below any slot's floor. Then each event that the server will not deliver again is in it: such an event is in the
///   old generation, and so not above its slot's floor, unless its key has a row.
/// - Each key that has a row in the old generation has one in the new: the server may pass over later events of it while the
///   slot's floor goes on. It is at R, or where the new generation waits for an event of the key.
/// - A key that waits in the new generation waits in the old one for that event or an earlier one. Then the server delivers it.
///
/// Epochs stay as they are, so that a worker that has a slot goes on: its next transaction finds the new generation.
struct GenerationSwitch<Database: ProjectionDatabase>: Sendable {
    enum Outcome: Sendable {
        case done
        /// There is more to take in before that, outside of the transaction.
        case behind
    }

    /// Nothing of the transaction may be committed.
    private struct Behind: Error {}

    let builder: GenerationBuilder<Database>
    let rebuilder: ProjectionRebuilder<Database>

    private var store: GenerationStore { builder.store }

    func run() async throws -> Outcome {
        do {
            try await rebuilder.database.withTransaction { try await move($0) }
            return .done
        } catch is Behind {
            return .behind
        } catch is GenerationBuilder<Database>.Failure {
            return .behind
        }
    }

    private func move(_ transaction: any ProjectionTransaction) async throws {
        let old = try await store.lockLive(transaction)
        // An earlier try whose answer was lost.
        if old.generation == builder.generation { return }
        let place = try await builder.lock(transaction)
        let slots = try await store.progress.lockAll(transaction)
        let live = try await builder.live(transaction)
        let new = try await takeRest(after: place, upTo: old.end(slots), old, live, transaction)
        guard try await builder.keysBehind(live, transaction).isEmpty else { throw Behind() }

        try await setOld(old, slots, transaction)
        let waiting = try await builder.own.keys(transaction)
        try await store.progress.deleteKeys(transaction)
        for (key, row) in live.keys {
            try await store.progress.put(key, of: row.slot, at: waiting[key]?.place ?? new, transaction)
        }
        try await builder.own.deleteAll(transaction)
        try await store.progress.moveAll(to: new, transaction)
        try await store.move(builder.generation, to: new, transaction)
        try await store.set(builder.generation, .live, transaction)
        try await store.moveLive(to: builder.generation, transaction)
        // Workers wait by now: not for long for readers.
        if let statement = rebuilder.database.lockTimeoutStatement { try await transaction.execute(statement) }
        try await store.show(builder.generation, builder.row.tables, transaction)
        try await store.hide(old.tables.filter { !builder.row.tables.contains($0) }, transaction)
    }

    /// Takes in what the live generation has and the new one lacks.
    /// - Returns: the place up to which it has everything, not below any slot's floor.
    private func takeRest(
        after place: Checkpoint, upTo end: Checkpoint, _ old: GenerationStore.Row,
        _ live: GenerationBuilder<Database>.Live, _ transaction: any ProjectionTransaction
    ) async throws -> Checkpoint {
        guard end.position > place.position else { return place }
        let eventsMax = max(0, rebuilder.switchEventsMax)
        let stream = try await builder.source.read(
            after: place, of: builder.generation, to: .position(end.position), eventsMax: UInt64(eventsMax) + 1)
        var events: [RecordedEvent] = []
        for try await event in stream { events.append(event) }
        guard events.count <= eventsMax else { throw Behind() }
        let reached = try await builder.take(events, from: place, live, transaction)
        guard reached.position < end.position else { return reached }
        // The event there no longer passes the consumer's filter; or the server does not have it.
        try await builder.source.past.check(end, of: old.generation)
        return end
    }

    /// Keeps the old generation as it is, or has it dropped.
    private func setOld(
        _ old: GenerationStore.Row, _ slots: [ProjectionProgress.Place], _ transaction: any ProjectionTransaction
    ) async throws {
        guard rebuilder.keepsOld else { return try await store.set(old.generation, .dropped, transaction) }
        for row in try await store.rows(transaction) where row.state == .kept {
            try await store.set(row.generation, .dropped, transaction)
        }
        try await store.progress.copy(to: store.progress(of: old.generation), transaction)
        // Nothing is missing below the lowest floor. A slot without a row is where the generation began.
        if slots.count >= builder.source.definition.slotCount,
            let lowest = slots.min(by: { $0.position < $1.position })
        {
            try await store.move(old.generation, to: lowest.place, transaction)
        }
        try await store.set(old.generation, .kept, transaction)
    }
}
