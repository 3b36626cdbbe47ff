import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// One bit of the files of a database, tables and indexes, whichever it is: what it changes is refused when it is read, or
/// found by the check of the database, or all that is read is as before. No event is ever read that was not stored so.
///
/// The cluster has no checksums of pages, which would find nearly all of it by themselves.
@Suite(.blocking) struct DatabaseBitFlipTests {
    /// How many; `make test-bits` flips 1,000.
    private static let flips = Int(ProcessInfo.processInfo.environment["MARTLET_TEST_BITS"] ?? "") ?? 30

    @Test(.enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL"))
    func bitsAreFoundOrServeNothing() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let cluster = try OwnCluster()
        let original = try Copy(of: "template1", named: "original", cluster)
        try original.engine.prepare()
        let history = try BitFlipHistory(original.engine, &numbers)
        var tally = try BitFlipTally(history, on: original.engine)
        let files = try original.files()
        for flip in 0..<Self.flips {
            let copy = try Copy(of: original.name, named: "copy\(flip)", cluster)
            var byte = Int.random(in: 0..<files.reduce(0) { $0 + $1.bytes }, using: &numbers)
            let file = try #require(
                files.first {
                    if byte < $0.bytes { return true }
                    byte -= $0.bytes
                    return false
                })
            let bit = Int.random(in: 0..<8, using: &numbers)
            let place = "seed \(random.seed): bit \(bit) of byte \(byte) of \(file.relation)"
            try copy.flip(bit, of: byte, in: file)
            let complaint = try tally.count(copy.engine) { copy.isFound }
            #expect(complaint == nil, "\(place)")
            try copy.drop()
        }
        print("seed \(random.seed): \(tally)")
        // Three of ten, about: most of a page is free where a table is small.
        #expect(tally.refused + tally.found > Self.flips / 20)
    }

    /// A database that is a copy of another, file by file, so that nothing of it is in the server's memory.
    private struct Copy {
        /// A file of a table or an index.
        struct File {
            var relation: String
            var number: String
            var bytes: Int
        }

        let name: String
        private let cluster: OwnCluster
        private let folder: String

        init(of template: String, named name: String, _ cluster: OwnCluster) throws {
            self.name = name
            self.cluster = cluster
            try Self.retry {
                let admin = try PostgresConnection(cluster.url(), statements: [])
                try admin.run("CREATE DATABASE \(name) TEMPLATE \(template) STRATEGY file_copy")
            }
            let admin = try PostgresConnection(cluster.url(), statements: [])
            let found = try admin.run(
                """
                SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = '\(name)'
                """)
            folder = found.text(0, 0)
        }

        var engine: PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: url + "?options=-c%20statement_timeout%3D20s", schema: "martlet", logger: .silent,
                memory: RememberedTenants(), listeners: ListenerPresence())
        }

        /// Whether the check of the database finds something.
        var isFound: Bool {
            do throws(StorageError) { return try DatabaseCheck(connectionString: url).run { _ in } > 0 } catch {
                return true
            }
        }

        private var url: String { cluster.url(database: name) }

        /// The main files of all tables and indexes, those of long values among them, once all is in them.
        func files() throws -> [File] {
            let connection = try PostgresConnection(url, statements: [])
            try connection.run("VACUUM FULL")
            try connection.run("CHECKPOINT")
            let rows = try connection.run(
                """
                SELECT c.relname, pg_relation_filenode(c.oid), pg_relation_size(c.oid)
                FROM pg_class c LEFT JOIN pg_class t ON c.oid = t.reltoastrelid
                LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class u ON i.indrelid = u.reltoastrelid
                WHERE pg_relation_size(c.oid) > 0
                  AND 'martlet'::regnamespace IN (c.relnamespace, t.relnamespace, u.relnamespace)
                """)
            return try (0..<rows.rowCount).map { row in
                File(
                    relation: rows.text(row, 0), number: rows.text(row, 1), bytes: try #require(Int(rows.text(row, 2))))
            }
        }

        func flip(_ bit: Int, of byte: Int, in file: File) throws {
            let handle = try FileHandle(forUpdating: URL(fileURLWithPath: "\(folder)/\(file.number)"))
            defer { try? handle.close() }
            try handle.seek(toOffset: UInt64(byte))
            let old = try #require(try handle.read(upToCount: 1)?.first)
            try handle.seek(toOffset: UInt64(byte))
            try handle.write(contentsOf: Data([old ^ 1 << UInt8(bit)]))
        }

        func drop() throws {
            try Self.retry {
                let admin = try PostgresConnection(cluster.url(), statements: [])
                try admin.run("DROP DATABASE \(name) WITH (FORCE)")
            }
        }

        /// The server starts anew when a page has led one of its processes astray.
        private static func retry(_ body: () throws -> Void) throws {
            let deadline = Date().addingTimeInterval(20)
            while true {
                do { return try body() } catch {
                    guard Date() < deadline else { throw error }
                    Thread.sleep(forTimeInterval: 0.1)
                }
            }
        }
    }
}
