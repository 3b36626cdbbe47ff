import FoundationEssentials
import MartletModel

/// How far a projection has come, in the read model's own database: one row for each slot, and one for each key that is
/// blocked, or was so. Docs/PROJECTIONS.md describes the two tables, so that programs in other languages can do the same.
///
/// What holds at each moment, for a slot with floor f:
///
/// - Each event of the slot up to f that is delivered, or was, is in the read model, but for those of keys with a row of their
///   own: of these, it is in up to the row's position. A key gets its row before the floor passes an event of it that failed,
///   and so before the server hears of that and passes over the key's later ones.
/// - Each position has the id of its event beside it, so that a server that was restored to another past is noticed.
/// - Both move only forward, in the transaction that takes the event in, and only under the slot's epoch: who has lost the
///   slot finds another epoch, and commits nothing.
struct ProjectionProgress: Sendable {
    private static func tables(_ bytesType: String) -> [String] {
        [
            """
            CREATE TABLE IF NOT EXISTS martlet_projection_slots (
                projection text NOT NULL, slot bigint NOT NULL, epoch bigint NOT NULL, position bigint NOT NULL,
                event_id text, PRIMARY KEY (projection, slot))
            """,
            """
            CREATE TABLE IF NOT EXISTS martlet_projection_keys (
                projection text NOT NULL, slot bigint NOT NULL, key \(bytesType) NOT NULL, position bigint NOT NULL,
                event_id text, PRIMARY KEY (projection, slot, key))
            """,
        ]
    }

    /// Another worker has the slot: nothing of the transaction may be committed.
    struct Fenced: Error {
        /// The epoch of the slot's row; nil where there is no row.
        var storedEpoch: UInt64?
    }

    /// The consumer's tenant and name.
    let projection: String

    init(_ consumer: ConsumerID) { self.init(projection: "\(consumer.tenant)/\(consumer.name)") }

    init(projection: String) { self.projection = projection }

    /// Makes the tables where they are missing.
    /// - Parameter bytesType: the database's type for bytes.
    static func prepare(_ transaction: any ProjectionTransaction, bytesType: String) async throws {
        for table in tables(bytesType) { try await transaction.execute(table) }
    }

    /// Checks that the tables are what ``prepare(_:bytesType:)`` makes; in a transaction of its own.
    /// - Throws: a ``ProjectionDatabaseError`` that says what to do with tables that lack a column.
    static func verify(_ transaction: any ProjectionTransaction) async throws {
        for table in ["martlet_projection_slots", "martlet_projection_keys"] {
            do {
                try await transaction.execute("SELECT projection, slot, position, event_id FROM \(table) WHERE 1 = 0")
            } catch let error as ProjectionDatabaseError where !error.isTransient {
                throw ProjectionDatabaseError(
                    "the table \(table) is not usable: \(error). If it has no column event_id, it was made before event "
                        + "ids were kept, and says nothing of which events are in the read model: stop the runners, empty "
                        + "the read model, drop martlet_projection_slots and martlet_projection_keys, and reset the "
                        + "consumer to the start",
                    isTransient: false)
            }
        }
    }

    /// The highest epoch of any slot; 0 for none. Generations that are not live have no epochs.
    static func epochMax(in scope: ProjectionScope, _ transaction: any ProjectionTransaction) async throws -> UInt64 {
        let rows = try await transaction.execute(
            "SELECT coalesce(max(epoch), 0) FROM martlet_projection_slots WHERE \(scope.matches())", scope.value())
        return UInt64(rows.first?.first?.integer ?? 0)
    }

    /// The last event of all that the read model has taken in, and its slot; nil before the first.
    func last(_ transaction: any ProjectionTransaction) async throws -> (slot: Int, floor: Checkpoint)? {
        let rows = try await transaction.execute(
            """
            SELECT position, event_id, slot FROM martlet_projection_slots WHERE projection = $1
            ORDER BY position DESC LIMIT 1
            """, .text(projection))
        guard let row = rows.first, let floor = Self.checkpoint(row), row.count == 3, let slot = row[2].integer,
            floor.position > .start
        else { return nil }
        return (Int(slot), floor)
    }

    /// Takes over a slot that somebody has had: from then on nobody commits under a lower epoch.
    /// - Returns: the slot's floor; nil where it has no row, or one of that epoch or a higher one.
    func reclaim(
        _ slot: Int, epoch: UInt64, _ transaction: any ProjectionTransaction
    ) async throws -> Checkpoint? {
        try await transaction.execute(
            """
            UPDATE martlet_projection_slots SET epoch = $1
            WHERE projection = $2 AND slot = $3 AND epoch < $4 RETURNING position, event_id
            """, .integer(Int64(epoch)), .text(projection), .integer(Int64(slot)), .integer(Int64(epoch))
        ).first.flatMap(Self.checkpoint)
    }

    /// Takes a slot over: from then on nobody commits under a lower epoch.
    /// - Parameters:
    ///   - isAgain: an earlier try under this epoch may have committed.
    ///   - start: the floor of a slot that nobody has had.
    /// - Returns: the slot's floor.
    func claim(
        _ slot: Int, epoch: UInt64, isAgain: Bool, from start: Checkpoint = .start,
        _ transaction: any ProjectionTransaction
    ) async throws -> Checkpoint {
        let rows = try await transaction.execute(
            """
            INSERT INTO martlet_projection_slots (projection, slot, epoch, position, event_id)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (projection, slot) DO UPDATE SET epoch = excluded.epoch
            WHERE martlet_projection_slots.epoch < excluded.epoch
            RETURNING position, event_id
            """, .text(projection), .integer(Int64(slot)), .integer(Int64(epoch)),
            .integer(Int64(start.position.rawValue)), Self.value(start.eventID))
        if let floor = rows.first.flatMap(Self.checkpoint) { return floor }
        guard isAgain else { throw try await fenced(slot, transaction) }
        return try await lock(slot, epoch: epoch, transaction)
    }

    /// Locks the slot's row.
    /// - Returns: the floor.
    func lock(_ slot: Int, epoch: UInt64, _ transaction: any ProjectionTransaction) async throws -> Checkpoint {
        let rows = try await transaction.execute(
            """
            UPDATE martlet_projection_slots SET position = position
            WHERE projection = $1 AND slot = $2 AND epoch = $3 RETURNING position, event_id
            """, .text(projection), .integer(Int64(slot)), .integer(Int64(epoch)))
        guard let floor = rows.first.flatMap(Self.checkpoint) else { throw try await fenced(slot, transaction) }
        return floor
    }

    /// Locks the slot's row, whoever has it.
    /// - Returns: the floor; nil where nobody has had the slot.
    func lock(_ slot: Int, _ transaction: any ProjectionTransaction) async throws -> Checkpoint? {
        try await transaction.execute(
            """
            UPDATE martlet_projection_slots SET position = position WHERE projection = $1 AND slot = $2
            RETURNING position, event_id
            """, .text(projection), .integer(Int64(slot))
        ).first.flatMap(Self.checkpoint)
    }

    private func fenced(_ slot: Int, _ transaction: any ProjectionTransaction) async throws -> Fenced {
        let rows = try await transaction.execute(
            "SELECT epoch FROM martlet_projection_slots WHERE projection = $1 AND slot = $2", .text(projection),
            .integer(Int64(slot)))
        return Fenced(storedEpoch: rows.first?.first?.integer.map { UInt64($0) })
    }

    /// Moves the floor of a slot that is locked.
    func move(_ slot: Int, to floor: Checkpoint, _ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute(
            "UPDATE martlet_projection_slots SET position = $1, event_id = $2 WHERE projection = $3 AND slot = $4",
            .integer(Int64(floor.position.rawValue)), Self.value(floor.eventID), .text(projection),
            .integer(Int64(slot)))
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

    /// The keys of all slots that have rows.
    func keys(_ transaction: any ProjectionTransaction) async throws -> [ConsumerKey: Place] {
        let rows = try await transaction.execute(
            "SELECT position, event_id, slot, key FROM martlet_projection_keys WHERE projection = $1", .text(projection)
        )
        var keys: [ConsumerKey: Place] = [:]
        for row in rows where row.count == 4 {
            guard let place = Self.checkpoint(row), let slot = row[2].integer, let key = row[3].bytes else { continue }
            keys[ConsumerKey(bytes: key)] = Place(slot: Int(slot), place: place)
        }
        return keys
    }

    /// A place of a slot, or of a key of it.
    struct Place: Sendable {
        var slot: Int
        var place: Checkpoint

        var position: Position { place.position }
    }

    /// The floors of all slots.
    func floors(_ transaction: any ProjectionTransaction) async throws -> [Int: Position] {
        let rows = try await transaction.execute(
            "SELECT slot, position FROM martlet_projection_slots WHERE projection = $1", .text(projection))
        var floors: [Int: Position] = [:]
        for row in rows {
            if let slot = row[0].integer, let position = row[1].integer {
                floors[Int(slot)] = Position(UInt64(position))
            }
        }
        return floors
    }

    /// Deletes the rows of all slots and keys.
    func deleteAll(_ transaction: any ProjectionTransaction) async throws {
        for table in ["martlet_projection_keys", "martlet_projection_slots"] {
            try await transaction.execute("DELETE FROM \(table) WHERE projection = $1", .text(projection))
        }
    }

    /// Writes a key's row.
    func put(
        _ key: ConsumerKey, of slot: Int, at place: Checkpoint, _ transaction: any ProjectionTransaction
    ) async throws {
        try await transaction.execute(
            """
            INSERT INTO martlet_projection_keys (projection, slot, key, position, event_id)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (projection, slot, key)
            DO UPDATE SET position = excluded.position, event_id = excluded.event_id
            """, .text(projection), .integer(Int64(slot)), .bytes(key.bytes),
            .integer(Int64(place.position.rawValue)), Self.value(place.eventID))
    }

    /// Deletes a key's row: the key is in the read model up to the slot's floor.
    func delete(_ key: ConsumerKey, of slot: Int, _ transaction: any ProjectionTransaction) async throws {
        try await transaction.execute(
            "DELETE FROM martlet_projection_keys WHERE projection = $1 AND slot = $2 AND key = $3",
            .text(projection), .integer(Int64(slot)), .bytes(key.bytes))
    }

    /// A position and an event id, the first two columns of a row.
    static func checkpoint(_ row: [SQLValue]) -> Checkpoint? {
        guard row.count >= 2, let position = row[0].integer else { return nil }
        return Checkpoint(position: Position(UInt64(position)), eventID: row[1].text.flatMap { UUID(text: $0) })
    }

    static func value(_ id: UUID?) -> SQLValue { id.map { .text($0.uuidString.lowercased()) } ?? .null }
}
