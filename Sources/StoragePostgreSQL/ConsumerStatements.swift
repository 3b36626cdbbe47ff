/// The tables and statements of consumers: see Docs/decisions/0044.
extension Schema {
    /// The step to the version that has them.
    var consumers: String {
        """
        DROP TABLE \(name).progress;        -- nothing was ever written to it

        CREATE TABLE \(name).consumers (
            tenant_no  bigint NOT NULL,
            name       text   COLLATE "C" NOT NULL,
            revision   bigint NOT NULL,     -- of its definition
            base_epoch bigint NOT NULL,     -- of slots without a row
            position   bigint NOT NULL,     -- where slots without a row begin: everything up to there is settled
            event_id   uuid,                -- of the event at that position; NULL at 0
            definition bytea  NOT NULL,     -- JSON
            seal       bigint NOT NULL,     -- CRC-32C of all that the row says, and of whom
            PRIMARY KEY (tenant_no, name)
        );

        -- What deleted consumers leave: those of the same names go on above their epochs.
        CREATE TABLE \(name).consumer_epochs (
            tenant_no bigint PRIMARY KEY,
            epoch     bigint NOT NULL,
            seal      bigint NOT NULL
        );

        -- Narrow rows that change all the time: room in each page for their next versions, and a vacuum that keeps up.
        CREATE TABLE \(name).consumer_slots (
            tenant_no bigint NOT NULL,
            consumer  text   COLLATE "C" NOT NULL,
            slot      bigint NOT NULL,
            epoch     bigint NOT NULL,      -- fences off who worked on it before
            position  bigint NOT NULL,      -- everything up to there is settled, or of a blocked key
            event_id  uuid,                 -- of the event at that position; NULL at 0
            owner     uuid,                 -- the session of the worker that has it
            seal      bigint NOT NULL,
            PRIMARY KEY (tenant_no, consumer, slot)
        ) WITH (\(Self.hot));

        CREATE TABLE \(name).consumer_workers (
            tenant_no bigint NOT NULL,
            consumer  text   COLLATE "C" NOT NULL,
            name      text   COLLATE "C" NOT NULL,
            session   uuid   NOT NULL,      -- names this stay of it
            server    uuid   NOT NULL,
            until     bigint NOT NULL,      -- it counts as present, microseconds since 1970 UTC
            PRIMARY KEY (tenant_no, consumer, name)
        ) WITH (\(Self.hot));

        CREATE TABLE \(name).blocked_keys (
            tenant_no        bigint NOT NULL,
            consumer         text   COLLATE "C" NOT NULL,
            slot             bigint NOT NULL,
            key              bytea  NOT NULL,
            position         bigint NOT NULL,   -- its first event that is not settled
            event_id         uuid   NOT NULL,
            is_first_handled bigint NOT NULL,   -- 1: that event is settled after all
            retry_at         bigint,            -- microseconds since 1970 UTC; NULL: it is parked
            tries            bigint NOT NULL,
            since            bigint NOT NULL,   -- the first of these tries failed
            reason           text   NOT NULL,
            seal             bigint NOT NULL,
            PRIMARY KEY (tenant_no, consumer, slot, key)
        );
        """
    }

    /// The step to the version that finds the key that failed last without reading the others.
    var lastFailures: String {
        "CREATE INDEX blocked_keys_by_failure ON \(name).blocked_keys (tenant_no, consumer, since, slot, key);"
    }

    /// The step to the version in which a consumer's row has its tenant's id too: who has a consumer of one name is found in
    /// the order of these ids. A server of before that still runs can no longer put or reset consumers: it would leave it out.
    var consumersByName: String {
        """
        ALTER TABLE \(name).consumers ADD COLUMN tenant uuid NOT NULL DEFAULT \(Self.zeroID); -- of the tenant of that number
        -- Before the rows change: an index on rows that its own transaction has changed is not used at once. It has another
        -- collation than its column, of the same order: only conditions that name this collation can take the index. What
        -- names a tenant as well is always looked up by the primary key, however few the rows are of which the planner knows.
        CREATE INDEX consumers_by_name ON \(name).consumers (name \(Self.byName), tenant);
        UPDATE \(name).consumers c SET tenant = t.id FROM \(name).tenants t WHERE t.no = c.tenant_no;
        ALTER TABLE \(name).consumers ALTER COLUMN tenant DROP DEFAULT;
        """
    }

    /// What a condition on a consumer's name has if it is looked up without its tenant.
    private static let byName = #"COLLATE "POSIX""#

    static let hot = """
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_analyze_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0
        """

    /// Columns of consumers, as ``ConsumerRow`` reads them, from the second one on.
    private static let consumerColumns =
        "c.name, c.revision, c.base_epoch, c.position, c.event_id, c.definition, c.seal"
    private static let slotColumns = "s.slot, s.epoch, s.position, s.event_id, s.owner, s.seal"
    private static let workerColumns = "w.name, w.session, w.server, w.until"
    private static let blockedKeyColumns = """
        b.slot, b.key, b.position, b.event_id, b.is_first_handled, b.retry_at, b.tries, b.since, b.reason, b.seal
        """

    /// What deciding on consumers takes. Each statement sees what the last holder of the locks before it has committed.
    var consumerLookUps: [(name: String, sql: String)] {
        [
            (
                "lock_consumers",
                """
                SELECT q.index, \(Self.consumerColumns)
                \(namedConsumers("$1::uuid[], $2::text[]", "tenant, name"))
                CROSS JOIN LATERAL (
                    SELECT * FROM \(name).consumers WHERE tenant_no = t.no AND name = q.name FOR NO KEY UPDATE) AS c
                """
            ),
            (
                // Ranges of slots, in the order in which they are named.
                "lock_slots",
                """
                SELECT q.index, \(Self.slotColumns)
                \(namedConsumers("$1::uuid[], $2::text[], $3::bigint[], $4::bigint[]", "tenant, name, low, high"))
                CROSS JOIN LATERAL (
                    SELECT * FROM \(name).consumer_slots
                    WHERE tenant_no = t.no AND consumer = q.name AND slot BETWEEN q.low AND q.high
                    ORDER BY slot FOR NO KEY UPDATE) AS s
                """
            ),
            (
                "group_workers",
                """
                SELECT q.index, \(Self.workerColumns)
                \(namedConsumers("$1::uuid[], $2::text[]", "tenant, name"))
                JOIN \(name).consumer_workers w ON w.tenant_no = t.no AND w.consumer = q.name
                """
            ),
            (
                "groups_with_blocked_keys",
                """
                SELECT q.index
                \(namedConsumers("$1::uuid[], $2::text[]", "tenant, name"))
                WHERE EXISTS (SELECT FROM \(name).blocked_keys b WHERE b.tenant_no = t.no AND b.consumer = q.name)
                """
            ),
            (
                "blocked_keys",
                """
                SELECT q.index, \(Self.blockedKeyColumns)
                \(namedConsumers("$1::uuid[], $2::text[], $3::bigint[], $4::bytea[]", "tenant, name, slot, key"))
                JOIN \(name).blocked_keys b
                    ON b.tenant_no = t.no AND b.consumer = q.name AND b.slot = q.slot AND b.key = q.key
                """
            ),
            (
                "consumer_tenants",
                """
                SELECT q.index, (SELECT count(*) FROM \(name).consumers c WHERE c.tenant_no = t.no), e.epoch, e.seal
                FROM unnest($1::uuid[]) WITH ORDINALITY AS q (tenant, index)
                CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
                LEFT JOIN \(name).consumer_epochs e ON e.tenant_no = t.no
                """
            ),
            (
                "event_positions",
                """
                SELECT q.index, e.position
                FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS q (tenant, id, index)
                CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
                CROSS JOIN LATERAL (
                    SELECT position FROM \(name).events WHERE tenant_no = t.no AND event_id = q.id OFFSET 0) AS e
                """
            ),
            ("clock", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"),
        ]
    }

    private func namedConsumers(_ arrays: String, _ columns: String) -> String {
        """
        FROM unnest(\(arrays)) WITH ORDINALITY AS q (\(columns), index)
        CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
        """
    }

    /// What changes consumers. Each names rows by the tenant's number, the consumer's name and more.
    var consumerChanges: [(name: String, sql: String)] {
        func clear(_ table: String) -> String {
            """
            DELETE FROM \(name).\(table) USING unnest($1::bigint[], $2::text[]) AS q (no, name)
            WHERE tenant_no = q.no AND consumer = q.name
            """
        }
        return [
            ("clear_slots", clear("consumer_slots")),
            ("clear_blocked_keys", clear("blocked_keys")),
            ("clear_workers", clear("consumer_workers")),
            ("delete_consumer", "DELETE FROM \(name).consumers WHERE tenant_no = $1 AND name = $2"),
            (
                "put_consumer",
                """
                INSERT INTO \(name).consumers (
                    tenant_no, name, revision, base_epoch, position, event_id, definition, seal, tenant)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                ON CONFLICT (tenant_no, name) DO UPDATE
                SET revision = excluded.revision, base_epoch = excluded.base_epoch, position = excluded.position,
                    event_id = excluded.event_id, definition = excluded.definition, seal = excluded.seal,
                    tenant = excluded.tenant
                """
            ),
            (
                "put_epoch_floor",
                """
                INSERT INTO \(name).consumer_epochs (tenant_no, epoch, seal) VALUES ($1, $2, $3)
                ON CONFLICT (tenant_no) DO UPDATE SET epoch = excluded.epoch, seal = excluded.seal
                """
            ),
            (
                "put_slots",
                """
                INSERT INTO \(name).consumer_slots (
                    tenant_no, consumer, slot, epoch, position, event_id, owner, seal)
                SELECT no, name, slot, epoch, position, nullif(event_id, \(Self.zeroID)),
                       nullif(owner, \(Self.zeroID)), seal
                FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::uuid[], $7::uuid[],
                            $8::bigint[]) AS q (no, name, slot, epoch, position, event_id, owner, seal)
                ON CONFLICT (tenant_no, consumer, slot) DO UPDATE
                SET epoch = excluded.epoch, position = excluded.position, event_id = excluded.event_id,
                    owner = excluded.owner, seal = excluded.seal
                """
            ),
            (
                "put_workers",
                """
                INSERT INTO \(name).consumer_workers (tenant_no, consumer, name, session, server, until)
                SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[])
                ON CONFLICT (tenant_no, consumer, name) DO UPDATE
                SET session = excluded.session, server = excluded.server, until = excluded.until
                """
            ),
            (
                "delete_workers",
                """
                DELETE FROM \(name).consumer_workers w
                USING unnest($1::bigint[], $2::text[], $3::text[]) AS q (no, consumer, name)
                WHERE w.tenant_no = q.no AND w.consumer = q.consumer AND w.name = q.name
                """
            ),
            (
                "put_blocked_key",
                """
                INSERT INTO \(name).blocked_keys (
                    tenant_no, consumer, slot, key, position, event_id, is_first_handled, retry_at, tries, since, reason,
                    seal)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                ON CONFLICT (tenant_no, consumer, slot, key) DO UPDATE
                SET position = excluded.position, event_id = excluded.event_id,
                    is_first_handled = excluded.is_first_handled, retry_at = excluded.retry_at, tries = excluded.tries,
                    since = excluded.since, reason = excluded.reason, seal = excluded.seal
                """
            ),
            (
                "delete_blocked_keys",
                """
                DELETE FROM \(name).blocked_keys b
                USING unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) AS q (no, name, slot, key)
                WHERE b.tenant_no = q.no AND b.consumer = q.name AND b.slot = q.slot AND b.key = q.key
                """
            ),
        ]
    }

    /// What a reader asks of consumers. The first column stands for the index that look-ups have.
    var ofConsumers: [(name: String, sql: String)] {
        [
            (
                // In the order of the primary key: behind a join, the planner would not know it.
                "consumers",
                """
                SELECT 1::bigint, \(Self.consumerColumns)
                FROM \(name).tenants t CROSS JOIN LATERAL (
                    SELECT * FROM \(name).consumers WHERE tenant_no = t.no AND name > $2 ORDER BY name LIMIT $3) c
                WHERE t.id = $1
                """
            ),
            (
                "consumer",
                """
                SELECT 1::bigint, \(Self.consumerColumns)
                FROM \(name).tenants t JOIN \(name).consumers c ON c.tenant_no = t.no
                WHERE t.id = $1 AND c.name = $2
                """
            ),
            (
                // Above that tenant, if one is named. A row that has the id of another tenant than its own is left out.
                "tenants_with_consumer",
                """
                SELECT c.tenant
                FROM \(name).consumers c
                CROSS JOIN LATERAL (SELECT FROM \(name).tenants WHERE no = c.tenant_no AND id = c.tenant OFFSET 0) AS t
                WHERE c.name \(Self.byName) = $1
                  AND c.tenant >= coalesce($2::uuid, \(Self.zeroID)) AND c.tenant IS DISTINCT FROM $2::uuid
                ORDER BY c.tenant LIMIT $3
                """
            ),
            (
                // Those of the named tenants that have it, in the order in which they are named.
                "named_tenants_with_consumer",
                """
                SELECT q.tenant
                FROM unnest($2::uuid[]) WITH ORDINALITY AS q (tenant, index)
                CROSS JOIN LATERAL (SELECT no FROM \(name).tenants WHERE id = q.tenant OFFSET 0) AS t
                CROSS JOIN LATERAL (SELECT FROM \(name).consumers WHERE tenant_no = t.no AND name = $1 OFFSET 0) AS c
                ORDER BY q.index LIMIT $3
                """
            ),
            (
                "slots",
                """
                SELECT 1::bigint, \(Self.slotColumns)
                FROM \(name).tenants t JOIN \(name).consumer_slots s ON s.tenant_no = t.no
                WHERE t.id = $1 AND s.consumer = $2
                """
            ),
            (
                "workers",
                """
                SELECT 1::bigint, \(Self.workerColumns)
                FROM \(name).tenants t JOIN \(name).consumer_workers w ON w.tenant_no = t.no
                WHERE t.id = $1 AND w.consumer = $2
                """
            ),
            (
                // Above a slot and a key, up to a slot.
                "blocked_key_page",
                """
                SELECT 1::bigint, \(Self.blockedKeyColumns)
                FROM \(name).tenants t JOIN \(name).blocked_keys b ON b.tenant_no = t.no
                WHERE t.id = $1 AND b.consumer = $2 AND (b.slot, b.key) > ($3, $4) AND b.slot <= $5
                ORDER BY b.slot, b.key LIMIT $6
                """
            ),
            (
                // One row of the index: behind a join, the planner would not know their order.
                "last_blocked_key",
                """
                SELECT 1::bigint, b.*
                FROM \(name).tenants t CROSS JOIN LATERAL (
                    SELECT \(Self.blockedKeyColumns) FROM \(name).blocked_keys b
                    WHERE b.tenant_no = t.no AND b.consumer = $2
                    ORDER BY b.since DESC, b.slot DESC, b.key DESC LIMIT 1) b
                WHERE t.id = $1
                """
            ),
        ]
    }
}
