import MartletModel

/// How far a projection has come, in the read model's own database: one row for each slot, and one for each key that is
/// blocked, or was so. Docs/PROJECTIONS.md describes the two tables, so that programs in other languages can do the same.
///
/// What holds at each moment, for a slot with floor f:
///
/// - Each event of the slot up to f that is delivered, or was, is in the read model, but for those of keys with a row of their
///   own: of these, it is in up to the row's position. A key gets its row before the floor passes an event of it that failed,
///   and so before the server hears of that and passes over the key's later ones.
/// - Both move only forward, in the transaction that takes the event in, and only under the slot's epoch: who has lost the
///   slot finds another epoch, and commits nothing.
struct ProjectionProgress: Sendable {
    private static func tables(_ bytesType: String) -> [String] {
        [
            """
            CREATE TABLE IF NOT EXISTS martlet_projection_slots (
                projection text NOT NULL, slot bigint NOT NULL, epoch bigint NOT NULL, position bigint NOT NULL,
                PRIMARY KEY (projection, slot))
            """,
            """
            CREATE TABLE IF NOT EXISTS martlet_projection_keys (
                projection text NOT NULL, slot bigint NOT NULL, key \(bytesType) NOT NULL, position bigint NOT NULL,
                PRIMARY KEY (projection, slot, key))
            """,
        ]
    }

    /// Another worker has the slot: nothing of the transaction may be committed.
    struct Fenced: Error {}

    /// The consumer's tenant and name.
    let projection: String

    init(_ consumer: ConsumerID) { projection = "\(consumer.tenant)/\(consumer.name)" }

    /// Makes the tables where they are missing.
    /// - Parameter bytesType: the database's type for bytes.
    static func prepare(_ transaction: any ProjectionTransaction, bytesType: String) async throws {
        for table in tables(bytesType) { try await transaction.execute(table) }
    }

    /// The highest epoch of any slot; 0 for none.
    func epochMax(_ transaction: any ProjectionTransaction) async throws -> UInt64 {
        let rows = try await transaction.execute(
            "SELECT coalesce(max(epoch), 0) FROM martlet_projection_slots WHERE projection = $1", .text(projection))
        return UInt64(rows.first?.first?.integer ?? 0)
    }

    /// Takes a slot over: from then on nobody commits under a lower epoch.
    /// - Returns: the slot's floor.
    func claim(
        _ slot: Int, epoch: UInt64, _ transaction: any ProjectionTransaction
    ) async throws -> Position {
        let rows = try await transaction.execute(
            """
            INSERT INTO martlet_projection_slots (projection, slot, epoch, position) VALUES ($1, $2, $3, 0)
            ON CONFLICT (projection, slot) DO UPDATE SET epoch = excluded.epoch
            WHERE martlet_projection_slots.epoch < excluded.epoch
            RETURNING position
            """, .text(projection), .integer(Int64(slot)), .integer(Int64(epoch)))
        guard let position = rows.first?.first?.integer else { throw Fenced() }
        return Position(UInt64(position))
    }

    /// Locks the slot's row.
    /// - Returns: the floor.
    func lock(_ slot: Int, epoch: UInt64, _ transaction: any ProjectionTransaction) async throws -> Position {
        let rows = try await transaction.execute(
            """
            UPDATE martlet_projection_slots SET position = position
            WHERE projection = $1 AND slot = $2 AND epoch = $3 RETURNING position
            """, .text(projection), .integer(Int64(slot)), .integer(Int64(epoch)))
        guard let position = rows.first?.first?.integer else { throw Fenced() }
        return Position(UInt64(position))
    }

    /// Moves the floor of a slot that is locked.
    func move(_ slot: Int, to position: Position, _ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute(
            "UPDATE martlet_projection_slots SET position = $1 WHERE projection = $2 AND slot = $3",
            .integer(Int64(position.rawValue)), .text(projection), .integer(Int64(slot)))
    }

    /// The keys of a slot that have rows, each with how far it is in the read model.
    func keys(of slot: Int, _ transaction: any ProjectionTransaction) async throws -> [ConsumerKey: Position] {
        let rows = try await transaction.execute(
            "SELECT key, position FROM martlet_projection_keys WHERE projection = $1 AND slot = $2",
            .text(projection), .integer(Int64(slot)))
        var keys: [ConsumerKey: Position] = [:]
        for row in rows where row.count == 2 {
            guard let key = row[0].bytes, let position = row[1].integer else { continue }
            keys[ConsumerKey(bytes: key)] = Position(UInt64(position))
        }
        return keys
    }

    /// Writes a key's row.
    func put(
        _ key: ConsumerKey, of slot: Int, at position: Position, _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_keys (projection, slot, key, position) VALUES ($1, $2, $3, $4)
            ON CONFLICT (projection, slot, key) DO UPDATE SET position = excluded.position
            """, .text(projection), .integer(Int64(slot)), .bytes(key.bytes), .integer(Int64(position.rawValue)))
    }

    /// Deletes a key's row: the key is in the read model up to the slot's floor.
    func delete(_ key: ConsumerKey, of slot: Int, _ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute(
            "DELETE FROM martlet_projection_keys WHERE projection = $1 AND slot = $2 AND key = $3",
            .text(projection), .integer(Int64(slot)), .bytes(key.bytes))
    }
}
