import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// Behind a pooler: served where a connection is the client's own, refused by name where it is not.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct PoolerTests {
    private func engine(_ url: String, _ bench: Bench) -> PostgreSQLEngine {
        PostgreSQLEngine(connectionString: url, schema: bench.schema, logger: .silent)
    }

    @Test(arguments: ["transaction", "statement"])
    func aSharedConnectionIsToldAtTheStart(_ mode: String) throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let pooler = try Pooler(cluster, mode: mode)
        for round in 0..<3 {
            let error = refusal { () throws(StorageError) in try engine(pooler.url, bench).prepare() }
            #expect(error?.kind == .misconfigured, "round \(round): \(String(describing: error))")
            #expect(error?.description.contains("pool_mode = session") == true, "round \(round)")
        }
    }

    /// Where the pooler comes in, or changes its mode, after the start.
    @Test func aSharedConnectionIsToldByCalls() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        try bench.engine().makeWriter().append(.sample(tenant: bench.tenant))
        let pooler = try Pooler(cluster, mode: "transaction")
        let readers = (0..<3).map { _ in engine(pooler.url, bench).makeReader() }
        var refused = 0
        for round in 0..<12 {
            let error = refusal { () throws(StorageError) in _ = try readers[round % 3].head(of: bench.tenant) }
            guard let error else { continue }
            refused += 1
            #expect(error.kind == .misconfigured, "round \(round): \(error)")
            #expect(error.description.contains("pool_mode = session"), "round \(round): \(error)")
            #expect(!MartletError(error).isRetryable)
        }
        #expect(refused > 0)
    }

    @Test func aConnectionOfItsOwnServes() async throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url(), prepares: false)
        let pooler = try Pooler(cluster, mode: "session")
        let store = try Store(engine(pooler.url, bench))
        try await store.serves(bench.tenant)
        await store.end()
    }
}
