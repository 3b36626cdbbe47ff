import Logging

/// The tables of a read model's database in which projections keep how far they are.
struct ReadModelTables<Database: ProjectionDatabase>: Sendable {
    let database: Database
    let retrying: DatabaseRetrying

    /// Makes those that are missing, and the first generation of a projection that has generations.
    /// - Throws: a ``ProjectionDatabaseError`` also where they are there, but not as this version needs them.
    func prepare(_ projection: any Projection, _ generations: GenerationStore?) async throws {
        let declared = projection as? any RebuildableProjection
        if let declared { try ProjectionTable.check(declared.tables) }
        try await make(declared, generations)
        try await retrying { try await database.withTransaction { try await ProjectionProgress.verify($0) } }
    }

    private func make(_ declared: (any RebuildableProjection)?, _ generations: GenerationStore?) async throws {
        let type = database.bytesType
        for isLast in [false, false, true] {
            do {
                return try await retrying {
                    try await database.withTransaction { transaction in
                        try await ProjectionProgress.prepare(transaction, bytesType: type)
                        if let declared, let generations { try await generations.prepare(declared, transaction) }
                    }
                }
            } catch let error as ProjectionDatabaseError where !isLast {
                // Of two that make a table at the same moment, PostgreSQL refuses one; then it is there.
                retrying.logger.debug("the tables could not be made at first: \(error)")
            }
        }
    }
}

/// Does something again as long as the database says that it may succeed later.
struct DatabaseRetrying: Sendable {
    let backoff: (first: Duration, max: Duration)
    let logger: Logger

    func callAsFunction<Result>(_ body: () async throws -> Result) async throws -> Result {
        var wait = backoff.first
        while true {
            do { return try await body() } catch let error as ProjectionDatabaseError where error.isTransient {
                logger.warning("the read model's database failed: \(error)")
                try await Task.sleep(for: wait)
                wait = min(wait * 2, backoff.max)
            }
        }
    }
}
