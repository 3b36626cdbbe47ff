import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// A database that takes no writes, and why.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct FollowerTests {
    /// Whether the schema is there already, or has to be made once the standby is promoted.
    @Test(arguments: [true, false])
    func aServerOnAStandbyStartsAndServesOnceItIsPromoted(_ hasSchema: Bool) async throws {
        let primary = try OwnCluster()
        let bench = try Bench(url: primary.url(), prepares: hasSchema)
        if hasSchema { try bench.engine().makeWriter().append(.sample(tenant: bench.tenant)) }
        let standby = try OwnCluster(standbyOf: primary)
        let engine = PostgreSQLEngine(connectionString: standby.url(), schema: bench.schema, logger: .silent)
        let store = try Store(engine)
        for call in [EngineCall.commit, .read, .listen] {
            let error = try call.refusal(by: engine)
            #expect(error?.kind == .unavailable, "\(call): \(String(describing: error))")
            #expect(error?.description.contains("standby") == true, "\(call): \(String(describing: error))")
            #expect(error.map { MartletError($0).reason } == .storageUnavailable, "\(call)")
        }
        try primary.stop(crashes: true)
        try PostgresConnection(standby.url(), statements: []).run("SELECT pg_promote(true, 20)")
        try await store.serves(bench.tenant)
        let tenant = bench.tenant
        let head = try await store.store.read(for: tenant) { reader throws(StorageError) in
            try reader.head(of: tenant)
        }
        #expect(head.position == Position(hasSchema ? 11 : 10))
        await store.end()
    }

    @Test func writesThatAreTurnedOffAreToldAsSuch() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let engine = bench.engine(options: "-c default_transaction_read_only=on")
        for call in [EngineCall.prepare, .commit] {
            let error = try call.refusal(by: engine)
            #expect(error?.kind == .unavailable, "\(call): \(String(describing: error))")
            let text = error?.description ?? ""
            #expect(text.contains("default_transaction_read_only"), "\(call): \(text)")
            #expect(!text.contains("follows another") && !text.contains("standby"), "\(call): \(text)")
        }
    }
}
