import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// Lists of snapshots come from what is known of them: their states, which may be large, are not read.
@Suite(.blocking, .needsPostgres) struct DatabaseSnapshotListTests {
    /// States that are damaged where they lie: a list says what it said before, and a load finds it.
    @Test func aListReadsNoState() throws {
        let bench = try Bench()
        let history = try SnapshotListHistory(bench.engine(), tenant: bench.tenant)
        let reader = bench.engine().makeReader()
        #expect(history.isTold(by: try reader.snapshots(of: history.name, in: bench.tenant)))
        #expect(try history.intactVersions(reader) == [3, 6, 9])
        try bench.run("UPDATE snapshots SET payload = decode(repeat('00', octet_length(payload)), 'hex')")
        #expect(history.isTold(by: try reader.snapshots(of: history.name, in: bench.tenant)))
        #expect(try history.intactVersions(reader) == [])
        try bench.run("UPDATE snapshots SET payload = '\\x00'")
        let shorter = try reader.snapshots(of: history.name, in: bench.tenant)
        #expect(shorter.count == 3 && !shorter.contains { $0.isIntact })
    }
}
