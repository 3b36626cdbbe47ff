import EventStorage

/// The schema, its migrations and every statement of the engine.
enum Schema {
    /// Marks a file as one of ours ("Mrtl").
    static let applicationID = 0x4D72_746C
    /// The newest schema version that this code knows: the number of migrations.
    static var version: Int { migrations.count }

    /// How many bits of an event's key are its position; the tenant's number stands above them. A key is one
    /// 64-bit integer, so that events lie in the file by tenant and position with no index beside.
    static let positionBits = 40

    /// The step from each version to the next, each one transaction.
    static let migrations: [String] = [
        """
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
    ]
}

/// Every statement, prepared once a connection.
enum Query: Int, CaseIterable {
    case begin, beginRead, commit, rollback
    case selectTenant, insertTenant, updateTenant
    case selectAggregate, insertAggregate, updateAggregate
    case selectEventByID, insertEvent
    case selectKeyOfVersion, selectRecordedAt
    case pageOfAggregate, pageOfAggregateBackward
    case page, pageBackward, filteredPage, filteredPageBackward

    var sql: String {
        switch self {
        case .begin: "BEGIN IMMEDIATE"
        case .beginRead: "BEGIN"
        case .commit: "COMMIT"
        case .rollback: "ROLLBACK"
        case .selectTenant: "SELECT no, position, recorded_at FROM tenants WHERE id = ?1"
        case .insertTenant: "INSERT INTO tenants (id, position, recorded_at) VALUES (?1, ?2, ?3)"
        case .updateTenant: "UPDATE tenants SET position = ?2, recorded_at = ?3 WHERE no = ?1"
        case .selectAggregate: "SELECT no, version FROM aggregates WHERE tenant_no = ?1 AND id = ?2 AND type = ?3"
        case .insertAggregate: "INSERT INTO aggregates (tenant_no, id, type, version) VALUES (?1, ?2, ?3, ?4)"
        case .updateAggregate: "UPDATE aggregates SET version = ?2 WHERE no = ?1"
        case .selectEventByID:
            """
            SELECT e.key, e.version, e.recorded_at, a.type, a.id, e.record
            FROM events e JOIN aggregates a ON a.no = e.aggregate_no
            WHERE e.tenant_no = ?1 AND e.event_id = ?2
            """
        case .insertEvent:
            """
            INSERT INTO events (key, aggregate_no, version, recorded_at, tenant_no, event_id, type, record)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
            """
        case .selectKeyOfVersion: "SELECT key FROM events WHERE aggregate_no = ?1 AND version = ?2"
        case .selectRecordedAt: "SELECT recorded_at FROM events WHERE key = ?1"
        case .pageOfAggregate: Self.aggregatePage("ASC")
        case .pageOfAggregateBackward: Self.aggregatePage("DESC")
        case .page: Self.tenantPage("ASC")
        case .pageBackward: Self.tenantPage("DESC")
        case .filteredPage: Self.filteredPage("ASC")
        case .filteredPageBackward: Self.filteredPage("DESC")
        }
    }

    private static func aggregatePage(_ order: String) -> String {
        """
        SELECT key, version, record FROM events
        WHERE aggregate_no = ?1 AND version > ?2 AND version <= ?3 ORDER BY version \(order)
        """
    }

    private static func tenantPage(_ order: String) -> String {
        "SELECT key, version, record FROM events WHERE key > ?1 AND key <= ?2 ORDER BY key \(order)"
    }

    /// A filter's values come as JSON arrays, or NULL for all, so that one statement serves every filter.
    private static func filteredPage(_ order: String) -> String {
        """
        SELECT e.key, e.version, e.record
        FROM events e CROSS JOIN aggregates a ON a.no = e.aggregate_no
        WHERE e.key > ?1 AND e.key <= ?2
          AND (?3 IS NULL OR e.type IN (SELECT value FROM json_each(?3)))
          AND (?4 IS NULL OR a.type IN (SELECT value FROM json_each(?4)))
          AND (?5 IS NULL OR hex(a.id) IN (SELECT value FROM json_each(?5)))
        ORDER BY e.key \(order)
        """
    }
}
