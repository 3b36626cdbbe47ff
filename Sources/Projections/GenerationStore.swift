import FoundationEssentials
import MartletModel

/// The generations of a projection, in the read model's own database: which one is live, and how far others have come.
/// Docs/PROJECTIONS.md describes the two tables.
///
/// A generation is one set of tables, whose rows may come from many tenants. So there is one row of it, and a ``Part`` for
/// each tenant, which is in that row where there is only one (``TenantGenerations``).
///
/// The pointer to the live generation moves only while its row and all of the projection's slot rows are locked. So who holds
/// the lock of a slot's row, or of the pointer, reads a generation that stays live until its transaction ends.
struct GenerationStore: Sendable {
    /// What a generation is there for.
    enum State: String, Sendable {
        case live, rebuild, verify, kept
        /// It was kept, and catches up to become live again.
        case back
        /// Nobody needs it any more; its tables are still to be dropped.
        case dropped
    }

    /// A row of `martlet_projection_generations`.
    struct Row: Sendable {
        var generation: ProjectionGeneration
        var state: State
        var version: Int
        var tables: [String]

        /// Throws unless it was built by that version of the projection.
        func check(_ projection: any Projection) throws {
            guard let declared = projection as? any RebuildableProjection, declared.version != version else { return }
            throw ProjectionRebuildError(
                .version,
                "generation \(generation.number ?? 0) of the projection is live, which version \(version) has built, but this "
                    + "program has version \(declared.version): "
                    + (declared.version < version
                        ? "run the newer program instead" : "rebuild the projection with this program first"))
        }
    }

    /// What a generation has of a tenant.
    struct Part: Sendable {
        /// Nothing.
        static let none = Part(place: .start, replayTo: nil)

        /// All up to there is in it, but for what its slots' and keys' rows say.
        var place: Checkpoint
        /// Events up to there are replayed; nil where nobody builds it yet.
        var replayTo: Position?

        /// Of the live one: the last event that it has of any slot.
        func end(_ slots: [ProjectionProgress.Place]) -> Checkpoint {
            slots.map(\.place).reduce(place) { $0.position < $1.position ? $1 : $0 }
        }
    }

    private static let tables = [
        """
        CREATE TABLE IF NOT EXISTS martlet_projections (
            projection text PRIMARY KEY, generation bigint NOT NULL, switches bigint NOT NULL)
        """,
        """
        CREATE TABLE IF NOT EXISTS martlet_projection_generations (
            projection text NOT NULL, generation bigint NOT NULL, state text NOT NULL, version bigint NOT NULL,
            tables text NOT NULL, owner bigint NOT NULL, position bigint NOT NULL, event_id text,
            replay_to bigint NOT NULL, PRIMARY KEY (projection, generation))
        """,
    ]
    private static let columns = "generation, state, version, tables"
    /// ``Part/replayTo`` of one that nobody builds yet.
    static let noReplay: Int64 = -1

    let scope: ProjectionScope

    var projection: String { scope.pointer }

    /// Makes the two tables where they are missing, and the projection's first generation.
    ///
    /// Where a plain projection has made progress under this name, its tables become the first generation of version 1.
    func prepare(_ declared: any RebuildableProjection, _ transaction: any ProjectionTransaction) async throws {
        for table in Self.tables { try await transaction.execute(table) }
        let inserted = try await transaction.execute(
            """
            INSERT INTO martlet_projections (projection, generation, switches) VALUES ($1, 1, 0)
            ON CONFLICT (projection) DO NOTHING RETURNING generation
            """, .text(projection))
        guard !inserted.isEmpty else { return }
        try await checkAlone(transaction)
        let first = ProjectionGeneration(1)
        let isPlain = try await !transaction.execute(
            "SELECT 1 FROM martlet_projection_slots WHERE \(scope.matches()) AND position > 0 LIMIT 1", scope.value()
        ).isEmpty
        if isPlain {
            for table in declared.tables {
                try await transaction.execute("ALTER TABLE \(table.name) RENAME TO \(first.table(table.name))")
            }
        } else {
            try await make(first, of: declared, transaction)
        }
        try await insert(
            Row(
                generation: first, state: .live, version: isPlain ? 1 : declared.version,
                tables: declared.tables.map(\.name)), transaction)
        try await show(first, declared.tables.map(\.name), transaction)
    }

    /// Throws where the tables are those of one tenant, and this is a projection over all, or the other way round.
    private func checkAlone(_ transaction: any ProjectionTransaction) async throws {
        switch scope {
        case .one(let consumer):
            let all = ProjectionScope.all(consumer.name)
            let rows = try await transaction.execute(
                "SELECT 1 FROM martlet_projections WHERE projection = $1", .text(all.pointer))
            guard rows.isEmpty else {
                throw ProjectionRebuildError(
                    .declaration,
                    "the tables of the consumer \(consumer.name) are those of a projection over all tenants: run it by a "
                        + "ProjectionRunner(_:ofAll:in:), which can be told to work on the tenant \(consumer.tenant) alone"
                )
            }
        case .all(let name):
            let rows = try await transaction.execute(
                "SELECT projection FROM martlet_projections WHERE \(scope.matches()) LIMIT 1", scope.value())
            guard let other = rows.first?.first?.text.flatMap(ProjectionScope.tenant) else { return }
            throw ProjectionRebuildError(
                .declaration,
                "the tables of the consumers \(name) are those of a projection over one tenant, \(other): run it by a "
                    + "ProjectionRunner(_:of:), or call deleteEverything() of its ProjectionRebuilder(_:of:) and reset that "
                    + "consumer, to begin with a projection over all tenants")
        }
    }

    // MARK: The pointer

    /// Locks the pointer to the live generation, until the transaction ends.
    func lockLive(_ transaction: any ProjectionTransaction) async throws -> Row {
        let rows = try await transaction.execute(
            "UPDATE martlet_projections SET generation = generation WHERE projection = $1 RETURNING generation",
            .text(projection))
        guard let number = rows.first?.first?.integer,
            let live = try await row(ProjectionGeneration(number), transaction)
        else { throw Self.missing }
        return live
    }

    /// The live generation.
    func live(_ transaction: any ProjectionTransaction) async throws -> Row {
        try await current(transaction).live
    }

    /// The live generation, and how often the pointer has moved: it may have come back to a generation that was live before.
    func current(_ transaction: any ProjectionTransaction) async throws -> (live: Row, switches: Int64) {
        let rows = try await transaction.execute(
            """
            SELECT g.generation, g.state, g.version, g.tables, p.switches
            FROM martlet_projections p JOIN martlet_projection_generations g
                ON g.projection = p.projection AND g.generation = p.generation
            WHERE p.projection = $1
            """, .text(projection))
        guard let row = rows.first, let switches = row.last?.integer, let live = Self.row(row.dropLast()) else {
            throw Self.missing
        }
        return (live, switches)
    }

    private static let missing = ProjectionDatabaseError(
        "martlet_projections names no live generation of the projection: its rows were deleted while it ran",
        isTransient: false)

    /// Has the pointer, which is locked, name another generation.
    func moveLive(to generation: ProjectionGeneration, _ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute(
            "UPDATE martlet_projections SET generation = $1, switches = switches + 1 WHERE projection = $2",
            .integer(generation.number ?? 0), .text(projection))
    }

    func deleteLive(_ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute("DELETE FROM martlet_projections WHERE projection = $1", .text(projection))
    }

    // MARK: Rows of generations

    func row(_ generation: ProjectionGeneration, _ transaction: any ProjectionTransaction) async throws -> Row? {
        try await transaction.execute(
            """
            SELECT \(Self.columns) FROM martlet_projection_generations WHERE projection = $1 AND generation = $2
            """, .text(projection), .integer(generation.number ?? 0)
        ).first.flatMap(Self.row)
    }

    func rows(_ transaction: any ProjectionTransaction) async throws -> [Row] {
        try await transaction.execute(
            """
            SELECT \(Self.columns) FROM martlet_projection_generations WHERE projection = $1 ORDER BY generation
            """, .text(projection)
        ).compactMap(Self.row)
    }

    /// Writes a generation's row; it has nothing of any tenant.
    func insert(_ row: Row, _ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_generations
                (projection, generation, state, version, tables, owner, position, event_id, replay_to)
            VALUES ($1, $2, $3, $4, $5, 0, 0, NULL, $6)
            """, .text(projection), .integer(row.generation.number ?? 0), .text(row.state.rawValue),
            .integer(Int64(row.version)), .text(row.tables.joined(separator: ",")), .integer(Self.noReplay))
    }

    /// Takes a generation over: whoever built it finds another owner.
    /// - Returns: the new owner.
    func own(
        _ generation: ProjectionGeneration, as state: State, _ transaction: any ProjectionTransaction
    ) async throws -> Int64 {
        let rows = try await transaction.execute(
            """
            UPDATE martlet_projection_generations SET owner = owner + 1, state = $1
            WHERE projection = $2 AND generation = $3 RETURNING owner
            """, .text(state.rawValue), .text(projection), .integer(generation.number ?? 0))
        return rows.first?.first?.integer ?? 0
    }

    /// Locks the row of a generation that this owner builds.
    /// - Throws: a ``ProjectionRebuildError`` where another one does, or nobody any more.
    func lock(
        _ generation: ProjectionGeneration, owner: Int64, _ transaction: any ProjectionTransaction
    ) async throws {
        let rows = try await transaction.execute(
            """
            UPDATE martlet_projection_generations SET owner = owner
            WHERE projection = $1 AND generation = $2 AND owner = $3 AND state IN ('rebuild', 'verify', 'back')
            RETURNING generation
            """, .text(projection), .integer(generation.number ?? 0), .integer(owner))
        guard rows.isEmpty else { return }
        throw ProjectionRebuildError(
            .takenOver,
            "generation \(generation.number ?? 0) of \(projection) is no longer built here: a later call has taken it over, or "
                + "dropped it")
    }

    func set(
        _ generation: ProjectionGeneration, _ state: State, _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            "UPDATE martlet_projection_generations SET state = $1 WHERE projection = $2 AND generation = $3",
            .text(state.rawValue), .text(projection), .integer(generation.number ?? 0))
    }

    private static func row(_ row: [SQLValue]) -> Row? {
        guard row.count == 4, let number = row[0].integer, let state = row[1].text.flatMap({ State(rawValue: $0) }),
            let version = row[2].integer, let tables = row[3].text
        else { return nil }
        return Row(
            generation: ProjectionGeneration(number), state: state, version: Int(version),
            tables: tables.split(separator: ",").map(String.init))
    }

    // MARK: Tables of generations

    /// Makes the tables of a generation.
    func make(
        _ generation: ProjectionGeneration, of declared: any RebuildableProjection,
        _ transaction: any ProjectionTransaction
    ) async throws {
        for table in declared.tables {
            let name = generation.table(table.name)
            try await transaction.execute("CREATE TABLE \(name) (\(table.columns))")
            for (number, columns) in table.indexes.enumerated() {
                try await transaction.execute("CREATE INDEX \(name)_i\(number + 1) ON \(name) (\(columns))")
            }
        }
        try await declared.prepare(generation, in: transaction)
    }

    /// Has the views show the tables of a generation.
    func show(
        _ generation: ProjectionGeneration, _ tables: [String], _ transaction: any ProjectionTransaction
    ) async throws {
        for table in tables {
            let select = "AS SELECT * FROM \(generation.table(table))"
            try await transaction.execute("SAVEPOINT martlet_view")
            do {
                // Keeps the rights that were granted, but needs the same columns. SQLite does not know it.
                try await transaction.execute("CREATE OR REPLACE VIEW \(table) \(select)")
            } catch let error as ProjectionDatabaseError where !error.isTransient {
                try await transaction.execute("ROLLBACK TO SAVEPOINT martlet_view")
                try await transaction.execute("DROP VIEW IF EXISTS \(table)")
                try await transaction.execute("CREATE VIEW \(table) \(select)")
            }
            try await transaction.execute("RELEASE SAVEPOINT martlet_view")
        }
    }

    /// Drops views of tables that a generation no longer has.
    func hide(_ tables: [String], _ transaction: any ProjectionTransaction) async throws {
        for table in tables { try await transaction.execute("DROP VIEW IF EXISTS \(table)") }
    }

    /// Drops a generation with all that is stored of it.
    func drop(_ row: Row, _ transaction: any ProjectionTransaction) async throws {
        for table in row.tables { try await transaction.execute("DROP TABLE IF EXISTS \(row.generation.table(table))") }
        try await deleteProgress(of: row.generation, transaction)
        try await transaction.execute(
            """
            DELETE FROM martlet_projection_generations
            WHERE (\(scope.matches()) OR projection = $2) AND generation = $3
            """, scope.value(), .text(projection), .integer(row.generation.number ?? 0))
    }
}
