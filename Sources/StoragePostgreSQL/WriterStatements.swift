/// The statements of a writer.
extension Schema {
    /// SQLSTATE of a head that is not where it was remembered to be.
    static let staleState = "MR001"

    /// Stands for an id where there is none, as that of the event at the head of a tenant without events.
    static let zeroID = "'00000000-0000-0000-0000-000000000000'::uuid"

    /// So many rows, and fewer, are inserted by one statement: powers of two.
    static let insertedRowsMax = 64

    /// What a writer prepares.
    var writerStatements: [(name: String, sql: String)] {
        lookingUp + moving + inserts("put_aggregates", into: "aggregates", ["tenant_no", "no", "type", "id"])
            + inserts(
                "put_events", into: "events",
                [
                    "tenant_no", "position", "aggregate_no", "version", "recorded_at", "event_id", "type",
                    "content_type", "schema_version", "payload_bytes", "record", "aggregate_bytes",
                ])
            + besideEvents + consumerLookUps + consumerChanges + scheduleLookUps + scheduleChanges
    }

    /// A statement for each number of rows: `put_events-1`, `put_events-2`, `put_events-4` … A row's values cost less
    /// as parameters of their own than as elements of arrays.
    private func inserts(
        _ statement: String, into table: String, _ columns: [String]
    ) -> [(name: String, sql: String)] {
        sequence(first: 1) { $0 < Self.insertedRowsMax ? $0 * 2 : nil }.map { count in
            let rows = (0..<count).map { row in
                "(" + columns.indices.map { "$\(row * columns.count + $0 + 1)" }.joined(separator: ", ") + ")"
            }
            return (
                "\(statement)-\(count)",
                """
                INSERT INTO \(name).\(table) (\(columns.joined(separator: ", ")))
                VALUES \(rows.joined(separator: ", "))
                """
            )
        }
    }

    /// The first round trip of a commit that looks up what it decides by.
    private var lookingUp: [(name: String, sql: String)] {
        [
            // Whatever the database's default is: at other levels, who waited for a lock is refused.
            ("begin", "BEGIN ISOLATION LEVEL READ COMMITTED"),
            (
                "make_tenants",
                """
                INSERT INTO \(name).tenants (id, position, recorded_at, aggregate_count)
                SELECT id, 0, 0, 0 FROM unnest($1::uuid[]) AS id
                ON CONFLICT (id) DO NOTHING
                """
            ),
            (
                // In the order of ids, so that two servers cannot wait for each other. What follows sees what the
                // last holder of the locks has committed: each statement has a snapshot of its own.
                "lock_tenants",
                """
                \(tenantRows) FOR UPDATE
                """
            ),
            ("lock_free_tenants", "\(tenantRows) FOR UPDATE SKIP LOCKED"),
            ("tenants", tenantRows),
            // Those whose snapshots change, in the order in which they are named.
            ("lock_aggregates", lockedAggregates("")),
            ("lock_free_aggregates", lockedAggregates("SKIP LOCKED")),
            ("wait_at_most", "SELECT set_config('lock_timeout', $1, true)"),
            // Each name and each id is looked up by an index: the lateral joins leave the planner no other order, however
            // young the tables' statistics are.
            (
                "versions",
                """
                SELECT q.index, a.no, e.version, coalesce(e.aggregate_bytes, a.bytes_v3), a.snapshot_version,
                       a.snapshot_bytes
                \(namedAggregates)
                CROSS JOIN LATERAL (
                    SELECT version, aggregate_bytes FROM \(name).events
                    WHERE tenant_no = a.tenant_no AND aggregate_no = a.no
                    ORDER BY version DESC LIMIT 1) AS e
                """
            ),
            (
                "stored",
                """
                SELECT q.index, a.type, a.id, e.version, e.position, e.recorded_at, e.record
                FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS q (tenant, id, index)
                CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
                CROSS JOIN LATERAL (
                    SELECT * FROM \(name).events WHERE tenant_no = t.no AND event_id = q.id OFFSET 0) AS e
                CROSS JOIN LATERAL (
                    SELECT * FROM \(name).aggregates WHERE tenant_no = t.no AND no = e.aggregate_no OFFSET 0) AS a
                """
            ),
            (
                "snapshots",
                """
                SELECT q.index, s.version, s.schema_version
                \(namedAggregates)
                JOIN \(name).snapshots s ON s.tenant_no = a.tenant_no AND s.aggregate_no = a.no
                ORDER BY s.version DESC
                """
            ),
            ("newest_snapshots", "SELECT q.index, a.snapshot_version, a.snapshot_bytes \(namedAggregates)"),
        ]
    }

    private var tenantRows: String {
        """
        SELECT id, no, position, recorded_at, aggregate_count, settings_revision, head_id
        FROM \(name).tenants
        WHERE id = ANY ($1::uuid[]) ORDER BY id
        """
    }

    private func lockedAggregates(_ how: String) -> String {
        """
        SELECT q.index
        FROM unnest($1::uuid[], $2::text[], $3::uuid[]) WITH ORDINALITY AS q (tenant, type, id, index)
        CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
        CROSS JOIN LATERAL (
            SELECT FROM \(name).aggregates
            WHERE tenant_no = t.no AND id = q.id AND type = q.type FOR NO KEY UPDATE \(how)) AS a
        """
    }

    /// Joins `q`, which are the aggregates asked for, with `a`, those of them that are there.
    private var namedAggregates: String {
        """
        FROM unnest($1::uuid[], $2::text[], $3::uuid[]) WITH ORDINALITY AS q (tenant, type, id, index)
        CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
        CROSS JOIN LATERAL (
            SELECT * FROM \(name).aggregates
            WHERE tenant_no = t.no AND id = q.id AND type = q.type OFFSET 0) AS a
        """
    }

    /// How heads move, and how that ends.
    private var moving: [(name: String, sql: String)] {
        [
            (
                // One tenant that is remembered: its head moves from where it was remembered to be. Where it was not
                // there, this fails, and all that follows is skipped.
                "move_head",
                """
                WITH moved AS (
                    UPDATE \(name).tenants SET position = $4, recorded_at = $5, aggregate_count = $6, head_id = $7
                    WHERE no = $1 AND position = $2 AND id = $3 AND coalesce(head_id, \(Self.zeroID)) = $8
                    RETURNING 1)
                SELECT CASE WHEN NOT EXISTS (SELECT FROM moved) THEN \(name).stale() END
                """
            ),
            (
                // The same of several tenants, which are locked in the order in which they are named. One that another
                // program has locked is as good as moved.
                "prove_heads",
                """
                SELECT CASE WHEN count(*) <> cardinality($1::bigint[]) THEN \(name).stale() END
                FROM (
                    SELECT 1
                    FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::uuid[]) WITH ORDINALITY
                        AS q (no, position, id, head_id, index)
                    JOIN \(name).tenants t ON t.no = q.no AND t.position = q.position AND t.id = q.id
                        AND coalesce(t.head_id, \(Self.zeroID)) = q.head_id
                    ORDER BY q.index
                    FOR UPDATE OF t SKIP LOCKED) AS locked
                """
            ),
            (
                "move_heads",
                """
                UPDATE \(name).tenants t
                SET position = q.position, recorded_at = q.recorded_at, aggregate_count = q.aggregate_count,
                    head_id = q.head_id
                FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[])
                    AS q (no, position, recorded_at, aggregate_count, head_id)
                WHERE t.no = q.no
                """
            ),
            (
                // A transaction of its own, which need not be on disk.
                "notify",
                """
                SELECT pg_notify('\(channel)', notice), set_config('synchronous_commit', 'off', true)
                FROM unnest($1::text[]) AS notice
                WHERE EXISTS (SELECT FROM \(name).listeners WHERE server <> $2::uuid AND until > now())
                """
            ),
            (
                // Deletes nothing, which a standby refuses nevertheless; and takes a number, so that COMMIT writes.
                "probe",
                "WITH nothing AS (DELETE FROM \(name).tenants WHERE false) SELECT txid_current()"
            ),
            ("commit", "COMMIT"),
            ("rollback", "ROLLBACK"),
        ]
    }

    /// Snapshots and settings.
    private var besideEvents: [(name: String, sql: String)] {
        [
            (
                "drop_snapshots",
                """
                DELETE FROM \(name).snapshots
                WHERE tenant_no = $1 AND aggregate_no = $2 AND version = ANY ($3::bigint[])
                """
            ),
            (
                "put_snapshot",
                """
                INSERT INTO \(name).snapshots (tenant_no, aggregate_no, version, created_at, schema_version,
                                               content_type, checksum, payload, seal, payload_bytes)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8::bytea, $9, octet_length($8::bytea))
                ON CONFLICT (tenant_no, aggregate_no, version) DO UPDATE
                SET created_at = excluded.created_at, schema_version = excluded.schema_version,
                    content_type = excluded.content_type, checksum = excluded.checksum, payload = excluded.payload,
                    seal = excluded.seal, payload_bytes = excluded.payload_bytes
                """
            ),
            (
                "note_snapshot",
                """
                UPDATE \(name).aggregates SET snapshot_version = $3, snapshot_bytes = $4
                WHERE tenant_no = $1 AND no = $2
                """
            ),
            (
                "put_settings",
                """
                INSERT INTO \(name).documents (tenant_no, kind, key, value, revision, checksum)
                VALUES ($1, 'settings', $2, $3, $4, $5)
                ON CONFLICT (tenant_no, kind, key) DO UPDATE
                SET value = excluded.value, revision = excluded.revision, checksum = excluded.checksum
                """
            ),
            (
                "delete_settings",
                "DELETE FROM \(name).documents WHERE tenant_no = $1 AND kind = 'settings' AND key = $2"
            ),
            (
                "copy_revision",
                """
                INSERT INTO \(name).documents (tenant_no, kind, key, value, revision, checksum)
                VALUES ($1, 'revision', '', '', $2, $3)
                ON CONFLICT (tenant_no, kind, key) DO UPDATE
                SET value = excluded.value, revision = excluded.revision, checksum = excluded.checksum
                """
            ),
            ("move_revision", "UPDATE \(name).tenants SET settings_revision = $2 WHERE no = $1"),
        ]
    }
}
