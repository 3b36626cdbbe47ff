import FoundationEssentials
import MartletModel

/// Takes a tenant's events into a generation that is not live, in transactions that store how far it has come.
///
/// What holds of a generation at place R, after each transaction: each event of the tenant up to R is in it, but for those of keys with a
/// row of their own, of which it is in up to the row's position. An event of such a key is passed over; ``catchUp(_:_:_:)``
/// takes it in.
struct GenerationBuilder<Database: ProjectionDatabase>: Sendable {
    /// An event that failed.
    struct Failure: Error {
        var event: RecordedEvent
        var key: ConsumerKey
        var failure: ProjectionFailure
        /// What is said where it may not be passed over.
        var error: ProjectionRebuildError
    }

    let database: Database
    let generations: TenantGenerations
    let projection: any RebuildableProjection
    let source: ReplayedEvents
    let row: GenerationStore.Row
    /// Events up to there are replayed.
    let replayTo: Position
    let owner: Int64
    /// Events that count as taken in.
    let skipped: Set<Position>
    /// Of a generation that was live: what its slots have taken in.
    let floors: [Int: Position]

    var store: GenerationStore { generations.store }
    var tenant: TenantID { source.consumer.tenant }
    var generation: ProjectionGeneration { row.generation }
    /// Events that the live generation lacks are passed over.
    var isVerification: Bool { row.state == .verify }
    /// The rows of keys of this generation.
    var own: ProjectionProgress { generations.progress(of: generation) }

    /// What the live generation has taken in.
    struct Live: Sendable {
        var keys: [ConsumerKey: ProjectionProgress.Place]
        var floors: [Int: Position] = [:]
        /// Of slots without a row.
        var start = Position.start

        /// Up to where it has a key.
        func end(of key: ConsumerKey, in slot: Int) -> Position { keys[key]?.position ?? floors[slot] ?? start }
    }

    func slot(of key: ConsumerKey) -> Int { key.slot(of: source.definition.slotCount) }

    /// Locks the generation's row.
    /// - Returns: how far it has come.
    func lock(_ transaction: any ProjectionTransaction) async throws -> Checkpoint {
        try await store.lock(generation, owner: owner, transaction)
        return try await generations.part(of: generation, transaction).place
    }

    func live(_ transaction: any ProjectionTransaction) async throws -> Live {
        var live = Live(keys: try await generations.progress.keys(transaction))
        if isVerification {
            live.floors = try await generations.progress.floors(transaction)
            let row = try await store.live(transaction)
            live.start = try await generations.part(of: row.generation, transaction).place.position
        }
        return live
    }

    /// Takes events in, in a transaction of their own.
    /// - Returns: how far the generation has come.
    /// - Throws: ``Failure``; what the database throws: then the same events may be given again.
    func take(_ events: ArraySlice<RecordedEvent>, attempt: UInt32 = 1) async throws -> Checkpoint {
        try await database.withTransaction { transaction in
            let place = try await lock(transaction)
            return try await take(
                events, from: place, try await live(transaction), attempt: attempt, transaction)
        }
    }

    /// Takes events in, in a transaction that has locked the generation's row.
    func take(
        _ events: some Sequence<RecordedEvent>, from place: Checkpoint, _ live: Live, attempt: UInt32 = 1,
        _ transaction: any ProjectionTransaction
    ) async throws -> Checkpoint {
        var keys = try await own.keys(transaction)
        var last = place
        for event in events where event.position > last.position {
            let key = source.definition.key(of: event)
            let slot = slot(of: key)
            if keys[key] == nil, floors[slot].map({ event.position > $0 }) ?? true {
                if isVerification, event.position > live.end(of: key, in: slot) {
                    try await own.put(key, of: slot, at: last, transaction)
                    keys[key] = ProjectionProgress.Place(slot: slot, place: last)
                } else {
                    try await handle(event, key, live, attempt: attempt, transaction)
                }
            }
            last = event.place
        }
        if last != place { try await generations.move(generation, to: last, transaction) }
        return last
    }

    /// Passes over an event that has failed, and with it all later ones of its key, where the live generation lacks it as
    /// well: then the server delivers them yet.
    /// - Throws: a ``ProjectionRebuildError`` where it does not lack it.
    func passOver(_ failure: Failure) async throws -> Checkpoint {
        try await database.withTransaction { transaction in
            let place = try await lock(transaction)
            guard place.position < failure.event.position else { return place }
            let waiting = try await generations.progress.keys(transaction)[failure.key]
            guard !isVerification, let waiting, waiting.position < failure.event.position else {
                throw failure.error
            }
            try await own.put(failure.key, of: slot(of: failure.key), at: place, transaction)
            try await generations.move(generation, to: failure.event.place, transaction)
            return failure.event.place
        }
    }

    /// The keys that are behind the generation, but for those that wait for an event that the live generation lacks, too.
    func keysBehind(_ live: Live, _ transaction: any ProjectionTransaction) async throws -> [ConsumerKey: Position] {
        try await own.keys(transaction).filter { key, row in
            isVerification || live.keys[key].map { $0.position > row.position } ?? true
        }.mapValues(\.position)
    }

    /// Takes in events of a key that is behind, in a transaction that has locked the generation's row at that place.
    /// - Parameter tries: how often events have failed before.
    func catchUp(
        _ key: ConsumerKey, to place: Checkpoint, _ live: Live, tries: [Position: UInt32] = [:],
        _ transaction: any ProjectionTransaction
    ) async throws {
        guard let row = try await own.keys(transaction)[key] else { return }
        let end = isVerification ? min(place.position, live.end(of: key, in: row.slot)) : place.position
        var last = row.place
        for event in try await source.read(key, after: last.position, to: end) {
            try await handle(event, key, live, attempt: tries[event.position, default: 0] + 1, transaction)
            last = event.place
        }
        if end == place.position {
            try await own.delete(key, of: row.slot, transaction)
        } else if last != row.place {
            try await own.put(key, of: row.slot, at: last, transaction)
        }
    }

    /// Takes in a key's events from the first one on.
    /// - Parameter tries: how often events have failed before.
    /// - Returns: how many.
    func replay(
        _ key: ConsumerKey, to end: Position, tries: [Position: UInt32], _ transaction: any ProjectionTransaction
    ) async throws -> Int {
        let events = try await source.read(key, after: .start, to: end)
        for event in events {
            try await handle(
                event, key, Live(keys: [:]), attempt: tries[event.position, default: 0] + 1, transaction)
        }
        return events.count
    }

    private func handle(
        _ event: RecordedEvent, _ key: ConsumerKey, _ live: Live, attempt: UInt32,
        _ transaction: any ProjectionTransaction
    ) async throws {
        guard !skipped.contains(event.position) else { return }
        if let reason = event.upcastFailure {
            throw failure(event, key, ProjectionFailure(.park, "it cannot be upcast: \(reason)"))
        }
        // What the live generation lacks has had no effects yet.
        let isMissing = live.keys[key].map { $0.position < event.position } ?? false
        let projected = ProjectedEvent(
            tenant: tenant, event: event, key: key, attempt: attempt, mayBeRepeated: true,
            isReplay: event.position <= replayTo && !isMissing, generation: generation)
        do { try await projection.take(projected, transaction) } catch let failed as HandlerFailure {
            throw failure(event, key, failed.failure)
        }
    }

    private func failure(_ event: RecordedEvent, _ key: ConsumerKey, _ failure: ProjectionFailure) -> Failure {
        let error = ProjectionRebuildError(
            .event(event.position, of: tenant),
            "event \(event.event.id.uuidString.lowercased()) of the tenant \(tenant) at position \(event.position), key "
                + "\(key), failed in generation \(generation.number ?? 0) of \(store.projection): \(failure.reason). Nothing was "
                + "switched. Correct the handler and call again, which goes on at this event; or, if the event is to be left "
                + "out as if it were skipped, add its position to `skipped` of the tenant")
        return Failure(event: event, key: key, failure: failure, error: error)
    }
}
