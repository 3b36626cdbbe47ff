import MartletClient
import MartletModel

/// A generation that is being built, with the tenants whose events it takes in.
struct GenerationBuild<Database: ProjectionDatabase>: Sendable {
    let row: GenerationStore.Row
    let owner: Int64
    /// In the order of the tenants.
    private(set) var builders: [GenerationBuilder<Database>] = []
    /// Tenants that are left out.
    fileprivate(set) var leftOut: Set<TenantID> = []

    var generation: ProjectionGeneration { row.generation }

    init(row: GenerationStore.Row, owner: Int64) {
        self.row = row
        self.owner = owner
    }

    /// Those whose events are taken in, or are left out.
    var tenants: Set<TenantID> { leftOut.union(builders.map(\.tenant)) }

    fileprivate mutating func add(_ builder: GenerationBuilder<Database>) {
        let index = builders.firstIndex { $0.tenant > builder.tenant } ?? builders.endIndex
        builders.insert(builder, at: index)
    }
}

extension ProjectionRebuilder {
    /// Begins with the tenants that the live generation has, and the one that is being built has not.
    /// - Returns: those whose events it takes in from now on.
    func join(_ build: inout GenerationBuild<Database>, _ pace: inout RebuildPace) async throws -> Set<TenantID> {
        let generation = build.generation
        let tenants = try await retrying {
            try await database.withTransaction { transaction in
                try await store.tenants(
                    of: [try await store.live(transaction).generation, generation], transaction)
            }
        }
        let known = build.tenants
        var new: Set<TenantID> = []
        for tenant in tenants where !known.contains(tenant) {
            if isMany, leftOut.contains(tenant) {
                try await leaveOut(tenant, &build)
            } else {
                let (builder, place, head) = try await join(tenant, build)
                pace.expect(tenant, from: place, to: head)
                build.add(builder)
                new.insert(tenant)
            }
        }
        return new
    }

    private var isMany: Bool { if case .all = scope { true } else { false } }

    private func consumer(of tenant: TenantID) -> ConsumerID { ConsumerID(tenant: tenant, name: scope.name) }

    func generations(of tenant: TenantID) -> TenantGenerations { TenantGenerations(store, consumer(of: tenant)) }

    private func join(
        _ tenant: TenantID, _ build: GenerationBuild<Database>
    ) async throws -> (GenerationBuilder<Database>, place: Position, head: Position) {
        let consumer = consumer(of: tenant)
        let generations = generations(of: tenant)
        let description: ConsumerDescription
        do throws(MartletError) { description = try await client.consumer(consumer) } catch {
            guard isMany, error.reason == .consumerNotFound else { throw error }
            throw ProjectionRebuildError(
                .tenant(tenant),
                "the read model has events of the tenant \(tenant), which has no consumer \(scope.name) any more. To build "
                    + "the next generation without them, add the tenant to `leftOut` and call again; or put the consumer "
                    + "again before. Nothing was switched")
        }
        let (row, owner) = (build.row, build.owner)
        let (place, replayTo, floors) = try await retrying {
            try await database.withTransaction { transaction in
                try await store.lock(row.generation, owner: owner, transaction)
                let part = try await generations.part(of: row.generation, transaction)
                let replayTo = part.replayTo ?? description.settledTo
                if part.replayTo == nil {
                    try await generations.begin(row.generation, replayTo: replayTo, transaction)
                }
                let floors = try await generations.progress(of: row.generation).floors(transaction)
                return (part.place.position, replayTo, floors)
            }
        }
        let builder = GenerationBuilder(
            database: database, generations: generations, projection: projection,
            source: ReplayedEvents(consumer, description.definition, client), row: row, replayTo: replayTo,
            owner: owner, skipped: skipped[tenant] ?? [], floors: floors)
        return (builder, place, description.head.position)
    }

    private func leaveOut(_ tenant: TenantID, _ build: inout GenerationBuild<Database>) async throws {
        try await checkMissing(tenant)
        let (generation, generations) = (build.generation, generations(of: tenant))
        let part = try await retrying {
            try await database.withTransaction { try await generations.part(of: generation, $0) }
        }
        guard part.place == .start else {
            throw ProjectionRebuildError(
                .tenant(tenant),
                "the tenant \(tenant) cannot be left out of generation \(generation.number ?? 0), which has events of it "
                    + "already: abandon() it, and rebuild. Nothing was switched")
        }
        build.leftOut.insert(tenant)
    }

    /// Throws unless a tenant that is to be left out has no consumer: the server would not deliver again what it has settled.
    func checkMissing(_ tenant: TenantID) async throws {
        do throws(MartletError) { _ = try await client.consumer(consumer(of: tenant)) } catch {
            guard error.reason == .consumerNotFound else { throw error }
            return
        }
        throw ProjectionRebuildError(
            .tenant(tenant),
            "the tenant \(tenant) is to be left out, but it has a consumer \(scope.name), and what that has settled would not "
                + "come again: delete the consumer before, or take the tenant out of `leftOut`. Nothing was switched")
    }
}
