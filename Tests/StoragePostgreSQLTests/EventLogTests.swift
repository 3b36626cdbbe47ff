import FoundationEssentials
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// The view that people query.
@Suite(.blocking, .needsPostgres) struct EventLogTests {
    /// Payload, content type, and what stands in `payload_json`.
    private static let cases: [(payload: String, contentType: String, json: String)] = [
        (#"{"b": 1, "a": [true, null]}"#, "application/json", #"{"a": [true, null], "b": 1}"#),
        ("  1.50\n", "application/json", "1.50"),
        (#""ü\u00e9""#, "application/vnd.cart+json", #""üé""#),
        ("{}", "Application/JSON; charset=utf-8", "{}"),
        // What jsonb cannot hold, although it is JSON.
        (#"{"a": "\u0000"}"#, "application/json", "∅"), (#""\ud800""#, "application/json", "∅"),
        ("1e400000", "application/json", "∅"), ("-1e999999999999", "application/json", "∅"),
        (String(repeating: "9", count: 200_000), "application/json", "∅"),
        // What is no JSON by its type, whatever it looks like.
        ("{}", "text/plain", "∅"), ("{}", "application/jsonx", "∅"), ("{}", "text/json-seq", "∅"),
        ("\u{0}\u{1}", "application/octet-stream", "∅"), ("", "text/plain", "∅"),
    ]

    @Test func payloadsStandThereAsJSONWhereTheyCan() throws {
        let bench = try Bench()
        let name = AggregateName.new("cart")
        let events = try Self.cases.map {
            try EncodedEvent.sample($0.payload, kind: "Äpp", contentType: $0.contentType)
        }
        let now = Timestamp(microseconds: 1_767_225_600_123_456)
        try bench.engine().makeWriter().append(.of(events, to: name, tenant: bench.tenant), now: now)
        let rows = try bench.rows(
            """
            SELECT position, payload_json, encode(payload, 'hex'), content_type, event_id, version
            FROM event_log ORDER BY position
            """, columns: 6)
        #expect(rows.count == Self.cases.count)
        for (index, (row, expected)) in zip(rows, Self.cases).enumerated() {
            #expect(row[0] == "\(index + 1)" && row[5] == row[0])
            #expect(row[1] == expected.json, "payload_json of \(expected.payload.prefix(40)), \(expected.contentType)")
            let isVerbatim =
                row[2] == expected.payload.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            #expect(isVerbatim, "the payload \(expected.payload.prefix(40))")
            #expect(row[3] == expected.contentType && row[4] == events[index].id.uuidString.lowercased())
        }
        let head = try bench.rows(
            """
            SELECT tenant, aggregate_type, aggregate_id, type, schema_version, recorded_at AT TIME ZONE 'UTC'
            FROM event_log WHERE position = 1
            """, columns: 6)
        #expect(
            head == [
                [
                    bench.tenant.description, "cart", name.id.uuidString.lowercased(), "Äpp", "1",
                    "2026-01-01 00:00:00.123456",
                ]
            ])
        // JSON that is deeper than PostgreSQL's stack.
        #expect(
            try bench.rows(
                "SELECT jsonb_or_null(convert_to(repeat('[', 300000) || repeat(']', 300000), 'UTF8')) IS NULL")
                == [["t"]])
        // Bytes that are no text at all.
        #expect(try bench.rows(#"SELECT jsonb_or_null('\xff00'::bytea)"#) == [["∅"]])
    }

    @Test func parallelQueriesAreAnsweredToo() throws {
        let bench = try Bench()
        let writer = bench.engine().makeWriter()
        for _ in 0..<5 {
            let events = try (0..<100).map { _ in try EncodedEvent.sample(#"{"n": 1, "s": "\u0000"}"#) }
            try writer.append(.of(events, tenant: bench.tenant))
        }
        let settings = """
            ANALYZE; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
            SET min_parallel_index_scan_size = 0; SET max_parallel_workers_per_gather = 2;
            """
        #expect(
            try bench.rows(
                "SELECT count(*), count(payload_json) FROM event_log WHERE payload_json IS NULL", columns: 2,
                settings: settings)
                == [["500", "0"]])
        let grouped = "SELECT jsonb_or_null(substring(record FROM 1 FOR 2)), count(*) FROM events GROUP BY 1"
        #expect(try bench.rows(grouped, columns: 2, settings: settings) == [["∅", "500"]])
    }
}
