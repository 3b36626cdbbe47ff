import MartletClient
public import MartletModel

/// How the live generation of a projection differs from a replay.
public struct ProjectionVerification: Hashable, Sendable {
    /// Rows with the same values.
    public struct Row: Hashable, Sendable {
        /// The values of the compared columns.
        public var values: [SQLValue]
        /// How many such rows the table has.
        public var count: Int64

        /// So many rows of those values.
        public init(values: [SQLValue], count: Int64) {
            self.values = values
            self.count = count
        }
    }

    /// A table with differences.
    public struct Table: Hashable, Sendable {
        /// The name that readers use.
        public var name: String
        /// Rows that a replay makes, and that the live table does not have as often: at most as many as were asked for.
        public var expected: [Row]
        /// Rows of the live table that a replay does not make as often: at most as many as were asked for.
        public var found: [Row]
        /// There are more of either kind.
        public var hasMore: Bool
    }

    /// The live generation that was compared.
    public var generation: Int64
    /// The highest position of each tenant that it had taken in.
    public var positions: [TenantID: UInt64]
    /// The tables that differ; none where all are the same.
    public var differences: [Table]
}

extension ProjectionRebuilder {
    /// Replays all that the live generation has taken in into a generation beside it, compares the two, and drops that one.
    ///
    /// The projection's runners wait while the last events are taken in and the tables are compared, readers do not. Rows are
    /// compared as they are, as often as they are there; the order of rows does not matter.
    /// - Parameter rowsMax: of each table, in each direction.
    /// - Throws: as ``rebuild()``.
    public func verify(rowsMax: Int = 100) async throws -> ProjectionVerification {
        var build = try await begin(.verify)
        var pace = makePace()
        while true {
            guard try await catchUp(&build, &pace) <= switchEventsMax else { continue }
            let built = build
            do {
                let verification = try await retrying {
                    try await database.withTransaction { try await compare(built, rowsMax: max(1, rowsMax), $0) }
                }
                guard let verification else { continue }
                await dropUnneeded()
                return verification
            } catch let failure as GenerationBuilder<Database>.Failure {
                throw failure.error
            }
        }
    }

    /// - Returns: nil where there are other tenants by now.
    private func compare(
        _ build: GenerationBuild<Database>, rowsMax: Int, _ transaction: any ProjectionTransaction
    ) async throws -> ProjectionVerification? {
        let live = try await store.lockLive(transaction)
        try await store.lock(build.generation, owner: build.owner, transaction)
        let slots = try await store.slots(locks: true, transaction)
        let tenants = try await store.tenants(of: [live.generation, build.generation], transaction)
        guard build.tenants.isSuperset(of: tenants) else { return nil }
        let lives = try await store.parts(of: live.generation, transaction)
        let parts = try await store.parts(of: build.generation, transaction)
        let behind = try await store.keys(of: build.generation, transaction)
        var positions: [TenantID: UInt64] = [:]
        for builder in build.builders {
            let (tenant, place) = (builder.tenant, (parts[builder.tenant] ?? .none).place)
            let last = (lives[tenant] ?? .none).end(slots[tenant] ?? []).position
            positions[tenant] = last.rawValue
            guard last > place.position || behind[tenant] != nil else { continue }
            let taken = try await builder.live(transaction)
            let reached = try await takeRest(of: builder, after: place, to: last, taken, transaction)
            for key in try await builder.keysBehind(taken, transaction).keys {
                try await builder.catchUp(key, to: reached, taken, transaction)
            }
        }
        let differences = try await differences(live, build, rowsMax: rowsMax, transaction)
        try await store.set(build.generation, .dropped, transaction)
        return ProjectionVerification(
            generation: live.generation.number ?? 0, positions: positions, differences: differences)
    }

    private func takeRest(
        of builder: GenerationBuilder<Database>, after place: Checkpoint, to last: Position,
        _ live: GenerationBuilder<Database>.Live, _ transaction: any ProjectionTransaction
    ) async throws -> Checkpoint {
        guard last > place.position else { return place }
        var reached = place
        let stream = try await builder.source.read(after: place, of: builder.generation, to: .position(last))
        var batch: [RecordedEvent] = []
        for try await event in stream {
            batch.append(event)
            guard batch.count == max(1, batchEventsMax) else { continue }
            reached = try await builder.take(batch, from: reached, live, transaction)
            batch.removeAll(keepingCapacity: true)
        }
        return try await builder.take(batch, from: reached, live, transaction)
    }

    private func differences(
        _ live: GenerationStore.Row, _ build: GenerationBuild<Database>, rowsMax: Int,
        _ transaction: any ProjectionTransaction
    ) async throws -> [ProjectionVerification.Table] {
        var differences: [ProjectionVerification.Table] = []
        for table in projection.tables {
            let scratch = build.generation.table(table.name)
            let current = live.generation.table(table.name)
            let columns = table.comparedColumns ?? "*"
            let expected = try await rows(columns, of: scratch, without: current, rowsMax + 1, transaction)
            let found = try await rows(columns, of: current, without: scratch, rowsMax + 1, transaction)
            guard !expected.isEmpty || !found.isEmpty else { continue }
            differences.append(
                ProjectionVerification.Table(
                    name: table.name, expected: Array(expected.prefix(rowsMax)), found: Array(found.prefix(rowsMax)),
                    hasMore: expected.count > rowsMax || found.count > rowsMax))
        }
        return differences
    }

    /// The rows of a table that another one does not have as often.
    private func rows(
        _ columns: String, of table: String, without other: String, _ rowsMax: Int,
        _ transaction: any ProjectionTransaction
    ) async throws -> [ProjectionVerification.Row] {
        guard let first = try await transaction.execute("SELECT \(columns) FROM \(table) LIMIT 1").first else {
            return []
        }
        let numbers = (1...first.count).map(String.init).joined(separator: ", ")
        let counted = [table, other].map { "SELECT \(columns), count(*) FROM \($0) GROUP BY \(numbers)" }
        return try await transaction.execute("\(counted[0]) EXCEPT \(counted[1]) LIMIT \(rowsMax)").map { row in
            ProjectionVerification.Row(values: Array(row.dropLast()), count: row.last?.integer ?? 0)
        }
    }
}
