import MartletStorage

/// The schema, its migrations and every statement of the engine.
enum Schema {
    /// Marks a file as one of ours ("Mrtl").
    static let applicationID = 0x4D72_746C
    /// The newest schema version that this code knows: the number of migrations.
    static var version: Int { migrations.count }

    /// How many bits of an event's key are its position; the tenant's number stands above them. A key is one
    /// 64-bit integer, so that events lie in the file by tenant and position with no index beside.
    static let positionBits = 40

    /// A step from one version to the next, a part of one transaction.
    struct Migration: Sendable {
        var sql: String
        /// Moves what the tables that `sql` made are to hold.
        var move: @Sendable (SQLiteConnection) throws(SQLiteFault) -> Void = { _ in }
        /// What comes last.
        var cleanUp = ""
    }

    /// The steps from each version to the next.
    static let migrations: [Migration] = [
        Migration(sql: first), Migration(sql: second),
        Migration(
            sql: third, move: { connection throws(SQLiteFault) in try BlockMigration.run(connection) },
            cleanUp: thirdCleanUp),
        Migration(sql: fourth), Migration(sql: fifth), Migration(sql: ConsumerRows.migration),
        Migration(sql: ConsumerRows.lastFailureMigration), Migration(sql: ScheduleTables.migration),
        Migration(sql: ConsumerRows.tenantMigration),
    ]

    private static let first = """
        CREATE TABLE tenants (
            no          INTEGER PRIMARY KEY,
            id          BLOB    NOT NULL UNIQUE,
            position    INTEGER NOT NULL,   -- the head
            recorded_at INTEGER NOT NULL    -- of the head, microseconds since 1970 UTC
        ) STRICT;

        CREATE TABLE aggregates (
            no        INTEGER PRIMARY KEY,
            tenant_no INTEGER NOT NULL,
            type      TEXT    NOT NULL,
            id        BLOB    NOT NULL,
            version   INTEGER NOT NULL,     -- of its last event
            UNIQUE (tenant_no, id, type)
        ) STRICT;

        CREATE TABLE events (
            key          INTEGER PRIMARY KEY,   -- tenant_no << 40 | position
            aggregate_no INTEGER NOT NULL,
            version      INTEGER NOT NULL,
            recorded_at  INTEGER NOT NULL,      -- microseconds since 1970 UTC
            tenant_no    INTEGER NOT NULL,
            event_id     BLOB    NOT NULL,
            type         TEXT    NOT NULL,
            record       BLOB    NOT NULL       -- the encoded RecordedEvent
        ) STRICT;

        CREATE UNIQUE INDEX events_by_version ON events (aggregate_no, version);
        CREATE UNIQUE INDEX events_by_id ON events (tenant_no, event_id);
        """

    private static let second = """
        ALTER TABLE tenants ADD COLUMN settings_revision INTEGER NOT NULL DEFAULT 0;

        CREATE TABLE settings (
            tenant_no INTEGER NOT NULL,
            kind      TEXT    NOT NULL,
            document  BLOB    NOT NULL,     -- JSON
            UNIQUE (tenant_no, kind)
        ) STRICT;

        ALTER TABLE aggregates ADD COLUMN bytes            INTEGER NOT NULL DEFAULT 0;  -- of its records
        ALTER TABLE aggregates ADD COLUMN snapshot_version INTEGER NOT NULL DEFAULT 0;  -- of its newest snapshot
        ALTER TABLE aggregates ADD COLUMN snapshot_bytes   INTEGER NOT NULL DEFAULT 0;  -- bytes when it was saved
        UPDATE aggregates
        SET bytes = (SELECT coalesce(sum(length(e.record)), 0) FROM events e WHERE e.aggregate_no = aggregates.no);

        CREATE TABLE snapshots (
            aggregate_no   INTEGER NOT NULL,
            version        INTEGER NOT NULL,    -- of the aggregate
            created_at     INTEGER NOT NULL,    -- microseconds since 1970 UTC
            schema_version INTEGER NOT NULL,
            content_type   TEXT    NOT NULL,
            checksum       INTEGER NOT NULL,    -- CRC-32C of the payload
            payload        BLOB    NOT NULL,
            UNIQUE (aggregate_no, version)
        ) STRICT;
        """

    /// Events lie in blocks, one or more a commit and tenant: see Docs/decisions/0015.
    private static let third = """
        CREATE TABLE blocks (
            key         INTEGER PRIMARY KEY,    -- tenant_no << 40 | position of its first event
            recorded_at INTEGER NOT NULL,       -- of all its events, microseconds since 1970 UTC
            count       INTEGER NOT NULL,       -- events, at consecutive positions
            entries     BLOB    NOT NULL        -- the events as they travel
        ) STRICT;

        -- Up to there the ranges of a tenant's events are in the table; what comes after, the blocks tell.
        ALTER TABLE tenants ADD COLUMN ranged INTEGER NOT NULL DEFAULT 0;

        -- Events of one aggregate that lie in one block side by side: consecutive versions, at consecutive positions.
        CREATE TABLE ranges (
            aggregate_no INTEGER NOT NULL,
            last_version INTEGER NOT NULL,
            count        INTEGER NOT NULL,
            position     INTEGER NOT NULL,      -- of the first
            before       INTEGER NOT NULL,      -- events of the block before the first
            start        INTEGER NOT NULL,      -- where the first begins in the block's entries
            length       INTEGER NOT NULL,      -- of all of them there
            bytes        INTEGER NOT NULL,      -- of the aggregate's records up to the last
            PRIMARY KEY (aggregate_no, last_version)
        ) WITHOUT ROWID, STRICT;

        CREATE TABLE event_ids (
            tenant_no INTEGER NOT NULL,
            id        BLOB    NOT NULL,
            position  INTEGER NOT NULL,
            PRIMARY KEY (tenant_no, id)
        ) WITHOUT ROWID, STRICT;
        """

    private static let thirdCleanUp = """
        DROP TABLE events;
        UPDATE tenants SET ranged = position;
        ALTER TABLE aggregates DROP COLUMN version;     -- the last range of an aggregate tells both
        ALTER TABLE aggregates DROP COLUMN bytes;
        """

    /// What is kept beside the events: see Docs/decisions/0019.
    private static let fourth = """
        ALTER TABLE tenants ADD COLUMN head_id BLOB;    -- id of the event at the head; NULL without events
        UPDATE tenants SET head_id =
            (SELECT e.id FROM event_ids e WHERE e.tenant_no = tenants.no AND e.position = tenants.position);

        ALTER TABLE snapshots ADD COLUMN payload_bytes INTEGER NOT NULL DEFAULT 0;
        UPDATE snapshots SET payload_bytes = length(payload);
        -- CRC-32C of all that the row says, and of whom; NULL where it is of before.
        ALTER TABLE snapshots ADD COLUMN seal INTEGER;

        CREATE TABLE documents (
            tenant_no INTEGER NOT NULL,
            kind      TEXT    NOT NULL,
            key       TEXT    NOT NULL,     -- which one of its kind
            revision  INTEGER NOT NULL,     -- the tenant's with which it was written
            value     BLOB    NOT NULL CHECK (length(value) <= 1048576),
            checksum  INTEGER,              -- CRC-32C of all that the row says, and of whom; NULL where it is of before
            UNIQUE (tenant_no, kind, key)
        ) STRICT;
        INSERT INTO documents (tenant_no, kind, key, revision, value)
        SELECT s.tenant_no, 'settings', s.kind, t.settings_revision, s.document
        FROM settings s JOIN tenants t ON t.no = s.tenant_no;
        DROP TABLE settings;

        CREATE TABLE progress (
            tenant_no INTEGER NOT NULL,
            kind      TEXT    NOT NULL,     -- of consumer: checkpoint, lease, parked key
            key       TEXT    NOT NULL,
            epoch     INTEGER NOT NULL,     -- fences off who worked on it before
            position  INTEGER NOT NULL,
            event_id  BLOB,                 -- of the event at that position
            until     INTEGER,              -- a lease's end, microseconds since 1970 UTC
            PRIMARY KEY (tenant_no, kind, key)
        ) WITHOUT ROWID, STRICT;

        CREATE TABLE schedules (
            due       INTEGER NOT NULL,     -- microseconds since 1970 UTC
            tenant_no INTEGER NOT NULL,
            id        BLOB    NOT NULL,
            value     BLOB    NOT NULL,
            PRIMARY KEY (due, tenant_no, id)
        ) WITHOUT ROWID, STRICT;
        CREATE UNIQUE INDEX schedules_by_id ON schedules (tenant_no, id);
        """

    /// The settings revision has no checksum of its own and is written rarely: a second copy tells whether it is damaged.
    private static let fifth = """
        INSERT INTO documents (tenant_no, kind, key, revision, value)
        SELECT no, 'revision', '', settings_revision, x'' FROM tenants WHERE settings_revision > 0;

        -- The state last: SQLite walks over all of it to what comes after.
        CREATE TABLE snapshots_with_state_last (
            aggregate_no   INTEGER NOT NULL,
            version        INTEGER NOT NULL,    -- of the aggregate
            created_at     INTEGER NOT NULL,    -- microseconds since 1970 UTC
            schema_version INTEGER NOT NULL,
            content_type   TEXT    NOT NULL,
            checksum       INTEGER NOT NULL,    -- CRC-32C of the payload
            payload_bytes  INTEGER NOT NULL,
            seal           INTEGER,             -- CRC-32C of all that the row says, and of whom; NULL where it is of before
            payload        BLOB    NOT NULL,
            UNIQUE (aggregate_no, version)
        ) STRICT;
        INSERT INTO snapshots_with_state_last (
            aggregate_no, version, created_at, schema_version, content_type, checksum, payload_bytes, seal, payload)
        SELECT aggregate_no, version, created_at, schema_version, content_type, checksum, payload_bytes, seal, payload
        FROM snapshots;
        DROP TABLE snapshots;
        ALTER TABLE snapshots_with_state_last RENAME TO snapshots;
        """
}

/// Every statement, prepared once a connection.
enum Query: Int, CaseIterable {
    case begin, beginRead, commit, rollback
    case selectTenant, selectLastTenant, insertTenant, updateTenant
    case selectAggregate, insertAggregate, selectUnranged, selectHead, updateRanged
    case selectPositionOfID, insertEventID
    case insertBlock, selectBlock, selectBlocks, selectBlocksBackward
    case insertRange, selectLastRange, selectRange, selectRanges, selectRangesBackward
    case selectSnapshots, selectSnapshot, putSnapshot, deleteSnapshot, updateAggregateSnapshot
    case selectSettings, putSettings, deleteSettings, updateSettingsRevision, copyRevision
    case selectConsumer, selectConsumers, countConsumers, putConsumer, deleteConsumer, selectEpochFloor, putEpochFloor
    case selectTenantsWithConsumer, selectTenantWithConsumer
    case selectSlot, selectSlots, putSlot, deleteSlots
    case selectWorkers, putWorker, deleteWorker, deleteWorkers
    case selectBlockedKey, selectBlockedKeys, selectLastBlockedKey, putBlockedKey, deleteBlockedKey, deleteBlockedKeys
    case selectScheduleHead, selectSchedules, selectParkedSchedules, selectEarliestSchedules, selectDueSchedules
    case selectScheduleTenant, countSchedules, selectDueTenants, selectNextDue
    case putSchedule, parkSchedule, deleteSchedule, putScheduleTenant

    var sql: String {
        switch self {
        case .begin: "BEGIN IMMEDIATE"
        case .beginRead: "BEGIN"
        case .commit: "COMMIT"
        case .rollback: "ROLLBACK"
        case .selectTenant: "SELECT no, position, recorded_at, settings_revision, head_id FROM tenants WHERE id = ?1"
        case .selectLastTenant: "SELECT max(no) FROM tenants"
        case .insertTenant: "INSERT INTO tenants (id, position, recorded_at, head_id) VALUES (?1, ?2, ?3, ?4)"
        case .updateTenant: "UPDATE tenants SET position = ?2, recorded_at = ?3, head_id = ?4 WHERE no = ?1"
        case .selectAggregate:
            "SELECT no, snapshot_version, snapshot_bytes FROM aggregates WHERE tenant_no = ?1 AND id = ?2 AND type = ?3"
        case .selectUnranged: "SELECT no, ranged, position, id FROM tenants WHERE ranged < position"
        case .selectHead: "SELECT position FROM tenants WHERE no = ?1"
        case .updateRanged: "UPDATE tenants SET ranged = ?2 WHERE no = ?1"
        case .insertAggregate: "INSERT INTO aggregates (tenant_no, id, type) VALUES (?1, ?2, ?3)"
        case .selectPositionOfID: "SELECT position FROM event_ids WHERE tenant_no = ?1 AND id = ?2"
        case .insertEventID: "INSERT INTO event_ids (tenant_no, id, position) VALUES (?1, ?2, ?3)"
        case .insertBlock: "INSERT INTO blocks (key, recorded_at, count, entries) VALUES (?1, ?2, ?3, ?4)"
        case .selectBlock:
            // The block that holds a position.
            """
            SELECT key, count, recorded_at, entries FROM blocks
            WHERE key <= ?1 ORDER BY key DESC LIMIT 1
            """
        case .selectBlocks: Self.blocks("ASC")
        case .selectBlocksBackward: Self.blocks("DESC")
        case .insertRange:
            // Before a crash, some may have been moved already.
            """
            INSERT OR IGNORE INTO ranges (aggregate_no, last_version, count, position, before, start, length, bytes)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
            """
        case .selectLastRange:
            // Up to a version.
            """
            SELECT last_version, bytes FROM ranges
            WHERE aggregate_no = ?1 AND last_version <= ?2 ORDER BY last_version DESC LIMIT 1
            """
        case .selectRange:
            // The range that holds a version.
            """
            SELECT last_version, count, position FROM ranges
            WHERE aggregate_no = ?1 AND last_version >= ?2 ORDER BY last_version LIMIT 1
            """
        case .selectRanges:
            """
            SELECT last_version, count, position, before, start, length FROM ranges
            WHERE aggregate_no = ?1 AND last_version > ?2 ORDER BY last_version
            """
        case .selectRangesBackward:
            // From the range that holds the last version that is asked for.
            """
            SELECT last_version, count, position, before, start, length FROM ranges
            WHERE aggregate_no = ?1 AND last_version <= coalesce(
                (SELECT last_version FROM ranges WHERE aggregate_no = ?1 AND last_version >= ?2
                 ORDER BY last_version LIMIT 1), ?2)
            ORDER BY last_version DESC
            """
        case .selectSnapshots:
            // The length of a blob is known without reading it.
            """
            SELECT version, schema_version, created_at, content_type, payload_bytes, length(payload), checksum, seal
            FROM snapshots WHERE aggregate_no = ?1 ORDER BY version DESC
            """
        case .selectSnapshot:
            """
            SELECT version, created_at, schema_version, content_type, checksum, payload, seal
            FROM snapshots WHERE aggregate_no = ?1 AND version = ?2
            """
        case .putSnapshot:
            """
            INSERT OR REPLACE INTO snapshots (
                aggregate_no, version, created_at, schema_version, content_type, checksum, payload, payload_bytes, seal)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, length(?7), ?8)
            """
        case .deleteSnapshot: "DELETE FROM snapshots WHERE aggregate_no = ?1 AND version = ?2"
        case .updateAggregateSnapshot:
            "UPDATE aggregates SET snapshot_version = ?2, snapshot_bytes = ?3 WHERE no = ?1"
        case .selectSettings:
            "SELECT key, value, revision, checksum FROM documents WHERE tenant_no = ?1 AND kind = 'settings'"
        case .putSettings:
            """
            INSERT OR REPLACE INTO documents (tenant_no, kind, key, value, revision, checksum)
            VALUES (?1, 'settings', ?2, ?3, ?4, ?5)
            """
        case .deleteSettings: "DELETE FROM documents WHERE tenant_no = ?1 AND kind = 'settings' AND key = ?2"
        case .updateSettingsRevision: "UPDATE tenants SET settings_revision = ?2 WHERE no = ?1"
        case .copyRevision:
            """
            INSERT OR REPLACE INTO documents (tenant_no, kind, key, value, revision, checksum)
            VALUES (?1, 'revision', '', x'', ?2, ?3)
            """
        case .selectScheduleHead, .selectSchedules, .selectParkedSchedules, .selectEarliestSchedules,
            .selectDueSchedules, .selectScheduleTenant, .countSchedules, .selectDueTenants, .selectNextDue,
            .putSchedule, .parkSchedule, .deleteSchedule, .putScheduleTenant:
            ScheduleTables.sql(self)
        default: ConsumerRows.sql(self)
        }
    }

    /// Blocks that hold keys from ?1, which a block holds, to ?2.
    private static func blocks(_ order: String) -> String {
        """
        SELECT key, count, entries FROM blocks
        WHERE key >= (SELECT key FROM blocks WHERE key <= ?1 ORDER BY key DESC LIMIT 1) AND key <= ?2
        ORDER BY key \(order)
        """
    }
}
