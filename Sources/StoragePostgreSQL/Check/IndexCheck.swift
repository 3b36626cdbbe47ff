/// Whether each index has what its table has, and leads to it.
///
/// A key that is damaged above the leaves misleads a search for one row, but not a scan of all of them. So the check
/// does both: it scans all rows in the index's order, and looks for each row by its own key.
struct IndexCheck {
    private static let rowsMax = 500

    private struct Index {
        var name: String
        var table: String
        var columns: [Column]
    }

    private struct Column {
        var name: String
        var type: String
        /// A clause where the index has another collation than the column, and is not used without it.
        var collation: String
    }

    let schema: Schema

    /// Runs in a transaction whose search path has the schema. No two rows of a table have the same values in an
    /// index, and an index is on plain columns without NULL.
    func check(_ connection: PostgresConnection) throws(PostgresFault) -> DatabaseCheck.Outcome {
        let indexes = try list(connection)
        var outcome = DatabaseCheck.Outcome(subject: "indexes", summary: "\(indexes.count) indexes")
        try connection.run(
            "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_tidscan = off; SET LOCAL enable_sort = off;"
                + "SET LOCAL max_parallel_workers_per_gather = 0;")
        for index in indexes {
            let (byTable, byIndex) = (try sum(index, by: .table, connection), try sum(index, by: .index, connection))
            if byTable != byIndex {
                outcome.find(
                    "index \(index.name): found \(byIndex), expected \(byTable), as in its table: "
                        + "REINDEX INDEX \(index.name)")
                continue
            }
            let lost = try lookUps(index, connection)
            if lost > 0 {
                outcome.find(
                    "index \(index.name): \(lost) rows are not found by their key: "
                        + "REINDEX INDEX \(index.name)")
            }
        }
        try connection.run(
            "RESET enable_seqscan; RESET enable_indexscan; RESET enable_indexonlyscan; RESET enable_bitmapscan;"
                + "RESET enable_tidscan; RESET enable_sort")
        return outcome
    }

    private func list(_ connection: PostgresConnection) throws(PostgresFault) -> [Index] {
        let rows = try connection.run(
            """
            SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text, quote_ident(a.attname),
                   format_type(a.atttypid, NULL),
                   CASE WHEN k.sorted_by <> a.attcollation THEN ' COLLATE ' || k.sorted_by::regcollation ELSE '' END
            FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
            CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[]) WITH ORDINALITY AS k (no, sorted_by, n)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.no
            WHERE c.relnamespace = '\(schema.name)'::regnamespace ORDER BY 1, k.n
            """)
        var indexes: [Index] = []
        for row in 0..<rows.rowCount {
            let column = Column(name: rows.text(row, 2), type: rows.text(row, 3), collation: rows.text(row, 4))
            if indexes.last?.name == rows.text(row, 0) {
                indexes[indexes.count - 1].columns.append(column)
            } else {
                indexes.append(Index(name: rows.text(row, 0), table: rows.text(row, 1), columns: [column]))
            }
        }
        return indexes
    }

    private enum Way {
        case table
        case index
    }

    private func prefer(_ way: Way, _ connection: PostgresConnection) throws(PostgresFault) {
        let (seq, index) = way == .table ? ("on", "off") : ("off", "on")
        try connection.run(
            "SET LOCAL enable_seqscan = \(seq); SET LOCAL enable_indexscan = \(index);"
                + "SET LOCAL enable_indexonlyscan = \(index);")
    }

    /// Count and hash of the index's columns.
    private func sum(_ index: Index, by way: Way, _ connection: PostgresConnection) throws(PostgresFault) -> String {
        try prefer(way, connection)
        let columns = index.columns.map { $0.name + $0.collation }.joined(separator: ", ")
        return try connection.run(
            """
            SELECT count(*) || ' rows, hash ' || coalesce(sum(hashtextextended(q::text, 0)::numeric), 0)
            FROM (SELECT \(columns) FROM \(index.table)\(way == .index ? " ORDER BY \(columns)" : "")) AS q
            """
        ).text(0, 0)
    }

    /// Looks for each row of the table by its key.
    /// - Returns: how many are not found.
    private func lookUps(_ index: Index, _ connection: PostgresConnection) throws(PostgresFault) -> Int64 {
        let columns = index.columns.map(\.name)
        try prefer(.table, connection)
        try connection.run(
            "DECLARE rows NO SCROLL CURSOR FOR SELECT ctid::text, "
                + columns.map { "\($0)::text" }.joined(separator: ", ") + " FROM \(index.table)")
        // The cursor keeps the plan that it was declared with.
        try prefer(.index, connection)
        let arrays = (1...columns.count + 1).map { "$\($0)::text[]" }.joined(separator: ", ")
        let names = (1...columns.count).map { "c\($0)" }
        let conditions = zip(index.columns, names).map { "i.\($0.name)\($0.collation) = k.\($1)::\($0.type)" }
        try connection.prepare(
            "look_up",
            """
            SELECT count(*) FROM unnest(\(arrays)) AS k (place, \(names.joined(separator: ", "))) WHERE NOT EXISTS (
                SELECT FROM \(index.table) i
                WHERE \(conditions.joined(separator: " AND ")) AND i.ctid = k.place::tid)
            """)
        var lost: Int64 = 0
        while true {
            let rows = try connection.run("FETCH \(Self.rowsMax) FROM rows")
            if rows.rowCount > 0 {
                let values = (0...Int32(columns.count)).map { column in
                    PostgresValue((0..<rows.rowCount).map { rows.text($0, column) })
                }
                lost += try connection.run(PostgresCall("look_up", values)).integer(0, 0)
            }
            if rows.rowCount < Self.rowsMax { break }
        }
        try connection.run("CLOSE rows; DEALLOCATE look_up")
        return lost
    }
}
