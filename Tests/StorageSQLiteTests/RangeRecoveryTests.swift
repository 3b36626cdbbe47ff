import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// What is told again from the blocks after a start is bounded in bytes, and a failed write does not cause it.
@Suite(.blocking) struct RangeRecoveryTests {
    private static let pendingBytesMax = 48 << 20

    /// Bytes of blocks whose ranges are not in the table: what recovery reads.
    private func pendingBytes(_ bench: Bench) throws -> Int {
        let text = try SQLiteConnection(path: bench.path, creates: false).text(
            """
            SELECT coalesce(sum(length(b.entries)), 0) FROM tenants t
            JOIN blocks b ON b.key > (t.no << 40 | t.ranged) AND b.key <= (t.no << 40 | t.position)
            """)
        return try #require(Int(text ?? ""))
    }

    @Test func whatIsToldAgainAfterAStartIsBoundedInBytes() throws {
        let bench = try Bench(rangesHeldMax: 4_096)
        var most = 0
        // Many small ranges first, which are slow to move; then large ones.
        for _ in 0..<30 {
            _ = try bench.writer.commit(
                (0..<130).map { _ in try AppendRequest.sample(tenant: bench.tenant) }, now: .now())
        }
        for round in 0..<100 {
            try bench.writer.append(.of([.large(1 << 20)], tenant: bench.tenant))
            if round % 5 == 4 { most = max(most, try pendingBytes(bench)) }
        }
        #expect(most < Self.pendingBytesMax, "\(most >> 20) MiB are to be read again")
    }

    /// The file is the server's alone: no page ends early because the past were another.
    @Test func eventsThatAreMissingAtTheEndAreDamage() throws {
        let bench = try Bench()
        for _ in 0..<4 { try bench.writer.append(.sample(2, tenant: bench.tenant)) }
        let connection = try SQLiteConnection(path: bench.path, creates: false)
        _ = try connection.text("DELETE FROM blocks WHERE key = (SELECT max(key) FROM blocks)")
        let reader = bench.engine.makeReader()
        let error = refusal { () throws(StorageError) in
            _ = try reader.page(
                of: bench.tenant, positions: PageRange(after: Position(2), to: Position(8)), filter: .all,
                bounds: PageBounds(bytesMax: 1 << 20))
        }
        #expect(
            error?.kind == .corrupted && error?.description.contains("after position 6") == true,
            "\(String(describing: error))")
    }

    @Test func aFailedWriteDoesNotHaveAllToldAgain() throws {
        let bench = try Bench(rangesHeldMax: 1_000)
        try bench.writer.append(.sample(3, tenant: bench.tenant))
        var reloads = 0
        for round in 0..<20 {
            FaultyDisk.fail(bench.path, round % 2 == 0 ? .full : .write, after: round / 2)
            let lost = try AppendRequest.sample(40, tenant: bench.tenant)
            let error = refusal { () throws(StorageError) in try bench.writer.append(lost) }
            FaultyDisk.fail(bench.path, nil)
            if error == nil { continue }
            do throws(SQLiteFault) {
                try bench.engine.file.ranges.refresh { () throws(SQLiteFault) in
                    reloads += 1
                    throw .corrupted("not needed")
                }
            } catch {}
            try bench.writer.append(.sample(tenant: bench.tenant))
        }
        #expect(reloads == 0, "\(reloads) failed writes had all ranges told again")
    }

    /// What is wrong with the newest events of the tenant with number 1, and the place that is named.
    private static let damages = [
        ("UPDATE blocks SET entries = zeroblob(40) WHERE key = 1 << 40 | 4", "position 4"),
        ("UPDATE blocks SET count = 9 WHERE key = 1 << 40 | 1", "position 4"),
        ("DELETE FROM aggregates WHERE tenant_no = 1", "position 1"),
        ("UPDATE tenants SET ranged = 1 << 50, position = 1 << 51 WHERE no = 1", "a position after 1125899906842624"),
        ("UPDATE tenants SET ranged = -1 WHERE no = 1", nil),
    ]

    @Test(arguments: damages) func aDamagedBlockStopsItsTenantAlone(_ sql: String, _ place: String?) throws {
        let bench = try Bench(rangesHeldMax: 1_000)
        let (damaged, whole) = (bench.tenant, TenantID(UUID()))
        let name = AggregateName.new()
        for tenant in [damaged, whole, damaged, whole] {
            try bench.writer.append(.sample(3, to: name, .any, tenant: tenant))
        }
        try RawDatabase(bench.path).run(sql)
        #expect(try Findings(bench.path).count > 0)
        let engine = SQLiteEngine(file: DatabaseFile(path: bench.path, rangesHeldMax: 4), logger: .silent)
        let (writer, reader) = (engine.makeWriter(), engine.makeReader())
        func isRefused(_ body: () throws(StorageError) -> Void) -> Bool {
            guard let error = refusal(body) else { return false }
            return error.kind == .corrupted && error.place == place && error.description.contains("tenant")
        }
        let range = PageRange(after: Version.none, to: .max)
        let bounds = PageBounds(bytesMax: .max)
        // Also after the ranges of the others have moved into the table.
        for round in 0..<4 {
            let request = try AppendRequest.sample(3, to: name, .any, tenant: damaged)
            #expect(isRefused { () throws(StorageError) in try writer.append(request) }, "round \(round)")
            #expect(
                isRefused { () throws(StorageError) in
                    _ = try reader.page(of: name, in: damaged, versions: range, bounds: bounds)
                }, "round \(round)")
            #expect(
                isRefused { () throws(StorageError) in
                    _ = try reader.version(of: name, in: damaged, asOf: Position(6))
                })
            #expect(
                isRefused { () throws(StorageError) in
                    _ = try reader.position(of: Version(1), of: name, in: damaged)
                })
            #expect(try writer.append(.sample(3, to: name, .any, tenant: whole))?.replayed == false)
            #expect(try writer.append(.sample(3, to: name, .any, tenant: TenantID(UUID())))?.replayed == false)
            let page = try reader.page(of: name, in: whole, versions: range, bounds: bounds)
            #expect(page.count == 9 + 3 * round, "round \(round)")
        }
    }

    /// What is damaged is found anew whenever the blocks are read again, and forgotten when it is no more.
    @Test func damageIsLookedForWheneverTheBlocksAreRead() throws {
        let bench = try Bench(rangesHeldMax: 1_000)
        let name = AggregateName.new()
        func append() throws(StorageError) {
            guard let request = try? AppendRequest.sample(3, to: name, .any, tenant: bench.tenant) else { return }
            try bench.writer.append(request)
        }
        try append()
        let key = try EventKeys.key(1, Position(1))
        let entries = try SQLiteConnection(path: bench.path, creates: false).text(
            "SELECT hex(entries) FROM blocks WHERE key = \(key)")
        let ranges = bench.engine.file.ranges
        for _ in 0..<2 {
            try RawDatabase(bench.path).run("UPDATE blocks SET entries = zeroblob(40) WHERE key = \(key)")
            ranges.invalidate()
            // The writer remembers the tenant.
            #expect(refusal(append)?.place == "position 1")
            #expect(refusal(append)?.place == "position 1")
            try RawDatabase(bench.path).run("UPDATE blocks SET entries = x'\(entries ?? "")' WHERE key = \(key)")
            ranges.invalidate()
            try append()
        }
        #expect(try bench.engine.makeReader().version(of: name, in: bench.tenant, asOf: .max) == Version(9))
    }

    /// Whichever write of a batch fails, ranges in memory and in the table tell the same as the oracle.
    @Test func failedWritesAmongOthersChangeNoAnswer() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let oracle = MemoryEngine()
        let memory = oracle.makeWriter()
        let bench = try Bench(rangesHeldMax: 12)
        let tenants = (0..<3).map { _ in TenantID(UUID()) }
        let names = (0..<6).map { _ in AggregateName.new() }
        let reader = bench.engine.makeReader()
        var failures: [StorageError.Kind: Int] = [:]
        for round in 0..<200 {
            let batch = try (0..<Int.random(in: 1...4, using: &numbers)).map { _ in
                try AppendRequest.sample(
                    Int.random(in: 1...3, using: &numbers), to: names[Int.random(in: 0..<6, using: &numbers)],
                    .any, tenant: tenants[Int.random(in: 0..<3, using: &numbers)])
            }
            let now = Timestamp(microseconds: Int64(round))
            var isStored = false
            if Int.random(in: 0..<3, using: &numbers) == 0 {
                let fault = Bool.random(using: &numbers) ? FaultyDisk.Fault.full : .write
                FaultyDisk.fail(bench.path, fault, after: Int.random(in: 0...12, using: &numbers))
                let error = refusal { () throws(StorageError) in _ = try bench.writer.commit(batch, now: now) }
                FaultyDisk.fail(bench.path, nil)
                isStored = error == nil
                if let error {
                    failures[error.kind, default: 0] += 1
                    // Sometimes it is given up, and others get its positions.
                    if error.kind != .outcomeUnknown, Bool.random(using: &numbers) { continue }
                }
            }
            if !isStored { _ = try bench.writer.commit(batch, now: now) }
            _ = try memory.commit(batch, now: now)
            let other = oracle.makeReader()
            for tenant in tenants {
                let place: Comment = "seed \(random.seed), round \(round)"
                #expect(try reader.head(of: tenant) == other.head(of: tenant), place)
                for name in names {
                    let range = PageRange(after: Version.none, to: .max)
                    let bounds = PageBounds(
                        direction: Bool.random(using: &numbers) ? .forward : .backward, bytesMax: .max)
                    let pages = try [reader, other].map {
                        try $0.page(of: name, in: tenant, versions: range, bounds: bounds)
                    }
                    #expect(pages[0] == pages[1], place)
                }
            }
        }
        #expect(failures[.full, default: 0] > 3 && failures[.outcomeUnknown, default: 0] > 3, "\(failures)")
    }
}
