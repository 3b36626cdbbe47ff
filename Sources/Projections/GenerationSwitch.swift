import MartletClient
import MartletModel

/// Makes a generation the live one, in one transaction.
///
/// What must hold of the new generation, at place R, when the pointer moves, for each tenant of which the old one has anything:
///
/// - R is not below any slot's floor. Then each event that the server will not deliver again is in it: such an event is in the
///   old generation, and so not above its slot's floor, unless its key has a row.
/// - Each key that has a row in the old generation has one in the new: the server may pass over later events of it while the
///   slot's floor goes on. It is at R, or where the new generation waits for an event of the key.
/// - A key that waits in the new generation waits in the old one for that event or an earlier one. Then the server delivers it.
///
/// Epochs stay as they are, so that a worker that has a slot goes on: its next transaction finds the new generation.
///
/// The rows of all tenants are read and written together as far as that goes: runners wait meanwhile.
struct GenerationSwitch<Database: ProjectionDatabase>: Sendable {
    enum Outcome: Sendable {
        case done
        /// There is more to take in before that, outside of the transaction.
        case behind
    }

    /// Nothing of the transaction may be committed.
    private struct Behind: Error {}

    let build: GenerationBuild<Database>
    let rebuilder: ProjectionRebuilder<Database>

    private var store: GenerationStore { rebuilder.store }
    private var generation: ProjectionGeneration { build.generation }

    /// What the live generation, which is the old one, has of all tenants.
    private struct Old {
        let row: GenerationStore.Row
        let parts: [TenantID: GenerationStore.Part]
        let slots: [TenantID: [ProjectionProgress.Place]]
        let keys: [TenantID: [ConsumerKey: ProjectionProgress.Place]]

        func end(of tenant: TenantID) -> Checkpoint { (parts[tenant] ?? .none).end(slots[tenant] ?? []) }
    }

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
        let row = try await store.lockLive(transaction)
        // An earlier try whose answer was lost.
        if row.generation == generation { return }
        try await store.lock(generation, owner: build.owner, transaction)
        let slots = try await store.slots(locks: true, transaction)
        let old = Old(
            row: row, parts: try await store.parts(of: row.generation, transaction), slots: slots,
            keys: try await store.keys(transaction))
        try await checkTenants(row.generation, transaction)
        try await takeRest(old, transaction)
        let waiting = try await store.keys(of: generation, transaction)

        try await setOld(old, transaction)
        for tenant in build.leftOut { try await rebuilder.generations(of: tenant).progress.deleteAll(transaction) }
        try await store.deleteKeys(transaction)
        let parts = try await store.parts(of: generation, transaction)
        for builder in build.builders {
            let (tenant, new) = (builder.tenant, parts[builder.tenant] ?? .none)
            for (key, row) in old.keys[tenant] ?? [:] {
                try await builder.generations.progress.put(
                    key, of: row.slot, at: waiting[tenant]?[key]?.place ?? new.place, transaction)
            }
        }
        try await store.deleteProgress(of: generation, transaction)
        try await store.moveSlots(to: generation, transaction)
        try await store.set(generation, .live, transaction)
        try await store.moveLive(to: generation, transaction)
        // Workers wait by now: not for long for readers.
        if let statement = rebuilder.database.lockTimeoutStatement { try await transaction.execute(statement) }
        try await store.show(generation, build.row.tables, transaction)
        try await store.hide(row.tables.filter { !build.row.tables.contains($0) }, transaction)
    }

    /// Throws where there are other tenants by now, or a consumer of one that is left out. Nobody begins with a slot meanwhile.
    private func checkTenants(_ old: ProjectionGeneration, _ transaction: any ProjectionTransaction) async throws {
        let tenants = try await store.tenants(of: [old, generation], transaction)
        guard build.tenants.isSuperset(of: tenants) else { throw Behind() }
        for tenant in build.leftOut { try await rebuilder.checkMissing(tenant) }
    }

    /// Takes in what the live generation has and the new one lacks: then that one has everything up to its place, which is not
    /// below any slot's floor.
    private func takeRest(_ old: Old, _ transaction: any ProjectionTransaction) async throws {
        let parts = try await store.parts(of: generation, transaction)
        let behind = try await store.keys(of: generation, transaction)
        var eventsMax = max(0, rebuilder.switchEventsMax)
        for builder in build.builders {
            let live = GenerationBuilder<Database>.Live(keys: old.keys[builder.tenant] ?? [:])
            let (place, end) = ((parts[builder.tenant] ?? .none).place, old.end(of: builder.tenant))
            if end.position > place.position {
                eventsMax -= try await takeRest(
                    of: builder, after: place, upTo: end, old.row.generation, live, eventsMax, transaction)
            }
            guard behind[builder.tenant] != nil else { continue }
            guard try await builder.keysBehind(live, transaction).isEmpty else { throw Behind() }
        }
    }

    /// - Returns: how many events that were.
    private func takeRest(
        of builder: GenerationBuilder<Database>, after place: Checkpoint, upTo end: Checkpoint,
        _ old: ProjectionGeneration, _ live: GenerationBuilder<Database>.Live, _ eventsMax: Int,
        _ transaction: any ProjectionTransaction
    ) async throws -> Int {
        let stream = try await builder.source.read(
            after: place, of: generation, to: .position(end.position), eventsMax: UInt64(eventsMax) + 1)
        var events: [RecordedEvent] = []
        for try await event in stream { events.append(event) }
        guard events.count <= eventsMax else { throw Behind() }
        let reached = try await builder.take(events, from: place, live, transaction)
        if reached.position < end.position {
            // The event there no longer passes the consumer's filter; or the server does not have it.
            try await builder.source.past.check(end, of: old)
            try await builder.generations.move(generation, to: end, transaction)
        }
        return events.count
    }

    /// Keeps the old generation as it is, or has it dropped.
    private func setOld(_ old: Old, _ transaction: any ProjectionTransaction) async throws {
        let row = old.row
        guard rebuilder.keepsOld else { return try await store.set(row.generation, .dropped, transaction) }
        for row in try await store.rows(transaction) where row.state == .kept {
            try await store.set(row.generation, .dropped, transaction)
        }
        try await store.copyProgress(to: row.generation, transaction)
        for builder in build.builders {
            let slots = old.slots[builder.tenant] ?? []
            // Nothing is missing below the lowest floor. A slot without a row is where the generation began.
            if slots.count >= builder.source.definition.slotCount,
                let lowest = slots.min(by: { $0.position < $1.position })
            {
                try await builder.generations.move(row.generation, to: lowest.place, transaction)
            }
        }
        try await store.set(row.generation, .kept, transaction)
    }
}
