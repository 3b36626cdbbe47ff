import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// The settings that commits run with, as a trigger sees them.
@Suite(.blocking, .needsPostgres) struct DurabilityTests {
    @Test(arguments: [
        ("off", "on"), ("local", "on"), ("on", "on"), ("remote_write", "remote_write"),
        ("remote_apply", "remote_apply"),
    ])
    func synchronousCommitIsRaisedAndNeverLowered(_ configured: String, _ inForce: String) throws {
        let bench = try Bench()
        try bench.run("CREATE TABLE seen (synchronous_commit text, isolation text)")
        try bench.beforeEachCommit(
            """
            INSERT INTO \(bench.schema).seen
            VALUES (current_setting('synchronous_commit'), current_setting('transaction_isolation'))
            """)
        let writer = bench.engine(options: "-c synchronous_commit=\(configured)").makeWriter()
        try writer.append(.sample(tenant: bench.tenant))
        try writer.append(.sample(tenant: bench.tenant))
        #expect(
            try bench.rows("SELECT * FROM seen", columns: 2) == Array(repeating: [inForce, "read committed"], count: 2))
    }
}
