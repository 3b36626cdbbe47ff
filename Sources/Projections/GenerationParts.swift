import MartletModel

/// What a generation has of each tenant, and how far the slots and keys of all tenants are.
extension GenerationStore {
    /// What a generation has of a tenant's events.
    /// - Parameter projection: the tenant and the consumer's name.
    func part(
        of generation: ProjectionGeneration, in projection: String, _ transaction: any ProjectionTransaction
    ) async throws -> Part {
        try await transaction.execute(
            """
            SELECT position, event_id, replay_to FROM martlet_projection_generations
            WHERE projection = $1 AND generation = $2
            """, .text(projection), .integer(generation.number ?? 0)
        ).first.flatMap(Self.part) ?? .none
    }

    /// What a generation has of each tenant.
    func parts(
        of generation: ProjectionGeneration, _ transaction: any ProjectionTransaction
    ) async throws -> [TenantID: Part] {
        let rows = try await transaction.execute(
            """
            SELECT position, event_id, replay_to, projection FROM martlet_projection_generations
            WHERE \(scope.matches()) AND generation = $2
            """, scope.value(), .integer(generation.number ?? 0))
        var parts: [TenantID: Part] = [:]
        for row in rows {
            guard let tenant = row.last?.text.flatMap(ProjectionScope.tenant) else { continue }
            parts[tenant] = Self.part(row.dropLast())
        }
        return parts
    }

    private static func part(_ row: [SQLValue]) -> Part? {
        guard row.count == 3, let place = ProjectionProgress.checkpoint(row), let replayTo = row[2].integer else {
            return nil
        }
        return Part(place: place, replayTo: replayTo < 0 ? nil : Position(UInt64(replayTo)))
    }

    /// Has all parts of a generation begin: what is a replay is another matter than when it was built.
    func forgetReplays(
        of generation: ProjectionGeneration, _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            """
            UPDATE martlet_projection_generations SET replay_to = \(Self.noReplay)
            WHERE \(scope.matches()) AND generation = $2
            """, scope.value(), .integer(generation.number ?? 0))
    }

    /// Has a part begin, where it is not there, or does not say what is a replay.
    func begin(
        _ generation: ProjectionGeneration, in projection: String, replayTo: Position,
        _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_generations
                (projection, generation, state, version, tables, owner, position, event_id, replay_to)
            VALUES ($1, $2, 'part', 0, '', 0, 0, NULL, $3)
            ON CONFLICT (projection, generation) DO UPDATE SET replay_to = excluded.replay_to
            """, .text(projection), .integer(generation.number ?? 0), .integer(Int64(replayTo.rawValue)))
    }

    /// Moves a part; makes it, where it is not there.
    func move(
        _ generation: ProjectionGeneration, in projection: String, to place: Checkpoint,
        _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_generations
                (projection, generation, state, version, tables, owner, position, event_id, replay_to)
            VALUES ($1, $2, 'part', 0, '', 0, $3, $4, \(Self.noReplay))
            ON CONFLICT (projection, generation)
            DO UPDATE SET position = excluded.position, event_id = excluded.event_id
            """, .text(projection), .integer(generation.number ?? 0), .integer(Int64(place.position.rawValue)),
            ProjectionProgress.value(place.eventID))
    }

    // MARK: Rows of slots and keys, of all tenants

    /// The tenants of which one of those generations, or the live one, has anything.
    func tenants(
        of generations: [ProjectionGeneration], _ transaction: any ProjectionTransaction
    ) async throws -> [TenantID] {
        guard case .all = scope else { return [ProjectionScope.tenant(of: projection)].compactMap(\.self) }
        let numbers = generations.map { "\($0.number ?? 0)" }.joined(separator: ", ")
        let rows = try await transaction.execute(
            """
            SELECT projection FROM martlet_projection_slots WHERE \(scope.matches())
            UNION SELECT projection FROM martlet_projection_generations
            WHERE \(scope.matches(2)) AND generation IN (\(numbers)) AND position > 0
            """, scope.value(), scope.value())
        return rows.compactMap { $0.first?.text.flatMap(ProjectionScope.tenant) }.sorted()
    }

    /// The floors of the live generation's slots.
    /// - Parameter locks: locks their rows, whoever has them.
    func slots(
        locks: Bool = false, _ transaction: any ProjectionTransaction
    ) async throws -> [TenantID: [ProjectionProgress.Place]] {
        let columns = "position, event_id, slot, projection"
        let rows = try await transaction.execute(
            locks
                ? """
                UPDATE martlet_projection_slots SET position = position WHERE \(scope.matches()) RETURNING \(columns)
                """ : "SELECT \(columns) FROM martlet_projection_slots WHERE \(scope.matches())", scope.value())
        var slots: [TenantID: [ProjectionProgress.Place]] = [:]
        for row in rows where row.count == 4 {
            guard let place = ProjectionProgress.checkpoint(row), let slot = row[2].integer,
                let tenant = row[3].text.flatMap(ProjectionScope.tenant)
            else { continue }
            slots[tenant, default: []].append(ProjectionProgress.Place(slot: Int(slot), place: place))
        }
        return slots
    }

    /// The keys that have rows.
    /// - Parameter generation: one that is not live; nil is the live one.
    func keys(
        of generation: ProjectionGeneration? = nil, _ transaction: any ProjectionTransaction
    ) async throws -> [TenantID: [ConsumerKey: ProjectionProgress.Place]] {
        let rows = try await transaction.execute(
            """
            SELECT position, event_id, slot, key, projection FROM martlet_projection_keys WHERE \(scope.matches())
            """, scope.value(of: generation))
        var keys: [TenantID: [ConsumerKey: ProjectionProgress.Place]] = [:]
        for row in rows where row.count == 5 {
            guard let place = ProjectionProgress.checkpoint(row), let slot = row[2].integer, let key = row[3].bytes,
                let tenant = row[4].text.flatMap(ProjectionScope.tenant)
            else { continue }
            keys[tenant, default: [:]][ConsumerKey(bytes: key)] = ProjectionProgress.Place(
                slot: Int(slot), place: place)
        }
        return keys
    }

    /// Has a generation that is not live keep what the live one has in slots and keys.
    func copyProgress(
        to generation: ProjectionGeneration, _ transaction: any ProjectionTransaction
    ) async throws {
        let name = "projection || '\(ProjectionScope.suffix(generation))'"
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_slots (projection, slot, epoch, position, event_id)
            SELECT \(name), slot, 0, position, event_id FROM martlet_projection_slots WHERE \(scope.matches())
            """, scope.value())
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_keys (projection, slot, key, position, event_id)
            SELECT \(name), slot, key, position, event_id FROM martlet_projection_keys WHERE \(scope.matches())
            """, scope.value())
    }

    /// Moves the floors of all slots, which are locked, to where a generation is.
    func moveSlots(
        to generation: ProjectionGeneration, _ transaction: any ProjectionTransaction
    ) async throws {
        let part = """
            FROM martlet_projection_generations g
            WHERE g.projection = martlet_projection_slots.projection AND g.generation = \(generation.number ?? 0)
            """
        try await transaction.execute(
            """
            UPDATE martlet_projection_slots SET
                position = (SELECT g.position \(part)), event_id = (SELECT g.event_id \(part))
            WHERE \(scope.matches())
            """, scope.value())
    }

    /// Deletes rows of all keys.
    func deleteKeys(
        of generation: ProjectionGeneration? = nil, _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            "DELETE FROM martlet_projection_keys WHERE \(scope.matches())", scope.value(of: generation))
    }

    /// Deletes rows of all slots and keys.
    func deleteProgress(
        of generation: ProjectionGeneration? = nil, _ transaction: any ProjectionTransaction
    ) async throws {
        try await deleteKeys(of: generation, transaction)
        try await transaction.execute(
            "DELETE FROM martlet_projection_slots WHERE \(scope.matches())", scope.value(of: generation))
    }
}

/// What the generations of a projection have of one tenant.
struct TenantGenerations: Sendable {
    let store: GenerationStore
    /// How far the live generation is.
    let progress: ProjectionProgress

    init(_ store: GenerationStore, _ consumer: ConsumerID) {
        self.store = store
        progress = ProjectionProgress(consumer)
    }

    /// How far another generation's slots and keys are.
    func progress(of generation: ProjectionGeneration) -> ProjectionProgress {
        ProjectionProgress(projection: progress.projection + ProjectionScope.suffix(generation))
    }

    func part(
        of generation: ProjectionGeneration, _ transaction: any ProjectionTransaction
    ) async throws -> GenerationStore.Part {
        try await store.part(of: generation, in: progress.projection, transaction)
    }

    func begin(
        _ generation: ProjectionGeneration, replayTo: Position, _ transaction: any ProjectionTransaction
    ) async throws {
        try await store.begin(generation, in: progress.projection, replayTo: replayTo, transaction)
    }

    func move(
        _ generation: ProjectionGeneration, to place: Checkpoint, _ transaction: any ProjectionTransaction
    ) async throws {
        try await store.move(generation, in: progress.projection, to: place, transaction)
    }
}
