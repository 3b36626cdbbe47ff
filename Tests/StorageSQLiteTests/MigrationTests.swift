import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// What becomes of a file before the first append.
@Suite(.blocking) struct MigrationTests {
    /// A file that some other program made.
    private static func make(_ path: String, _ sql: String) throws {
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try RawDatabase(path).run(sql)
    }

    @Test func aFreshFileAndItsFolderAreMade() throws {
        let bench = try Bench(prepares: false)
        let request = try AppendRequest.sample(2, tenant: bench.tenant)
        #expect(refusal { () throws(StorageError) in try bench.writer.append(request) }?.kind == .unavailable)
        try bench.engine.prepare()
        #expect(try bench.pragma("user_version") == "\(bench.engine.schemaVersion)")
        #expect(try bench.pragma("application_id") == "\(Schema.applicationID)")
        #expect(try ManualPage("OPERATIONS").words.contains("so far \(bench.engine.schemaVersion) of SQLite"))
        // Once more: nothing changes.
        try bench.engine.prepare()
        try bench.writer.append(request)
        #expect(try bench.holds(request.ids))
    }

    @Test func aFileOfTheFirstSchemaIsBroughtUpToDateWithItsEvents() throws {
        let bench = try Bench(prepares: false)
        try Self.make(
            bench.path,
            Schema.migrations[0].sql + """
                PRAGMA user_version = 1;
                PRAGMA application_id = \(Schema.applicationID);
                INSERT INTO tenants VALUES (1, x'11', 2, 5);
                INSERT INTO aggregates VALUES (7, 1, 'order', x'22', 2);
                INSERT INTO events VALUES (1099511627777, 7, 1, 5, 1, x'01', 'A', x'0102030405'),
                                          (1099511627778, 7, 2, 5, 1, x'02', 'A', x'0607');
                """)
        try bench.engine.prepare()
        #expect(try bench.pragma("user_version") == "\(bench.engine.schemaVersion)")
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        #expect(try connection.text("SELECT settings_revision FROM tenants") == "0")
        #expect(
            try connection.text("SELECT key || ' ' || recorded_at || ' ' || count || ' ' || hex(entries) FROM blocks")
                == "1099511627777 5 2 0A0501020304050A020607")
        #expect(
            try connection.text(
                "SELECT format('%d %d %d %d %d %d %d %d', aggregate_no, last_version, count, position, before, start, "
                    + "length, bytes) FROM ranges") == "7 2 2 1 0 0 11 7")
        #expect(try connection.text("SELECT group_concat(hex(id) || position) FROM event_ids") == "011,022")
        #expect(try connection.text("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'events%'") == "0")
    }

    @Test func whatIsKeptBesideTheEventsOfTheThirdSchemaIsMoved() throws {
        let bench = try Bench(prepares: false)
        let id = UUID()
        let tenant = "x'\(id.bytes.map { String(format: "%02x", $0) }.joined())'"
        try Self.make(
            bench.path,
            Schema.migrations.prefix(3).map { $0.sql + $0.cleanUp }.joined() + """
                PRAGMA user_version = 3;
                PRAGMA application_id = \(Schema.applicationID);
                INSERT INTO tenants (no, id, position, recorded_at, settings_revision, ranged)
                VALUES (1, \(tenant), 2, 5, 4, 2), (2, x'22', 0, 0, 1, 0);
                INSERT INTO event_ids VALUES (1, x'01', 1), (1, x'02', 2);
                INSERT INTO settings VALUES (1, 'snapshot-policies', CAST('{}' AS BLOB)), (2, 'upcasters', x'5b5d');
                INSERT INTO aggregates (no, tenant_no, type, id) VALUES (7, 1, 'order', x'22');
                INSERT INTO snapshots VALUES (7, 2, 5, 1, 'text/plain', 0, x'010203');
                """)
        try bench.engine.prepare()
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        #expect(try connection.text("SELECT group_concat(quote(head_id)) FROM tenants") == "X'02',NULL")
        #expect(try connection.text("SELECT payload_bytes || coalesce(seal, '-') FROM snapshots") == "3-")
        let settings = try bench.engine.makeReader().settings(of: TenantID(id))
        #expect(settings.revision == 4 && settings.documents == [.snapshotPolicies: ByteBuffer(string: "{}")])
        #expect(
            try connection.text("SELECT group_concat(kind || revision || coalesce(checksum, '-')) FROM documents")
                == "settings4-,settings1-,revision4-,revision1-")
        let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE name IN ('settings', 'progress', 'consumers')"
        #expect(try connection.text(tables) == "consumers")
        let put = PutSettingsRequest(
            tenant: TenantID(id), kind: .snapshotPolicies, document: ByteBuffer(string: "[]"), expectedRevision: 4)
        #expect(try bench.writer.apply(.putSettings(put), now: .now()) == .settingsPut(revision: 5))
        #expect(try bench.engine.makeReader().settings(of: TenantID(id)).documents[.snapshotPolicies] == put.document)
    }

    /// A history in the second schema, as its writer would have left it, answers every read as the oracle does.
    @Test func aHistoryOfTheSecondSchemaIsMovedIntoBlocks() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(prepares: false)
        try Self.make(
            bench.path,
            Schema.migrations[0].sql + Schema.migrations[1].sql
                + "PRAGMA user_version = 2; PRAGMA application_id = \(Schema.applicationID);")
        let old = try RawDatabase(bench.path)
        let oracle = MemoryEngine()
        let writer = oracle.makeWriter()
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let names = (0..<5).map { _ in AggregateName.new() }
        var sent: [AppendRequest] = []
        for round in 0..<200 {
            let batch = try (0..<Int.random(in: 1...4, using: &numbers)).map { _ in
                try AppendRequest.sample(
                    Int.random(in: 1...round % 20 + 1, using: &numbers),
                    to: names[Int.random(in: 0..<5, using: &numbers)], .any,
                    tenant: tenants[Int.random(in: 0..<3, using: &numbers)])
            }
            sent += batch
            let result = try writer.commit(batch, now: Timestamp(microseconds: Int64(round / 2)))
            for run in result.runs { try old.insertRows(of: run, tenants, names) }
        }
        try bench.engine.prepare()
        let readers = [bench.engine.makeReader(), oracle.makeReader()]
        for tenant in tenants {
            #expect(try readers[0].events(of: tenant) == readers[1].events(of: tenant), "seed \(random.seed)")
            for name in names {
                let pages = try readers.map { reader in
                    try reader.page(
                        of: name, in: tenant, versions: PageRange(after: .none, to: .max),
                        bounds: PageBounds(bytesMax: .max))
                }
                #expect(pages[0] == pages[1], "seed \(random.seed)")
            }
        }
        // What is appended from here on is decided as the oracle decides it, replays of what is old among it.
        for _ in 0..<50 {
            let batch = try [
                #require(sent.randomElement(using: &numbers)),
                AppendRequest.sample(2, to: names[0], .exists, tenant: tenants[0]),
            ]
            let now = Timestamp(microseconds: 1_000)
            #expect(
                try bench.writer.commit(batch, now: now).outcomes == writer.commit(batch, now: now).outcomes,
                "seed \(random.seed)")
        }
        #expect(try bench.pragma("integrity_check") == "ok")
    }

    @Test func whoeverMigratesAtOnceFindsTheSchemaWhole() async throws {
        for round in 0..<10 {
            let bench = try Bench(prepares: false)
            try Self.make(bench.path, "SELECT 1")
            let path = bench.path
            _ = try await Threads.race(4) { _ in
                // SQLite may give up on a lock that others hold: then nothing was done, and it is tried again.
                for _ in 0..<10 {
                    guard
                        let error = refusal({ () throws(StorageError) in
                            try SQLiteEngine.migrate(DatabaseFile(path: path), logger: .silent)
                        })
                    else { return }
                    guard error.kind == .unavailable else { throw error }
                }
                throw BenchFailure("round \(round): the schema could not be migrated")
            }
            #expect(try bench.pragma("user_version") == "\(Schema.version)", "round \(round)")
            let request = try AppendRequest.sample(tenant: bench.tenant)
            try bench.writer.append(request)
            #expect(try bench.holds(request.ids), "round \(round)")
        }
    }

    @Test func aNewerSchemaIsRefused() throws {
        let bench = try Bench()
        try SQLiteConnection(path: bench.path, creates: false).run("PRAGMA user_version = 99")
        let error = refusal { () throws(StorageError) in try bench.engine.prepare() }
        #expect(error?.kind == .schemaTooNew)
        #expect(
            error?.description.contains("version 99") == true && error?.description.contains("newer server") == true)
        #expect(try bench.pragma("user_version") == "99")
    }

    @Test(arguments: [
        "PRAGMA application_id = 7", "PRAGMA user_version = 1", "CREATE TABLE notes (text TEXT)",
        "PRAGMA application_id = 7; CREATE TABLE notes (text TEXT)",
    ])
    func aFileOfAnotherProgramIsRefusedAndLeftAsItIs(_ sql: String) throws {
        let bench = try Bench(prepares: false)
        try Self.make(bench.path, sql)
        let before = try Data(contentsOf: URL(fileURLWithPath: bench.path))
        let error = refusal { () throws(StorageError) in try bench.engine.prepare() }
        #expect(error?.kind == .misconfigured && error?.description.contains("another program") == true, "\(sql)")
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path)) == before, "\(sql)")
        #expect(!FileManager.default.fileExists(atPath: bench.path + "-wal"))
    }

    @Test func aFileThatIsNoDatabaseIsRefusedAndLeftAsItIs() throws {
        let bench = try Bench(prepares: false)
        try Self.make(bench.path, "SELECT 1")
        let text = Data(String(repeating: "no database\n", count: 1_000).utf8)
        try text.write(to: URL(fileURLWithPath: bench.path))
        let error = refusal { () throws(StorageError) in try bench.engine.prepare() }
        #expect(error?.description.contains("not a database") == true, "\(String(describing: error))")
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path)) == text)
    }

    /// What a power cut can leave: the log has the page whole, and SQLite reads it from there.
    @Test func aFirstPageThatOnlyTheLogHasIsNotAnotherProgram() throws {
        let bench = try Bench()
        let request = try AppendRequest.sample(1_000, tenant: bench.tenant)
        try bench.writer.append(request)
        let copy = try Bench(prepares: false)
        let folder = URL(fileURLWithPath: copy.path).deletingLastPathComponent().path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for ending in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: bench.path + ending, toPath: copy.path + ending)
        }
        let file = try #require(FileHandle(forUpdatingAtPath: copy.path))
        try file.write(contentsOf: Data(repeating: 0, count: 100))
        try file.close()
        try copy.engine.prepare()
        #expect(try copy.engine.makeReader().events(of: bench.tenant).map(\.event.id) == request.ids)
    }

    @Test func aMigrationThatFailsLeavesNothingAndIsDoneAgain() throws {
        let bench = try Bench(prepares: false)
        var failures = 0
        // Whichever write fails, up to those that closing the file does.
        for writes in 0..<60 {
            FaultyDisk.fail(bench.path, .full, after: writes)
            if let error = refusal({ () throws(StorageError) in try bench.engine.prepare() }) {
                #expect(error.kind == .full, "after \(writes) writes: \(error)")
                failures += 1
            }
            FaultyDisk.fail(bench.path, nil)
            if try bench.pragma("user_version") != "0" { break }
        }
        #expect(failures > 2)
        try bench.engine.prepare()
        let request = try AppendRequest.sample(tenant: bench.tenant)
        try bench.writer.append(request)
        #expect(try bench.holds(request.ids))
    }

    @Test func aFolderThatCannotBeMadeIsTold() throws {
        let folder = try TemporaryFolder()
        try Data().write(to: URL(fileURLWithPath: folder.path + "/file"))
        let engine = SQLiteEngine(path: folder.path + "/file/m.db", logger: .silent)
        let error = refusal { () throws(StorageError) in try engine.prepare() }
        #expect(error?.kind == .unavailable && error?.description.contains("directory") == true)
    }
}
