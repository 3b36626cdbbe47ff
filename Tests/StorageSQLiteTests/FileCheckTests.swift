import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// What a sound file says of itself, and that each thing which can be wrong with one is found and named.
@Suite(.blocking) struct FileCheckTests {
    /// Whatever became of it, a file that only the server wrote is sound.
    @Test(arguments: [1, 20, 100_000]) func aFileOfARandomHistoryIsSound(_ rangesHeldMax: Int) throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(rangesHeldMax: rangesHeldMax)
        let history = try History(bench.engine, rounds: 200, &numbers)
        let found = try Findings(bench.path)
        #expect(found.all.isEmpty, "seed \(random.seed): \(found.all)")
        #expect(found.outcomes.map(\.subject) == FileCheck.Subject.allCases)
        #expect(found.outcomes[2].events == UInt64(history.events))
        // Where nothing was moved yet, the blocks tell every range.
        let isMoved = rangesHeldMax < 100_000
        #expect(found.summary(.ranges).hasPrefix("0 rows") != isMoved, "\(found.summary(.ranges))")
    }

    @Test func anEmptyFileIsSound() throws {
        let bench = try Bench()
        #expect(try Findings(bench.path).all.isEmpty)
    }

    @Test func aFileIsOnlyRead() throws {
        let bench = try Bench()
        var numbers = SeededGenerator.fromEnvironment()
        // A connection that stays open: the last one to be closed moves the log into the database.
        let reader = bench.engine.makeReader()
        _ = try reader.head(of: bench.tenant)
        _ = try History(bench.engine, rounds: 30, &numbers)
        // As a process that is killed would leave it: database and log.
        let copy = bench.folder.path + "/copy.db"
        for end in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: bench.path + end, toPath: copy + end)
        }
        let before = try ["", "-wal"].map { try Data(contentsOf: URL(fileURLWithPath: copy + $0)) }
        #expect(try Findings(copy).all.isEmpty)
        #expect(try ["", "-wal"].map { try Data(contentsOf: URL(fileURLWithPath: copy + $0)) } == before)
        #expect(!FileManager.default.fileExists(atPath: copy + ".lock"))
        // A backup is another kind of file, without a log, and stays one.
        let backup = bench.folder.path + "/backup.db"
        try RawDatabase(bench.path).run("VACUUM INTO '\(backup)'")
        let backedUp = try Data(contentsOf: URL(fileURLWithPath: backup))
        #expect(try Findings(backup).all.isEmpty)
        #expect(try Data(contentsOf: URL(fileURLWithPath: backup)) == backedUp)
        #expect(!FileManager.default.fileExists(atPath: backup + "-wal"))
    }

    /// Each check sees one state, while another connection goes on to commit.
    @Test func aFileThatIsWrittenToIsSoundAtEveryMoment() async throws {
        let bench = try Bench(rangesHeldMax: 7)
        let (path, engine) = (bench.path, bench.engine)
        _ = try await Threads.race(2) { thread in
            if thread == 0 {
                var numbers = SeededGenerator.fromEnvironment()
                _ = try History(engine, rounds: 400, &numbers)
            } else {
                for _ in 0..<20 {
                    let found = try Findings(path)
                    guard found.all.isEmpty else { throw BenchFailure("\(found.all)") }
                }
            }
        }
    }

    /// A log that was cut anywhere holds the commits before that.
    @Test func aCopyAfterEveryLossOfPowerIsSound() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(rangesHeldMax: 10)
        let reader = bench.engine.makeReader()
        _ = try reader.head(of: bench.tenant)
        _ = try History(bench.engine, rounds: 60, &numbers)
        let database = try Data(contentsOf: URL(fileURLWithPath: bench.path))
        let log = try Data(contentsOf: URL(fileURLWithPath: bench.path + "-wal"))
        for round in 0..<25 {
            let copy = bench.folder.path + "/copy\(round).db"
            try database.write(to: URL(fileURLWithPath: copy))
            try log.prefix(Int.random(in: 0...log.count, using: &numbers)).write(
                to: URL(fileURLWithPath: copy + "-wal"))
            let found = try Findings(copy)
            // Before the schema was in the log, there is no file of ours.
            let isOurs = found.outcomes.count > 1
            #expect(found.all.isEmpty || !isOurs, "seed \(random.seed), round \(round): \(found.all)")
        }
    }

    @Test func aFileThatWasMovedFromTheSecondSchemaIsSound() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(prepares: false)
        try FileManager.default.createDirectory(
            atPath: bench.folder.path + "/data", withIntermediateDirectories: true)
        let old = try RawDatabase(bench.path)
        try old.run(
            Schema.migrations[0].sql + Schema.migrations[1].sql
                + "PRAGMA user_version = 2; PRAGMA application_id = \(Schema.applicationID);")
        let tooOld = try Findings(bench.path)
        #expect(tooOld.all.map(\.subject) == [.file] && tooOld.all[0].description.contains("schema version 2"))
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let names = (0..<5).map { _ in AggregateName.new() }
        let writer = MemoryEngine().makeWriter()
        for round in 0..<100 {
            let batch = try (0..<Int.random(in: 1...4, using: &numbers)).map { _ in
                try AppendRequest.sample(
                    Int.random(in: 1...9, using: &numbers), to: names[Int.random(in: 0..<5, using: &numbers)], .any,
                    tenant: tenants[Int.random(in: 0..<3, using: &numbers)])
            }
            let result = try writer.commit(batch, now: Timestamp(microseconds: Int64(round / 2) + 1))
            for run in result.runs { try old.insertRows(of: run, tenants, names) }
        }
        try bench.engine.prepare()
        #expect(try Findings(bench.path).all.isEmpty, "seed \(random.seed)")
        _ = try History(bench.engine, rounds: 50, &numbers)
        #expect(try Findings(bench.path).all.isEmpty, "seed \(random.seed)")
    }

    @Test func aFileThatIsNoDatabaseIsToldOf() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/text.db"
        try Data(String(repeating: "no database\n", count: 1_000).utf8).write(to: URL(fileURLWithPath: path))
        let found = try Findings(path)
        #expect(found.all.map(\.subject) == [.file] && found.all[0].description.contains("not a database"))
        let none = refusal { () throws(StorageError) in _ = try FileCheck(path: folder.path + "/none.db").run { _ in } }
        #expect(none?.kind == .unavailable)
    }

    @Test func findingsAreBoundedAndCounted() throws {
        let bench = try Bench()
        for _ in 0..<10 { try bench.writer.append(.sample(5, tenant: bench.tenant)) }
        try RawDatabase(bench.path).run("DELETE FROM event_ids")
        let found = try Findings(bench.path)
        #expect(found.all.count == 20 && found.count == 50)
        #expect(found.outcomes.first { $0.subject == .eventIDs }?.findingsCount == 50)
    }

    @Test(arguments: Damage.all) func everyDamageIsFoundAndNamed(_ damage: Damage) throws {
        let bench = try Bench(rangesHeldMax: damage.isInTail ? 100_000 : 1)
        let subject = try DamageSubject(bench)
        try #require(try Findings(bench.path).all.isEmpty)
        try RawDatabase(bench.path).run(subject.fill(damage.sql))
        let found = try Findings(bench.path)
        let texts = found.all.filter { $0.subject == damage.subject }.map(\.description)
        let words = damage.words.map { subject.fill($0) }
        #expect(
            texts.contains { text in words.allSatisfy { text.contains($0) } },
            "\(damage.sql): \(words) in \(found.all.map { "\($0.subject): \($0)" })")
    }

    @Test(arguments: ConsumerDamage.all(.sqlite)) func damageToConsumersIsFoundAndNamed(_ damage: ConsumerDamage) throws
    {
        let bench = try Bench()
        let subject = try ConsumerDamage.Subject(bench.engine, of: bench.tenant)
        let sound = try Findings(bench.path)
        try #require(sound.all.isEmpty, "\(sound.all)")
        #expect(sound.summary(.consumers) == "1 consumers, 2 slots, 1 workers, 1 blocked keys")
        try RawDatabase(bench.path).run(subject.fill(damage.sql, .sqlite))
        let found = try Findings(bench.path)
        let texts = found.all.filter { $0.subject == .consumers }.map(\.description)
        let words = damage.words.map { subject.fill($0, .sqlite) }
        #expect(
            texts.contains { text in words.allSatisfy { text.contains($0) } }, "\(damage.sql): \(words) in \(texts)")
    }
}

/// What a check of a file came to.
struct Findings {
    private(set) var outcomes: [FileCheck.Outcome] = []
    let count: Int

    init(_ path: String) throws {
        var outcomes: [FileCheck.Outcome] = []
        count = try FileCheck(path: path).run { outcomes.append($0) }
        self.outcomes = outcomes
    }

    var all: [FileFinding] { outcomes.flatMap(\.findings) }

    func summary(_ subject: FileCheck.Subject) -> String { outcomes.first { $0.subject == subject }?.summary ?? "" }
}

/// A random history of several tenants, with snapshots, settings, replays, refused calls and consumers.
struct History {
    private(set) var events = 0

    init(_ engine: SQLiteEngine, rounds: Int, _ numbers: inout SeededGenerator) throws {
        let writer = engine.makeWriter()
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let names = (0..<6).map { _ in AggregateName.new() }
        var sent: [AppendRequest] = []
        for round in 0..<rounds {
            let now = Timestamp(microseconds: Int64(round / 2) + 1)
            var batch = try (0..<Int.random(in: 1...5, using: &numbers)).map { _ in
                var request = try AppendRequest.of(
                    (0..<Int.random(in: 1...(round % 20 + 1), using: &numbers)).map { _ in
                        try .sample(#""\#(String(repeating: "x", count: Int.random(in: 0...3_000, using: &numbers)))""#)
                    }, to: names[Int.random(in: 0..<6, using: &numbers)], Bool.random(using: &numbers) ? .any : .exists,
                    tenant: tenants[Int.random(in: 0..<3, using: &numbers)])
                if Int.random(in: 0..<10, using: &numbers) == 0 {
                    request.aggregates[0].snapshot = NewSnapshot(payload: ByteBuffer(string: "\(round)"))
                }
                return request
            }
            if let old = sent.randomElement(using: &numbers), round % 7 == 0 { batch.append(old) }
            sent += batch
            let result = try writer.commit(batch, now: now)
            events += result.runs.reduce(0) { $0 + $1.events.count }
            if round % 9 == 0, let request = sent.randomElement(using: &numbers) {
                _ = try writer.apply(
                    .saveSnapshot(
                        SaveSnapshotRequest(
                            tenant: request.tenant, aggregate: request.aggregates[0].aggregate, version: Version(1),
                            snapshot: NewSnapshot(payload: ByteBuffer(string: "{}"))), kept: 2), now: now)
            }
            if round % 31 == 0, let tenant = tenants.randomElement(using: &numbers) {
                _ = try writer.apply(
                    .putSettings(
                        PutSettingsRequest(
                            tenant: tenant, kind: .snapshotPolicies, document: ByteBuffer(string: "{}"))), now: now)
            }
            if round % 40 == 39, let request = sent.randomElement(using: &numbers) {
                _ = try writer.apply(
                    .deleteSnapshots(
                        DeleteSnapshotsRequest(tenant: request.tenant, aggregate: request.aggregates[0].aggregate)),
                    now: now)
            }
        }
        for (index, tenant) in tenants.enumerated() {
            _ = try ConsumerHistory(engine, of: tenant, label: "tenant-\(index)", &numbers)
        }
    }
}
