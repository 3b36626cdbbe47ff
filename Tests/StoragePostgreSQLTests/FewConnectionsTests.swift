import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// A database that grants fewer connections than a server would use.
@Suite(.blocking, .needsPostgres) struct FewConnectionsTests {
    @Test(arguments: [2, 3, 6]) func fewerConnectionsServeAllTheSame(_ connections: Int) async throws {
        let bench = try Bench()
        let role = "r" + bench.schema
        try bench.run(
            """
            CREATE ROLE \(role) LOGIN CONNECTION LIMIT \(connections);
            GRANT ALL ON DATABASE martlet TO \(role);
            GRANT ALL ON SCHEMA \(bench.schema) TO \(role);
            GRANT ALL ON ALL TABLES IN SCHEMA \(bench.schema) TO \(role);
            """)
        let engine = PostgreSQLEngine(
            connectionString: bench.url.replacing("martlet@", with: "\(role)@", maxReplacements: 1),
            schema: bench.schema, logger: .silent)
        let store = try Store(engine)
        for _ in 0..<5 { try await store.serves(bench.tenant) }
        await store.end()
        #expect(try bench.engine().makeReader().head(of: bench.tenant).position == Position(50))
        try bench.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }
}
