import Foundation
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

    /// What the connection began with stays, but for what is too weak.
    @Test(.enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
    func noReloadChangesWhatAnOpenConnectionCommitsWith() throws {
        let cluster = try OwnCluster()
        for (first, then, inForce) in [
            ("on", "off", "on"), ("remote_apply", "local", "remote_apply"), ("off", "remote_write", "on"),
        ] {
            let bench = try Bench(url: cluster.url())
            try reload("synchronous_commit", first, bench)
            try bench.run("CREATE TABLE seen (synchronous_commit text)")
            try bench.beforeEachCommit(
                "INSERT INTO \(bench.schema).seen VALUES (current_setting('synchronous_commit'))")
            let writer = try bench.writer()
            try writer.append(.sample(tenant: bench.tenant))
            try reload("synchronous_commit", then, bench)
            for _ in 0..<2 { try writer.append(.sample(tenant: bench.tenant)) }
            #expect(try bench.rows("SELECT * FROM seen") == Array(repeating: [inForce], count: 3), "\(first), \(then)")
        }
    }

    /// Where the database told no warnings, a commit that is on no standby would be acknowledged.
    @Test(.enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
    func noReloadHidesTheWarningsOfACommit() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        for isOpenBefore in [true, false] {
            try reload("client_min_messages", isOpenBefore ? "notice" : "error", bench)
            let writer = try bench.writer()
            try writer.append(.sample(tenant: bench.tenant))
            try reload("client_min_messages", "error", bench)
            try bench.beforeEachCommit("RAISE WARNING 'this may not last'")
            let request = try AppendRequest.sample(tenant: bench.tenant)
            let error = refusal { () throws(StorageError) in try writer.append(request) }
            #expect(error?.kind == .outcomeUnknown, "\(isOpenBefore): \(String(describing: error))")
            try bench.beforeEachCommit("NULL")
        }
    }

    /// Sets that for the whole cluster. It is in force for sessions that are open with their next statement: the server's
    /// first process tells them before it begins a session that shows it.
    private func reload(_ setting: String, _ value: String, _ bench: Bench) throws {
        try bench.run("ALTER SYSTEM SET \(setting) = '\(value)'")
        try bench.run("SELECT pg_reload_conf()")
        for _ in 0..<1_000 {
            if try bench.rows("SHOW \(setting)") == [[value]] { return }
            Thread.sleep(forTimeInterval: 0.01)
        }
        throw BenchFailure("\(setting) is not in force")
    }
}
