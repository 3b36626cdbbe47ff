import MartletProjections

/// The statement of each account: a line for each movement, with the balance after it.
///
/// `Examples/Projections/python/statement_lines.py` does the same in Python.
package struct StatementLines: RebuildableProjection {
    package let tables = [
        ProjectionTable(
            "statement_lines",
            """
            account text NOT NULL, version bigint NOT NULL, position bigint NOT NULL, amount bigint NOT NULL,
            balance bigint NOT NULL
            """, indexes: ["account, version"])
    ]

    package init() {}

    package func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        guard let movement = try Movement(event.event) else { return }
        let lines = event.table("statement_lines")
        // The events of an account come in order: its last line is that of the movement before this one.
        let last = try await transaction.execute(
            "SELECT balance FROM \(lines) WHERE account = $1 ORDER BY version DESC LIMIT 1", .text(movement.account))
        let balance = (last.first?.first?.integer ?? 0) + movement.cents
        try await transaction.execute(
            "INSERT INTO \(lines) (account, version, position, amount, balance) VALUES ($1, $2, $3, $4, $5)",
            .text(movement.account), .integer(movement.version), .integer(movement.position),
            .integer(movement.cents), .integer(balance))
    }
}
