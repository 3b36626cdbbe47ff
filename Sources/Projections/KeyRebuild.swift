import MartletClient
public import MartletModel

extension ProjectionRebuilder {
    /// Rebuilds one key of the live generation: deletes its rows, and takes in again all its events that the generation has.
    ///
    /// All in one transaction, during which the key's slot waits. All events are replays.
    /// - Parameter tenant: whose key it is; needed of a read model over many tenants.
    /// - Returns: how many events that were.
    /// - Throws: a ``ProjectionRebuildError``, of the kind `.event` for an event that fails: then nothing is changed.
    @discardableResult
    public func rebuild(_ key: ConsumerKey, of tenant: TenantID? = nil) async throws -> Int {
        guard let resettable = projection as? any KeyRebuildableProjection else {
            throw ProjectionRebuildError(
                .declaration, "\(type(of: projection)) cannot rebuild one key: it is no KeyRebuildableProjection")
        }
        let consumer = try consumer(for: tenant)
        try await prepare()
        let generations = TenantGenerations(store, consumer)
        let source = ReplayedEvents(consumer, try await client.consumer(consumer).definition, client)
        let slot = key.slot(of: source.definition.slotCount)
        do {
            return try await retryingEvents(makePace()) { tries in
                try await database.withTransaction { transaction in
                    // Nobody else claims the slot, or switches.
                    let live = try await store.lockLive(transaction)
                    try live.check(projection)
                    var floor = try await generations.progress.lock(slot, transaction)
                    if floor == nil { floor = try await generations.part(of: live.generation, transaction).place }
                    let row = try await generations.progress.keys(of: slot, transaction)[key]
                    let end = row ?? floor?.position ?? .start
                    try await source.past.check(floor ?? .start, of: slot)
                    try await resettable.reset(
                        key, of: consumer.tenant, generation: live.generation, in: transaction)
                    let builder = GenerationBuilder(
                        database: database, generations: generations, projection: projection, source: source,
                        row: live, replayTo: end, owner: 0, skipped: skipped[consumer.tenant] ?? [], floors: [:])
                    return try await builder.replay(key, to: end, tries: tries, transaction)
                }
            }
        } catch let failure as GenerationBuilder<Database>.Failure {
            throw ProjectionRebuildError(
                .event(failure.event.position, of: consumer.tenant),
                "the event of the tenant \(consumer.tenant) at position \(failure.event.position) failed in the rebuild of the key \(key) of "
                    + "\(store.projection): \(failure.failure.reason). Nothing was changed")
        }
    }

    private func consumer(for tenant: TenantID?) throws -> ConsumerID {
        switch (scope, tenant) {
        case (.one(let consumer), nil): return consumer
        case (.one(let consumer), let tenant?) where tenant == consumer.tenant: return consumer
        case (.one(let consumer), let tenant?):
            throw ProjectionRebuildError(
                .declaration,
                "the read model is that of the tenant \(consumer.tenant): it has no key of the tenant \(tenant)")
        case (.all(let name), let tenant?): return ConsumerID(tenant: tenant, name: name)
        case (.all, nil):
            throw ProjectionRebuildError(
                .declaration, "the read model is over many tenants: say whose key it is that is to be rebuilt")
        }
    }
}
