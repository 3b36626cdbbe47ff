import Foundation
import MartletTesting
import Testing

@testable import MartletStoragePostgreSQL

/// Docs/POSTGRESQL.md names the tables and columns that are there.
@Suite(.blocking, .needsPostgres) struct TablePageTests {
    /// What the page calls by a name in code that is no table's and no column's.
    private static let otherTables: Set<String> = ["information_schema"]

    @Test func thePageNamesEachTableWithItsColumns() throws {
        let bench = try Bench()
        try bench.engine().prepare()
        let found = try bench.rows(
            """
            SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name <> 'event_log' ORDER BY 1, 2
            """, columns: 2)
        let stored = Dictionary(grouping: found, by: { $0[0] }).mapValues { Set($0.map { $0[1] }) }
        let page = try ManualPage("POSTGRESQL").text
        let section = try #require(
            page.components(separatedBy: "\n## The tables\n").last?.components(separatedBy: "\n## ").first)
        var named: [String: Set<String>] = [:]
        for line in section.split(separator: "\n") where line.hasPrefix("| `") {
            let cells = line.split(separator: "|", omittingEmptySubsequences: false)
            let table = try #require(Self.code(String(cells[1])).first)
            // What stands in brackets says what a column holds.
            let columns = String(cells[3]).replacing(/\([^)]*\)/, with: "")
            named[table] = Set(Self.code(columns))
        }
        for (table, columns) in stored where !Self.otherTables.contains(table) {
            #expect(named[table] == columns, "\(table)")
        }
        for table in named.keys { #expect(stored[table] != nil, "\(table) is no table") }
    }

    /// Names such as `tenants.settings_revision` and `martlet.documents`, wherever they stand.
    @Test func whatThePageNamesByItsTableIsThere() throws {
        let bench = try Bench()
        try bench.engine().prepare()
        let tables = try bench.rows(
            "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = current_schema()")
        let columns = try bench.rows(
            """
            SELECT table_name || '.' || column_name FROM information_schema.columns
            WHERE table_schema = current_schema()
            """)
        let stored = Set(tables.map { $0[0] } + columns.map { $0[0] })
        let page = try ManualPage("POSTGRESQL").text
        for match in page.matches(of: /\bmartlet\.([a-z_]+)\b(?![(\/.])/) {
            #expect(stored.contains(String(match.1)), "martlet.\(match.1)")
        }
        for name in Self.code(page) where name.wholeMatch(of: /[a-z_]+\.[a-z_]+/) != nil && !name.hasPrefix("martlet.")
        {
            #expect(stored.contains(name), "\(name)")
        }
    }

    /// What stands between backquotes.
    private static func code(_ text: String) -> [String] {
        text.matches(of: /`([^`\n]+)`/).map { String($0.1) }
    }
}
