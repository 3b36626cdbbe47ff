import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// Lists of snapshots come from what is known of them: their states, which may be large, are not read.
@Suite(.blocking) struct FileSnapshotListTests {
    /// States that are damaged where they lie: a list says what it said before, and a load finds it.
    @Test func aListDoesNotNeedTheStates() throws {
        let bench = try Bench()
        let history = try SnapshotListHistory(bench.engine, tenant: bench.tenant)
        let reader = bench.engine.makeReader()
        #expect(history.isTold(by: try reader.snapshots(of: history.name, in: bench.tenant)))
        #expect(try history.intactVersions(reader) == [3, 6, 9])
        try RawDatabase(bench.path).run("UPDATE snapshots SET payload = zeroblob(length(payload))")
        #expect(history.isTold(by: try reader.snapshots(of: history.name, in: bench.tenant)))
        #expect(try history.intactVersions(reader) == [])
        try RawDatabase(bench.path).run("UPDATE snapshots SET payload = x'00'")
        let shorter = try reader.snapshots(of: history.name, in: bench.tenant)
        #expect(shorter.count == 3 && !shorter.contains { $0.isIntact })
    }

    /// What was read from the file, not what was answered: while columns lay behind the state, a list of 100 states of 1 MiB
    /// read 105 MB.
    @Test func aListReadsNoPagesOfStates() throws {
        let bench = try Bench()
        let history = try SnapshotListHistory(
            bench.engine, tenant: bench.tenant, payloadBytes: [1 << 20, 2 << 20, 4 << 20])
        let reader = bench.engine.makeReader()
        _ = try reader.head(of: bench.tenant)
        let before = try Self.bytesRead()
        #expect(history.isTold(by: try reader.snapshots(of: history.name, in: bench.tenant)))
        let bytes = try Self.bytesRead() - before
        #expect(bytes < 256 << 10, "a list read \(bytes) bytes")
        #expect(try history.intactVersions(reader) == [3, 6, 9])
        #expect(try Self.bytesRead() - before > 7 << 20, "reads are not seen")
    }

    /// What this thread has read from files.
    private static func bytesRead() throws -> Int {
        let lines = try String(contentsOfFile: "/proc/thread-self/io", encoding: .utf8).split(separator: "\n")
        return try #require(lines.first { $0.hasPrefix("rchar:") }.flatMap { Int($0.dropFirst(7)) })
    }
}
