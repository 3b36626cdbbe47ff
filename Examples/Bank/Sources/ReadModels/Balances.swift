import MartletProjections

/// The balance of each account: `SELECT cents FROM balances WHERE account = …`.
package struct Balances: RebuildableProjection {
    package let tables = [
        ProjectionTable("balances", "account text PRIMARY KEY, cents bigint NOT NULL, movements bigint NOT NULL")
    ]

    package init() {}

    package func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        guard let movement = try Movement(event.event) else { return }
        let balances = event.table("balances")
        // Adding needs no key that hides what is done twice: each event comes into the table once.
        try await transaction.execute(
            """
            INSERT INTO \(balances) (account, cents, movements) VALUES ($1, $2, 1)
            ON CONFLICT (account) DO UPDATE
            SET cents = \(balances).cents + excluded.cents, movements = \(balances).movements + 1
            """, .text(movement.account), .integer(movement.cents))
    }
}
