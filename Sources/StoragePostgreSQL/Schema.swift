import MartletModel

/// The schema and its migrations.
struct Schema {
    /// The newest version that this code knows: the number of migrations.
    static let version = 10

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
            """
            ALTER TABLE \(name).tenants ADD COLUMN settings_revision bigint NOT NULL DEFAULT 0;

            CREATE TABLE \(name).settings (
                tenant_no bigint NOT NULL,
                kind      text   NOT NULL,
                document  bytea  NOT NULL,      -- JSON
                PRIMARY KEY (tenant_no, kind)
            );

            ALTER TABLE \(name).aggregates
                ADD COLUMN bytes            bigint NOT NULL DEFAULT 0,  -- of its records
                ADD COLUMN snapshot_version bigint NOT NULL DEFAULT 0,  -- of its newest snapshot
                ADD COLUMN snapshot_bytes   bigint NOT NULL DEFAULT 0;  -- bytes when it was saved
            UPDATE \(name).aggregates a SET bytes = e.bytes
            FROM (SELECT tenant_no, aggregate_no, sum(octet_length(record)) AS bytes
                  FROM \(name).events GROUP BY tenant_no, aggregate_no) e
            WHERE e.tenant_no = a.tenant_no AND e.aggregate_no = a.no;

            CREATE TABLE \(name).snapshots (
                tenant_no      bigint NOT NULL,
                aggregate_no   bigint NOT NULL,
                version        bigint NOT NULL,     -- of the aggregate
                created_at     bigint NOT NULL,     -- microseconds since 1970 UTC
                schema_version bigint NOT NULL,
                content_type   text   NOT NULL,
                checksum       bigint NOT NULL,     -- CRC-32C of the payload
                payload        bytea  NOT NULL,
                PRIMARY KEY (tenant_no, aggregate_no, version)
            );
            ALTER TABLE \(name).snapshots ALTER COLUMN payload SET STORAGE EXTERNAL;
            """,
            // An aggregate's version and bytes are those of its last event: of an aggregate that is there, nothing but
            // events is written. Where the last event is one of before, its bytes stay in `bytes_v3`. No row is
            // rewritten. A server of before that still runs can no longer append.
            """
            ALTER TABLE \(name).events ADD COLUMN aggregate_bytes bigint;  -- of the aggregate's records up to here
            ALTER TABLE \(name).aggregates DROP COLUMN version;
            ALTER TABLE \(name).aggregates RENAME COLUMN bytes TO bytes_v3;
            ALTER TABLE \(name).tenants ADD COLUMN changes bigint NOT NULL DEFAULT 0; -- how often snapshots changed
            ALTER TABLE \(name).tenants SET (fillfactor = 50);

            CREATE TABLE \(name).listeners (
                server uuid PRIMARY KEY,
                until  timestamptz NOT NULL         -- that is renewed as long as it runs
            ) WITH (fillfactor = 50);

            CREATE FUNCTION \(name).stale() RETURNS bigint LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'a tenant is not where it was remembered to be' USING ERRCODE = '\(Self.staleState)';
            END
            $$;
            """,
            besideEvents,
            // The revision has no checksum of its own and is written rarely: a second copy tells whether it is damaged.
            """
            INSERT INTO \(name).documents (tenant_no, kind, key, revision, value)
            SELECT no, 'revision', '', settings_revision, '' FROM \(name).tenants WHERE settings_revision > 0;
            """,
            consumers,
            lastFailures,
            schedules,
            consumersByName,
        ]
    }

    /// What is kept beside the events: see Docs/decisions/0019. A server of before that still runs can no longer append:
    /// it would write events without a checksum, and heads without an id.
    private var besideEvents: String {
        """
        ALTER TABLE \(name).tenants RENAME COLUMN aggregates TO aggregate_count;
        ALTER TABLE \(name).tenants ADD COLUMN head_id uuid;     -- of the event at the head; NULL without events
        UPDATE \(name).tenants t SET head_id = e.event_id
        FROM \(name).events e WHERE e.tenant_no = t.no AND e.position = t.position;

        -- CRC-32C of all that the row says, and of whom; NULL where it is of before.
        ALTER TABLE \(name).snapshots ADD COLUMN payload_bytes bigint NOT NULL DEFAULT 0, ADD COLUMN seal bigint;
        UPDATE \(name).snapshots SET payload_bytes = octet_length(payload);

        CREATE TABLE \(name).documents (
            tenant_no bigint NOT NULL,
            kind      text   NOT NULL,
            key       text   NOT NULL,      -- which one of its kind
            revision  bigint NOT NULL,      -- the tenant's with which it was written
            value     bytea  NOT NULL CHECK (octet_length(value) <= 1048576),
            checksum  bigint,               -- CRC-32C of all that the row says, and of whom; NULL where it is of before
            PRIMARY KEY (tenant_no, kind, key)
        );
        INSERT INTO \(name).documents (tenant_no, kind, key, revision, value)
        SELECT s.tenant_no, 'settings', s.kind, t.settings_revision, s.document
        FROM \(name).settings s JOIN \(name).tenants t ON t.no = s.tenant_no;
        DROP TABLE \(name).settings;

        -- Narrow rows that change all the time: room in each page for their next versions, and a vacuum that keeps up.
        CREATE TABLE \(name).progress (
            tenant_no bigint NOT NULL,
            kind      text   NOT NULL,      -- of consumer: checkpoint, lease, parked key
            key       text   NOT NULL,
            epoch     bigint NOT NULL,      -- fences off who worked on it before
            position  bigint NOT NULL,
            event_id  uuid,                 -- of the event at that position
            until     bigint,               -- a lease's end, microseconds since 1970 UTC
            PRIMARY KEY (tenant_no, kind, key)
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
                autovacuum_analyze_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

        CREATE TABLE \(name).schedules (
            due       bigint NOT NULL,      -- microseconds since 1970 UTC
            tenant_no bigint NOT NULL,
            id        uuid   NOT NULL,
            value     bytea  NOT NULL,
            PRIMARY KEY (due, tenant_no, id),
            UNIQUE (tenant_no, id)
        );
        """
    }

    /// Says for another 30 seconds that a server listens.
    func renewListener(_ server: String) -> String {
        """
        INSERT INTO \(name).listeners (server, until) VALUES ('\(server)', now() + interval '30 seconds')
        ON CONFLICT (server) DO UPDATE SET until = excluded.until
        """
    }

    /// Clears away what servers left that have long ended.
    var dropOldListeners: String { "DELETE FROM \(name).listeners WHERE until < now() - interval '1 hour'" }
}
