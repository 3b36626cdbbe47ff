import MartletClient
public import MartletModel

extension ProjectionRebuilder {
    /// Rebuilds one key of the live generation: deletes its rows, and takes in again all its events that the generation has.
    ///
    /// All in one transaction, during which the key's slot waits. All events are replays.
    /// - Returns: how many events that were.
    /// - Throws: a ``ProjectionRebuildError``, of the kind `.event` for an event that fails: then nothing is changed.
    @discardableResult
    public func rebuild(_ key: ConsumerKey) async throws -> Int {
        guard let resettable = projection as? any KeyRebuildableProjection else {
            throw ProjectionRebuildError(
                .declaration, "\(type(of: projection)) cannot rebuild one key: it is no KeyRebuildableProjection")
        }
        try await prepare()
        let source = ReplayedEvents(consumer, try await client.consumer(consumer).definition, client)
        let slot = key.slot(of: source.definition.slotCount)
        do {
            return try await retrying {
                try await database.withTransaction { transaction in
                    // Nobody else claims the slot, or switches.
                    let live = try await store.lockLive(transaction)
                    try live.check(projection)
                    let floor = try await store.progress.lock(slot, transaction)
                    let row = try await store.progress.keys(of: slot, transaction)[key]
                    let end = row ?? floor?.position ?? live.place.position
                    try await source.past.check(floor ?? live.place, of: slot)
                    try await resettable.reset(key, of: live.generation, in: transaction)
                    let builder = GenerationBuilder(
                        database: database, store: store, projection: projection, source: source,
                        row: live.replaying(to: end), owner: 0, skipped: skipped, floors: [:])
                    return try await builder.replay(key, to: end, transaction)
                }
            }
        } catch let failure as GenerationBuilder<Database>.Failure {
            throw ProjectionRebuildError(
                .event(failure.event.position),
                "the event at position \(failure.event.position) failed in the rebuild of the key \(key) of "
                    + "\(store.projection): \(failure.failure.reason). Nothing was changed")
        }
    }
}

extension GenerationStore.Row {
    fileprivate func replaying(to position: Position) -> Self {
        var row = self
        row.replayTo = position
        return row
    }
}
