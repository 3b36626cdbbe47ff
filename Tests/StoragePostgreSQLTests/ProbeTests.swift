import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// The commit of an empty batch: it finds out what a commit with something in it would.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct ProbeTests {
    private func probe(_ writer: any StorageWriter) -> StorageError? {
        do throws(StorageError) {
            let result = try writer.commit([], now: .now(), lockWait: .zero)
            #expect(result.outcomes.isEmpty && result.runs.isEmpty)
            return nil
        } catch { return error }
    }

    @Test func aServerThatIsAwayIsFoundAndFoundAgain() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let writer = bench.engine().makeWriter()
        try writer.append(.sample(tenant: bench.tenant))
        let before = try bench.rows("SELECT pg_current_wal_insert_lsn()::text")
        #expect(probe(writer) == nil)
        #expect(try bench.rows("SELECT pg_current_wal_insert_lsn()::text") != before, "it is written to the log")
        try cluster.stop(crashes: true)
        for _ in 0..<2 { #expect([.unavailable, .outcomeUnknown].contains(probe(writer)?.kind)) }
        try cluster.start()
        #expect(probe(writer) == nil)
        try writer.append(.sample(tenant: bench.tenant))
        #expect(try bench.engine().makeReader().head(of: bench.tenant).position > Position(1))
    }

    @Test func aStandbyTakesNone() throws {
        let primary = try OwnCluster()
        let bench = try Bench(url: primary.url())
        let standby = try OwnCluster(standbyOf: primary)
        let engine = PostgreSQLEngine(connectionString: standby.url(), schema: bench.schema, logger: .silent)
        let writer = engine.makeWriter()
        let error = probe(writer)
        #expect(error?.kind == .unavailable, "\(String(describing: error))")
        #expect(error?.description.contains("standby") == true)
        try primary.stop(crashes: true)
        try PostgresConnection(standby.url(), statements: []).run("SELECT pg_promote(true, 20)")
        #expect(probe(writer) == nil)
    }

    @Test func writesThatAreTurnedOffAreFound() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let error = probe(bench.engine(options: "-c default_transaction_read_only=on").makeWriter())
        #expect(error?.kind == .unavailable, "\(String(describing: error))")
        #expect(error?.description.contains("default_transaction_read_only") == true)
    }
}
