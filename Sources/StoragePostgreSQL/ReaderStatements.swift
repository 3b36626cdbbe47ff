/// The statements of a reader.
extension Schema {
    /// What a reader prepares.
    var readerStatements: [(name: String, sql: String)] { ofEvents + ofConsumers + ofSchedules }

    private var ofEvents: [(name: String, sql: String)] {
        [
            (
                "tenantStates",
                """
                SELECT q.index, t.position, t.recorded_at, t.settings_revision, t.head_id
                FROM unnest($1::uuid[]) WITH ORDINALITY AS q (id, index)
                JOIN \(name).tenants t ON t.id = q.id
                """
            ),
            (
                "event_ids",
                """
                SELECT q.index, e.event_id
                FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS q (tenant, position, index)
                JOIN \(name).tenants t ON t.id = q.tenant
                JOIN \(name).events e ON e.tenant_no = t.no AND e.position = q.position
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
                    SELECT a.tenant_no, a.no, 0::bigint,
                           (SELECT version FROM \(name).events
                            WHERE tenant_no = a.tenant_no AND aggregate_no = a.no
                            ORDER BY version DESC LIMIT 1)
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
            (
                "settings",
                """
                SELECT t.settings_revision, d.key, d.value, d.revision, d.checksum
                FROM \(name).tenants t LEFT JOIN \(name).documents d ON d.tenant_no = t.no AND d.kind = 'settings'
                WHERE t.id = $1
                """
            ),
            (
                "snapshots",
                """
                SELECT s.version, s.schema_version, s.created_at, s.content_type, s.payload_bytes,
                       octet_length(s.payload)::bigint, s.checksum, s.seal
                FROM \(name).tenants t
                JOIN \(name).aggregates a ON a.tenant_no = t.no
                JOIN \(name).snapshots s ON s.tenant_no = a.tenant_no AND s.aggregate_no = a.no
                WHERE t.id = $1 AND a.id = $2 AND a.type = $3
                ORDER BY s.version DESC
                """
            ),
            (
                "snapshot",
                """
                SELECT s.version, s.created_at, s.schema_version, s.content_type, s.checksum, s.payload, s.seal
                FROM \(name).tenants t
                JOIN \(name).aggregates a ON a.tenant_no = t.no
                JOIN \(name).snapshots s ON s.tenant_no = a.tenant_no AND s.aggregate_no = a.no
                WHERE t.id = $1 AND a.id = $2 AND a.type = $3 AND s.version = $4
                """
            ),
            ("aggregate_page", aggregatePage("ASC", before: "$6")),
            ("aggregate_page_backward", aggregatePage("DESC", before: "$7 + 1")),
            ("page", page("ASC", before: "$4")), ("page_backward", page("DESC", before: "$5 + 1")),
            ("filtered_page", filteredPage("ASC", before: "$4")),
            ("filtered_page_backward", filteredPage("DESC", before: "$5 + 1")),
            (
                "records",
                """
                SELECT e.position, e.record
                FROM unnest($2::bigint[]) AS q (position)
                JOIN \(name).events e ON e.tenant_no = (SELECT no FROM \(name).tenants WHERE id = $1)
                                     AND e.position = q.position
                """
            ),
        ]
    }

    /// Columns of a page: position, version, length of the record, and the record where it is no longer than `$1`.
    private static let pageColumns = """
        e.position, e.version, octet_length(e.record),
        CASE WHEN octet_length(e.record) <= $1::bigint THEN e.record END
        """

    /// True; fails where another event is before the page than that of the id in `following`, unless this is NULL. Looked
    /// at once, before the page, in the page's own snapshot.
    ///
    /// - Parameters:
    ///   - events: a condition for events of the tenant, or of the aggregate.
    ///   - place: the column that `before` is a value of.
    private func follows(_ following: String, _ events: String, _ place: String, before: String) -> String {
        """
        (\(following)::uuid IS NULL OR (
            SELECT CASE WHEN EXISTS (
                SELECT FROM \(name).events b
                WHERE \(events) AND b.\(place) = \(before) AND b.event_id = \(following)::uuid)
            THEN true ELSE \(name).stale() IS NULL END))
        """
    }

    private func aggregatePage(_ order: String, before: String) -> String {
        let tenant = "(SELECT no FROM \(name).tenants WHERE id = $3)"
        let aggregate = """
            (SELECT a.no FROM \(name).aggregates a JOIN \(name).tenants t ON t.no = a.tenant_no
             WHERE t.id = $3 AND a.id = $4 AND a.type = $5)
            """
        return """
            SELECT \(Self.pageColumns)
            FROM \(name).events e
            WHERE e.tenant_no = \(tenant) AND e.aggregate_no = \(aggregate)
              AND e.version > $6 AND e.version <= $7
              AND \(follows("$8", "b.tenant_no = \(tenant) AND b.aggregate_no = \(aggregate)", "version", before: before))
            ORDER BY e.version \(order) LIMIT $2
            """
    }

    private func page(_ order: String, before: String) -> String {
        let tenant = "(SELECT no FROM \(name).tenants WHERE id = $3)"
        return """
            SELECT \(Self.pageColumns)
            FROM \(name).events e
            WHERE e.tenant_no = \(tenant)
              AND e.position > $4 AND e.position <= $5
              AND \(follows("$6", "b.tenant_no = \(tenant)", "position", before: before))
            ORDER BY e.position \(order) LIMIT $2
            """
    }

    private func filteredPage(_ order: String, before: String) -> String {
        let tenant = "(SELECT no FROM \(name).tenants WHERE id = $3)"
        return """
            SELECT \(Self.pageColumns)
            FROM \(name).events e
            JOIN \(name).aggregates a ON a.tenant_no = e.tenant_no AND a.no = e.aggregate_no
            WHERE e.tenant_no = \(tenant)
              AND e.position > $4 AND e.position <= $5
              AND ($7::text[] IS NULL OR e.type = ANY ($7))
              AND ($8::text[] IS NULL OR a.type = ANY ($8))
              AND ($9::uuid[] IS NULL OR a.id = ANY ($9))
              AND \(follows("$6", "b.tenant_no = \(tenant)", "position", before: before))
            ORDER BY e.position \(order) LIMIT $2
            """
    }
}
