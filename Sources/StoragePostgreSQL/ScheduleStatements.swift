/// The tables and statements of schedules: see Docs/decisions/0048.
extension Schema {
    /// The step to the version that has them.
    var schedules: String {
        """
        DROP TABLE \(name).schedules;       -- nothing was ever written to it

        CREATE TABLE \(name).schedules (
            tenant_no      bigint NOT NULL,
            key            text   COLLATE "C" NOT NULL,
            due            bigint NOT NULL,     -- microseconds since 1970 UTC
            server         uuid   NOT NULL,     -- that has set it; others look after it when it is overdue
            aggregate_type text   NOT NULL,
            aggregate_id   uuid   NOT NULL,
            event_id       uuid   NOT NULL,
            event_type     text   NOT NULL,
            content_type   text   NOT NULL,
            schema_version bigint NOT NULL,
            payload_bytes  bigint NOT NULL,     -- the payload is the tail of the event
            lateness_max   bigint,              -- milliseconds; NULL: however late
            checksum       bigint NOT NULL,     -- CRC-32C of the event
            seal           bigint NOT NULL,     -- CRC-32C of all that stands before but for the server, and of whom
            parked         text,                -- why it is set aside; NULL: it is not
            parked_seal    bigint,              -- CRC-32C of that, and of what
            event          bytea  NOT NULL,     -- the encoded Event
            PRIMARY KEY (tenant_no, key)
        );
        ALTER TABLE \(name).schedules ALTER COLUMN event SET STORAGE EXTERNAL;
        CREATE INDEX schedules_by_due ON \(name).schedules (tenant_no, due, key) WHERE parked IS NULL;
        CREATE INDEX parked_schedules ON \(name).schedules (tenant_no, key) WHERE parked IS NOT NULL;

        CREATE TABLE \(name).schedule_tenants (
            tenant_no bigint PRIMARY KEY,
            count     bigint NOT NULL,      -- of its schedules
            due       bigint,               -- the first of those that are not set aside; NULL: none
            seal      bigint                -- NULL where there were none yet
        ) WITH (\(Self.hot));
        CREATE INDEX schedule_tenants_by_due ON \(name).schedule_tenants (due) WHERE due IS NOT NULL;
        """
    }

    /// Columns of schedules, as ``ScheduleRows`` reads them, from the second one on.
    static let scheduleColumns = """
        s.key, s.due, s.aggregate_type, s.aggregate_id, s.event_id, s.event_type, s.content_type, s.schema_version,
        s.payload_bytes, s.lateness_max, s.checksum, s.seal, s.parked, s.parked_seal
        """

    /// What deciding on schedules takes. Each statement sees what the last holder of the locks before it has committed.
    var scheduleLookUps: [(name: String, sql: String)] {
        func tenants(_ arrays: String, _ columns: String) -> String {
            """
            FROM unnest(\(arrays)) WITH ORDINALITY AS q (\(columns), index)
            CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
            """
        }
        return [
            (
                // What there is to lock.
                "make_schedule_tenants",
                """
                INSERT INTO \(name).schedule_tenants (tenant_no, count)
                SELECT t.no, 0 \(tenants("$1::uuid[]", "tenant")) ORDER BY q.index
                ON CONFLICT (tenant_no) DO NOTHING
                """
            ),
            (
                // In the order in which they are named.
                "lock_schedules",
                """
                SELECT q.index, s.count, s.due, s.seal \(tenants("$1::uuid[]", "tenant"))
                CROSS JOIN LATERAL (
                    SELECT * FROM \(name).schedule_tenants WHERE tenant_no = t.no FOR NO KEY UPDATE) AS s
                """
            ),
            (
                "count_schedules",
                """
                SELECT q.index, (SELECT count(*) FROM \(name).schedules s WHERE s.tenant_no = t.no)
                \(tenants("$1::uuid[]", "tenant"))
                """
            ),
            (
                "earliest_schedules",
                """
                SELECT q.index, s.key, s.due \(tenants("$1::uuid[], $2::bigint[]", "tenant, count"))
                CROSS JOIN LATERAL (
                    SELECT key, due FROM \(name).schedules
                    WHERE tenant_no = t.no AND parked IS NULL ORDER BY due, key LIMIT q.count) AS s
                """
            ),
            (
                "schedule_heads",
                """
                SELECT q.index, s.due, s.event_id, s.parked IS NOT NULL
                \(tenants("$1::uuid[], $2::text[]", "tenant, key"))
                JOIN \(name).schedules s ON s.tenant_no = t.no AND s.key = q.key
                """
            ),
        ]
    }

    /// What changes schedules.
    var scheduleChanges: [(name: String, sql: String)] {
        [
            (
                "put_schedule",
                """
                INSERT INTO \(name).schedules (
                    tenant_no, key, due, server, aggregate_type, aggregate_id, event_id, event_type, content_type,
                    schema_version, payload_bytes, lateness_max, checksum, seal, event)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
                ON CONFLICT (tenant_no, key) DO UPDATE
                SET due = excluded.due, server = excluded.server, aggregate_type = excluded.aggregate_type,
                    aggregate_id = excluded.aggregate_id, event_id = excluded.event_id,
                    event_type = excluded.event_type, content_type = excluded.content_type,
                    schema_version = excluded.schema_version, payload_bytes = excluded.payload_bytes,
                    lateness_max = excluded.lateness_max, checksum = excluded.checksum, seal = excluded.seal,
                    event = excluded.event, parked = NULL, parked_seal = NULL
                """
            ),
            (
                "park_schedules",
                """
                UPDATE \(name).schedules s SET parked = q.parked, parked_seal = q.seal
                FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS q (no, key, parked, seal)
                WHERE s.tenant_no = q.no AND s.key = q.key
                """
            ),
            (
                "delete_schedules",
                """
                DELETE FROM \(name).schedules s USING unnest($1::bigint[], $2::text[]) AS q (no, key)
                WHERE s.tenant_no = q.no AND s.key = q.key
                """
            ),
            (
                "move_schedule_tenants",
                """
                UPDATE \(name).schedule_tenants s SET count = q.count, due = nullif(q.due, -1), seal = q.seal
                FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS q (no, count, due, seal)
                WHERE s.tenant_no = q.no
                """
            ),
        ]
    }

    /// What a reader asks of schedules. The first column stands for an index, or is one.
    var ofSchedules: [(name: String, sql: String)] {
        func list(_ condition: String) -> String {
            """
            SELECT 1::bigint, \(Self.scheduleColumns)
            FROM \(name).tenants t CROSS JOIN LATERAL (
                SELECT * FROM \(name).schedules
                WHERE tenant_no = t.no AND key > $2 \(condition) ORDER BY key LIMIT $3) s
            WHERE t.id = $1
            """
        }
        return [
            ("schedules", list("")),
            ("parked_schedules", list("AND parked IS NOT NULL")),
            (
                "due_tenants",
                """
                SELECT s.tenant_no, t.id
                FROM (SELECT * FROM \(name).schedule_tenants WHERE due <= $1 ORDER BY due LIMIT $2) s
                CROSS JOIN LATERAL (SELECT id FROM \(name).tenants WHERE no = s.tenant_no OFFSET 0) AS t
                ORDER BY s.due
                """
            ),
            ("next_due", "SELECT due FROM \(name).schedule_tenants WHERE due > $1 ORDER BY due LIMIT 1"),
            (
                "due_schedules",
                """
                SELECT q.index, \(Self.scheduleColumns), s.server, octet_length(s.event)
                FROM unnest($1::bigint[]) WITH ORDINALITY AS q (no, index)
                CROSS JOIN LATERAL (
                    SELECT * FROM \(name).schedules
                    WHERE tenant_no = q.no AND parked IS NULL AND due <= $2 ORDER BY due, key LIMIT $3) s
                ORDER BY q.index, s.due, s.key
                """
            ),
            (
                "schedule_events",
                """
                SELECT q.index, s.event
                FROM unnest($1::bigint[], $2::text[], $3::uuid[]) WITH ORDINALITY AS q (no, key, event_id, index)
                CROSS JOIN LATERAL (
                    SELECT event FROM \(name).schedules
                    WHERE tenant_no = q.no AND key = q.key AND event_id = q.event_id OFFSET 0) s
                """
            ),
        ]
    }
}
