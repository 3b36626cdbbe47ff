import MartletClient
import MartletModel

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
    /// The highest position that it had taken in.
    public var position: UInt64
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
        let builder = try await begin(.verify)
        var pace = makePace()
        while try await catchUp(builder, &pace) > switchEventsMax {}
        try await catchUpKeys(builder, &pace)
        let verification: ProjectionVerification
        do {
            verification = try await retrying {
                try await database.withTransaction { try await compare(builder, rowsMax: max(1, rowsMax), $0) }
            }
        } catch let failure as GenerationBuilder<Database>.Failure {
            throw builder.error(of: failure)
        }
        await dropUnneeded()
        return verification
    }

    private func compare(
        _ builder: GenerationBuilder<Database>, rowsMax: Int, _ transaction: any ProjectionTransaction
    ) async throws -> ProjectionVerification {
        let live = try await store.lockLive(transaction)
        let place = try await builder.lock(transaction)
        let slots = try await store.progress.lockAll(transaction)
        let taken = try await builder.live(transaction)
        let last = live.end(slots).position
        var reached = place
        if last > place.position {
            let stream = try await builder.source.read(
                after: place, of: builder.generation, to: .position(last))
            var events = stream.makeAsyncIterator()
            var batch: [RecordedEvent] = []
            while let event = try await events.next() {
                batch.append(event)
                guard batch.count == max(1, batchEventsMax) else { continue }
                reached = try await builder.take(batch, from: reached, taken, transaction)
                batch.removeAll(keepingCapacity: true)
            }
            reached = try await builder.take(batch, from: reached, taken, transaction)
        }
        for key in try await builder.keysBehind(taken, transaction).keys {
            try await builder.catchUp(key, to: reached, taken, transaction)
        }
        var differences: [ProjectionVerification.Table] = []
        for table in projection.tables {
            let scratch = builder.generation.table(table.name)
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
        try await store.set(builder.generation, .dropped, transaction)
        return ProjectionVerification(
            generation: live.generation.number ?? 0, position: last.rawValue, differences: differences)
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
