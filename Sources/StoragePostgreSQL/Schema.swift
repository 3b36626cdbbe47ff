import EventModel

/// The schema, its migrations and every statement of the engine.
struct Schema {
    /// The newest version that this code knows: the number of migrations.
    static let version = 2

    /// The PostgreSQL schema that holds the tables.
    let name: String

    /// The channel on which commits are made known.
    var channel: String { "\(name)_commits" }

    /// A lock that those hold who migrate this schema.
    var lockKey: Int64 {
        name.utf8.reduce(0x6D61_7274_6C65_7400) { ($0 &* 31) &+ Int64($1) }
    }

    /// The step from each version to the next, each within one transaction.
    var migrations: [String] {
        [
            """
            CREATE TABLE \(name).tenants (
                no          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                id          uuid   NOT NULL UNIQUE,
                position    bigint NOT NULL,    -- the head
                recorded_at bigint NOT NULL,    -- of the head, microseconds since 1970 UTC
                aggregates  bigint NOT NULL     -- how many there are; numbers them
            );

            CREATE TABLE \(name).aggregates (
                tenant_no bigint NOT NULL,
                no        bigint NOT NULL,
                type      text   NOT NULL,
                id        uuid   NOT NULL,
                version   bigint NOT NULL,      -- of its last event
                PRIMARY KEY (tenant_no, no),
                UNIQUE (tenant_no, id, type)
            );

            CREATE TABLE \(name).events (
                tenant_no      bigint  NOT NULL,
                position       bigint  NOT NULL,
                aggregate_no   bigint  NOT NULL,
                version        bigint  NOT NULL,
                recorded_at    bigint  NOT NULL, -- microseconds since 1970 UTC
                event_id       uuid    NOT NULL,
                type           text    NOT NULL,
                content_type   text    NOT NULL,
                schema_version integer NOT NULL,
                payload_bytes  integer NOT NULL, -- the payload is the tail of the record
                record         bytea   NOT NULL, -- the encoded RecordedEvent
                PRIMARY KEY (tenant_no, position),
                UNIQUE (tenant_no, aggregate_no, version),
                UNIQUE (tenant_no, event_id)
            );
            -- Out of line where it is large, and never compressed: that would cost each reader.
            ALTER TABLE \(name).events ALTER COLUMN record SET STORAGE EXTERNAL;

            -- jsonb cannot hold every JSON text (\\u0000, huge numbers): NULL stands for those.
            CREATE FUNCTION \(name).jsonb_or_null(payload bytea) RETURNS jsonb
            LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
            BEGIN
                RETURN convert_from(payload, 'UTF8')::jsonb;
            EXCEPTION WHEN others THEN
                RETURN NULL;
            END
            $$;

            CREATE VIEW \(name).event_log AS
            SELECT t.id AS tenant, e.position, a.type AS aggregate_type, a.id AS aggregate_id, e.version,
                   e.event_id, e.type, e.content_type, e.schema_version,
                   to_timestamp(e.recorded_at / 1000000) + (e.recorded_at % 1000000) * interval '1 microsecond'
                       AS recorded_at,
                   p.payload,
                   CASE WHEN e.content_type ~* '^\\s*(application/json|[^;]*\\+json)\\s*(;|$)'
                        THEN \(name).jsonb_or_null(p.payload) END AS payload_json
            FROM \(name).events e
            JOIN \(name).tenants t ON t.no = e.tenant_no
            JOIN \(name).aggregates a ON a.tenant_no = e.tenant_no AND a.no = e.aggregate_no
            CROSS JOIN LATERAL (
                SELECT substring(e.record FROM octet_length(e.record) - e.payload_bytes + 1) AS payload) p;
            """,
            // Before version 17 an exception is not caught in a parallel query: the query fails.
            "ALTER FUNCTION \(name).jsonb_or_null(bytea) PARALLEL UNSAFE;",
        ]
    }

    /// What a writer prepares. `begin` and those after it up to `stored` are the first round trip of a commit,
    /// the others the second.
    var writerStatements: [(name: String, sql: String)] {
        [
            // Whatever the database's default is: at other levels, who waited for a lock is refused.
            ("begin", "BEGIN ISOLATION LEVEL READ COMMITTED"),
            (
                "make_tenants",
                """
                INSERT INTO \(name).tenants (id, position, recorded_at, aggregates)
                SELECT id, 0, 0, 0 FROM unnest($1::uuid[]) AS id
                ON CONFLICT (id) DO NOTHING
                """
            ),
            (
                // In the order of ids, so that two servers cannot wait for each other. What follows sees what the
                // last holder of the locks has committed: each statement has a snapshot of its own.
                "lock_tenants",
                """
                SELECT id, no, position, recorded_at, aggregates FROM \(name).tenants
                WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE
                """
            ),
            (
                "versions",
                """
                SELECT q.index, a.no, a.version
                FROM unnest($1::uuid[], $2::text[], $3::uuid[]) WITH ORDINALITY AS q (tenant, type, id, index)
                JOIN \(name).tenants t ON t.id = q.tenant
                JOIN \(name).aggregates a ON a.tenant_no = t.no AND a.id = q.id AND a.type = q.type
                """
            ),
            (
                "stored",
                """
                SELECT q.index, a.type, a.id, e.version, e.position, e.recorded_at, e.record
                FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS q (tenant, id, index)
                JOIN \(name).tenants t ON t.id = q.tenant
                JOIN \(name).events e ON e.tenant_no = t.no AND e.event_id = q.id
                JOIN \(name).aggregates a ON a.tenant_no = e.tenant_no AND a.no = e.aggregate_no
                """
            ),
            (
                "put_aggregates",
                """
                INSERT INTO \(name).aggregates (tenant_no, no, type, id, version)
                SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[])
                ON CONFLICT (tenant_no, no) DO UPDATE SET version = excluded.version
                """
            ),
            (
                "put_events",
                """
                INSERT INTO \(name).events (tenant_no, position, aggregate_no, version, recorded_at, event_id, type,
                                            content_type, schema_version, payload_bytes, record)
                SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::uuid[],
                                     $7::text[], $8::text[], $9::integer[], $10::integer[], $11::bytea[])
                """
            ),
            (
                "move_heads",
                """
                UPDATE \(name).tenants t
                SET position = q.position, recorded_at = q.recorded_at, aggregates = q.aggregates
                FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    AS q (no, position, recorded_at, aggregates)
                WHERE t.no = q.no
                """
            ),
            ("tell", "SELECT pg_notify('\(channel)', $1::text)"),
            ("commit", "COMMIT"),
            ("rollback", "ROLLBACK"),
        ]
    }

    /// What a reader prepares.
    var readerStatements: [(name: String, sql: String)] {
        [
            (
                "heads",
                """
                SELECT q.index, t.position, t.recorded_at
                FROM unnest($1::uuid[]) WITH ORDINALITY AS q (id, index)
                JOIN \(name).tenants t ON t.id = q.id
                """
            ),
            (
                // Commit times never decrease along positions: a binary search over the primary key.
                "position_as_of",
                """
                WITH RECURSIVE search (tenant_no, low, high) AS (
                    SELECT no, 0::bigint, position FROM \(name).tenants WHERE id = $1
                    UNION ALL
                    SELECT s.tenant_no,
                           CASE WHEN e.recorded_at <= $2 THEN e.position ELSE s.low END,
                           CASE WHEN e.recorded_at <= $2 THEN s.high ELSE e.position - 1 END
                    FROM search s
                    JOIN \(name).events e ON e.tenant_no = s.tenant_no AND e.position = (s.low + s.high + 1) / 2
                    WHERE s.low < s.high)
                SELECT low FROM search WHERE low = high
                """
            ),
            (
                // Positions grow along versions: a binary search over the index of versions.
                "version_as_of",
                """
                WITH RECURSIVE search (tenant_no, aggregate_no, low, high) AS (
                    SELECT a.tenant_no, a.no, 0::bigint, a.version
                    FROM \(name).tenants t JOIN \(name).aggregates a ON a.tenant_no = t.no
                    WHERE t.id = $1 AND a.id = $2 AND a.type = $3
                    UNION ALL
                    SELECT s.tenant_no, s.aggregate_no,
                           CASE WHEN e.position <= $4 THEN e.version ELSE s.low END,
                           CASE WHEN e.position <= $4 THEN s.high ELSE e.version - 1 END
                    FROM search s
                    JOIN \(name).events e ON e.tenant_no = s.tenant_no AND e.aggregate_no = s.aggregate_no
                                         AND e.version = (s.low + s.high + 1) / 2
                    WHERE s.low < s.high)
                SELECT low FROM search WHERE low = high
                """
            ),
            (
                "position_of",
                """
                SELECT e.position
                FROM \(name).tenants t
                JOIN \(name).aggregates a ON a.tenant_no = t.no
                JOIN \(name).events e ON e.tenant_no = a.tenant_no AND e.aggregate_no = a.no
                WHERE t.id = $1 AND a.id = $2 AND a.type = $3 AND e.version = $4
                """
            ),
            ("aggregate_page", aggregatePage("ASC")), ("aggregate_page_backward", aggregatePage("DESC")),
            ("page", page("ASC")), ("page_backward", page("DESC")),
            ("filtered_page", filteredPage("ASC")), ("filtered_page_backward", filteredPage("DESC")),
        ]
    }

    /// Keeps the rows of `q` up to a number of bytes, the first one in any case; `found` tells how many there were.
    private func bounded(_ rows: String, by column: String, _ order: String, bytes: String, limit: String) -> String {
        """
        WITH q AS (
            SELECT position, version, record, octet_length(record) + 6 AS size,
                   sum(octet_length(record) + 6) OVER (ORDER BY \(column) \(order) ROWS UNBOUNDED PRECEDING) AS total
            FROM (\(rows) ORDER BY \(column) \(order) LIMIT \(limit)) AS r)
        SELECT position, version, record, (SELECT count(*) FROM q) AS found FROM q
        WHERE total <= \(bytes) OR total = size
        ORDER BY \(column) \(order)
        """
    }

    private func aggregatePage(_ order: String) -> String {
        bounded(
            """
            SELECT e.position, e.version, e.record FROM \(name).events e
            WHERE e.tenant_no = (SELECT no FROM \(name).tenants WHERE id = $1)
              AND e.aggregate_no = (
                  SELECT a.no FROM \(name).aggregates a JOIN \(name).tenants t ON t.no = a.tenant_no
                  WHERE t.id = $1 AND a.id = $2 AND a.type = $3)
              AND e.version > $4 AND e.version <= $5
            """, by: "version", order, bytes: "$6::bigint", limit: "$7")
    }

    private func page(_ order: String) -> String {
        bounded(
            """
            SELECT e.position, e.version, e.record FROM \(name).events e
            WHERE e.tenant_no = (SELECT no FROM \(name).tenants WHERE id = $1)
              AND e.position > $2 AND e.position <= $3
            """, by: "position", order, bytes: "$4::bigint", limit: "$5")
    }

    private func filteredPage(_ order: String) -> String {
        bounded(
            """
            SELECT e.position, e.version, e.record FROM \(name).events e
            JOIN \(name).aggregates a ON a.tenant_no = e.tenant_no AND a.no = e.aggregate_no
            WHERE e.tenant_no = (SELECT no FROM \(name).tenants WHERE id = $1)
              AND e.position > $2 AND e.position <= $3
              AND ($6::text[] IS NULL OR e.type = ANY ($6))
              AND ($7::text[] IS NULL OR a.type = ANY ($7))
              AND ($8::uuid[] IS NULL OR a.id = ANY ($8))
            """, by: "position", order, bytes: "$4::bigint", limit: "$5")
    }
}
