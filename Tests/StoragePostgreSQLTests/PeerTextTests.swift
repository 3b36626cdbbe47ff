import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What peers are told of a database that fails, and what its operator finds in the log.
@Suite(.needsPostgres) struct PeerTextTests {
    private func check(
        _ reason: Reason, _ logged: String, _ log: CapturedLog, _ secrets: [String],
        sourceLocation: SourceLocation = #_sourceLocation, _ call: () async throws(MartletError) -> Void
    ) async {
        do throws(MartletError) {
            try await call()
            Issue.record("it went through", sourceLocation: sourceLocation)
        } catch {
            #expect(error.reason == reason, "\(error)", sourceLocation: sourceLocation)
            let leaks = PeerTexts.leaks(in: error, secrets: secrets)
            #expect(leaks == [], "\(error)", sourceLocation: sourceLocation)
            #expect(
                log.lines.contains { $0.contains(logged) }, "\(logged) is not in \(log.lines)",
                sourceLocation: sourceLocation)
        }
    }

    private func withStore(
        _ engine: PostgreSQLEngine, _ body: (EventStore, CapturedLog) async throws -> Void
    ) async throws {
        let log = CapturedLog()
        let store = EventStore(engine: engine, limits: Limits(), clock: { .now() }, logger: log.logger)
        try store.start()
        do { try await body(store, log) } catch {
            await store.shutDown()
            throw error
        }
        await store.shutDown()
    }

    @Test(arguments: [
        ("pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())", Reason.outcomeUnknown, "while committing"),
        ("RAISE EXCEPTION 'no room at /var/lib' USING ERRCODE = '53100'", .storageFull, "/var/lib"),
        ("RAISE EXCEPTION 'page 7 of base/1/2' USING ERRCODE = 'XX001'", .storageCorrupted, "base/1/2"),
        ("RAISE EXCEPTION 'not on 10.0.0.7' USING ERRCODE = '25006'", .storageUnavailable, "10.0.0.7"),
        ("RAISE EXCEPTION 'permission denied for x' USING ERRCODE = '42501'", .storageMisconfigured, "denied for x"),
        ("RAISE WARNING 'on no standby'", .outcomeUnknown, "on no standby"),
    ])
    func aCommitThatFails(_ statement: String, _ reason: Reason, _ logged: String) async throws {
        let bench = try Bench()
        try await withStore(bench.engine()) { store, log in
            _ = try await store.append(try .sample(tenant: bench.tenant))
            try bench.beforeEachCommit(statement.hasPrefix("pg_") ? "PERFORM \(statement)" : statement)
            let request = try AppendRequest.sample(tenant: bench.tenant)
            await check(reason, logged, log, [bench.schema]) { () async throws(MartletError) in
                _ = try await store.append(request)
            }
        }
    }

    @Test func aDatabaseThatIsNotThereOrTakesAnotherPassword() async throws {
        guard OwnCluster.isAvailable else { return }
        let cluster = try await Threads.run { try OwnCluster() }
        let bench = try await Threads.run { try Bench(url: cluster.url()) }
        try await withStore(bench.engine()) { store, log in
            _ = try await store.append(try .sample(tenant: bench.tenant))
            try await Threads.run { try bench.run("ALTER ROLE martlet PASSWORD 'another'") }
            try await Threads.run { _ = try bench.connectAndEnd(as: "another", cluster) }
            let secrets = [bench.schema, OwnCluster.password, "martlet"]
            await check(.storageMisconfigured, "password authentication failed", log, secrets) {
                () async throws(MartletError) in
                // The first may find its connection ended only now.
                for _ in 0..<2 {
                    _ = try await store.read(for: bench.tenant) { reader throws(StorageError) in
                        try reader.head(of: bench.tenant)
                    }
                }
            }
            try await Threads.run { try cluster.stop(crashes: true) }
            let request = try AppendRequest.sample(tenant: bench.tenant)
            await check(.storageUnavailable, "refused", log, secrets) { () async throws(MartletError) in
                _ = try await store.append(request)
            }
            await check(.storageUnavailable, "read failed", log, secrets) { () async throws(MartletError) in
                _ = try await store.read(for: bench.tenant) { reader throws(StorageError) in
                    try reader.head(of: bench.tenant)
                }
            }
        }
    }
}

extension Bench {
    /// Ends all sessions of the engine, by a connection with that password.
    fileprivate func connectAndEnd(as password: String, _ cluster: OwnCluster) throws -> Int32 {
        let connection = try PostgresConnection(cluster.url(password: password), statements: [])
        return try connection.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = '\(schema)'"
        ).rowCount
    }
}
