/// The SQL of ``FileCheck``.
enum CheckStatements {
    static let eventsInAll = "SELECT CAST(total(position) AS INTEGER) FROM tenants"

    static let tenants = """
        SELECT no, id, position, recorded_at, ranged, settings_revision, head_id FROM tenants ORDER BY no
        """
    static let tenant = """
        SELECT no, id, position, recorded_at, ranged, settings_revision, head_id FROM tenants WHERE no = ?1
        """

    /// Keys from ?1 to ?2.
    static let blocks = """
        SELECT key, recorded_at, count, entries FROM blocks WHERE key >= ?1 AND key <= ?2 ORDER BY key
        """
    static let firstKey = "SELECT key FROM blocks WHERE key >= ?1 AND key <= ?2 ORDER BY key LIMIT 1"
    /// The block that holds a position, if one does.
    static let blockOfKey = """
        SELECT key, recorded_at, count, entries FROM blocks WHERE key <= ?1 ORDER BY key DESC LIMIT 1
        """

    static let eventIDs = "SELECT tenant_no, id, position FROM event_ids ORDER BY tenant_no, id"
    static let positionOfID = "SELECT position FROM event_ids WHERE tenant_no = ?1 AND id = ?2"

    static let aggregates = """
        SELECT no, tenant_no, id, type, snapshot_version, snapshot_bytes FROM aggregates ORDER BY no
        """
    static let aggregateNo = "SELECT no FROM aggregates WHERE tenant_no = ?1 AND id = ?2 AND type = ?3"

    static let ranges = """
        SELECT last_version, count, position, before, start, length, bytes FROM ranges
        WHERE aggregate_no = ?1 ORDER BY last_version
        """
    static let range = """
        SELECT last_version, count, position, before, start, length, bytes FROM ranges
        WHERE aggregate_no = ?1 AND last_version = ?2
        """
    static let bytesBefore = """
        SELECT bytes FROM ranges WHERE aggregate_no = ?1 AND last_version < ?2 ORDER BY last_version DESC LIMIT 1
        """
    static let rangesInAll = "SELECT count(*) FROM ranges"
    static let rangesOfNobody = """
        SELECT r.aggregate_no, r.last_version FROM ranges r
        WHERE NOT EXISTS (SELECT 1 FROM aggregates a WHERE a.no = r.aggregate_no)
        """

    /// Ranges that the blocks tell beyond `tenants.ranged`; on disk, because a damaged file may have any number.
    static let makeTail = """
        CREATE TEMP TABLE tail (
            aggregate_no INTEGER NOT NULL,
            position     INTEGER NOT NULL,
            last_version INTEGER NOT NULL,
            count        INTEGER NOT NULL,
            before       INTEGER NOT NULL,
            start        INTEGER NOT NULL,
            length       INTEGER NOT NULL,
            bytes        INTEGER NOT NULL,  -- of this range's records
            PRIMARY KEY (aggregate_no, position)
        ) WITHOUT ROWID
        """
    /// Positions that two blocks hold are found elsewhere.
    static let insertTail = """
        INSERT OR IGNORE INTO tail (aggregate_no, position, last_version, count, before, start, length, bytes)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
        """
    static let tail = """
        SELECT last_version, count, position, before, start, length, bytes FROM tail
        WHERE aggregate_no = ?1 ORDER BY position
        """
    static let tailAt = """
        SELECT last_version, count, position, before, start, length, bytes FROM tail
        WHERE aggregate_no = ?1 AND position = ?2
        """

    static let snapshots = """
        SELECT version, schema_version, checksum, payload, payload_bytes, seal, created_at, content_type
        FROM snapshots WHERE aggregate_no = ?1 ORDER BY version
        """
    static let snapshotsInAll = "SELECT count(*) FROM snapshots"
    static let snapshotsOfNobody = """
        SELECT s.aggregate_no, s.version FROM snapshots s
        WHERE NOT EXISTS (SELECT 1 FROM aggregates a WHERE a.no = s.aggregate_no)
        """

    /// Tenants whose settings revision is not what its copy says.
    static let revisions = """
        SELECT t.no, t.settings_revision, coalesce(d.revision, 0)
        FROM tenants t LEFT JOIN documents d ON d.tenant_no = t.no AND d.kind = 'revision' AND d.key = ''
        WHERE t.settings_revision <> coalesce(d.revision, 0) ORDER BY t.no
        """
    /// Documents of all kinds; those of settings are JSON.
    static let documents = """
        SELECT tenant_no, kind, key, revision, value, checksum FROM documents ORDER BY tenant_no, kind, key
        """

    // Rows of consumers, by consumer: those that belong to one begin with its tenant's number and its name.

    static let consumer = "SELECT base_epoch, definition FROM consumers WHERE tenant_no = ?1 AND name = ?2"
    static let consumers = """
        SELECT tenant_no, name, revision, base_epoch, position, event_id, definition, seal, tenant
        FROM consumers ORDER BY tenant_no, name
        """
    static let consumerEpochs = "SELECT tenant_no, epoch, seal FROM consumer_epochs ORDER BY tenant_no"
    static let consumerSlots = """
        SELECT tenant_no, consumer, slot, epoch, position, event_id, owner, seal
        FROM consumer_slots ORDER BY tenant_no, consumer, slot
        """
    static let consumerWorkers = """
        SELECT tenant_no, consumer, name, session, server, until, unixepoch() * 1000000
        FROM consumer_workers ORDER BY tenant_no, consumer, name
        """
    static let blockedKeys = """
        SELECT tenant_no, consumer, slot, key, position, event_id, is_first_handled, retry_at, tries, since, reason, seal,
               EXISTS (SELECT 1 FROM consumer_slots s
                       WHERE s.tenant_no = b.tenant_no AND s.consumer = b.consumer AND s.slot = b.slot)
        FROM blocked_keys b ORDER BY tenant_no, consumer, slot, key
        """
}
