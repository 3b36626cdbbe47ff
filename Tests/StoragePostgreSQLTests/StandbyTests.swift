import Foundation
import MartletClient
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// A synchronous standby that never answers: nothing is acknowledged that only this database has.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct StandbyTests {
    /// What commits.
    enum Commit: CaseIterable {
        case appendFromMemory, appendByLookingUp, appendWithSnapshot, saveSnapshot, deleteSnapshots, putSettings
    }

    /// How a wait ends.
    enum End: String, CaseIterable {
        case cancel = "pg_cancel_backend"
        case terminate = "pg_terminate_backend"
    }

    /// A standby that is not there is waited for from now on, or no more.
    private func require(standby: Bool, _ bench: Bench) throws {
        try bench.run(
            standby
                ? "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
                : "ALTER SYSTEM RESET synchronous_standby_names")
        try bench.run("SELECT pg_reload_conf()")
        guard standby else { return }
        // In force once a commit waits. One that found it not in force yet ends at once, and the next one is tried.
        let probe = Threads.start {
            for _ in 0..<1_000 {
                try bench.run("SET application_name = 'probe'; CREATE TABLE IF NOT EXISTS probes (); DROP TABLE probes")
            }
        }
        for _ in 0..<1_000 {
            let waiting = try bench.rows(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'probe' AND wait_event = 'SyncRep'
                """)
            if !waiting.isEmpty {
                _ = try? probe.value()
                return
            }
            Thread.sleep(forTimeInterval: 0.002)
        }
        throw BenchFailure("the standby is not waited for")
    }

    /// Ends the waits of now.
    private func endWaits(_ bench: Bench, _ end: End = .cancel) throws {
        _ = try bench.rows(
            """
            SELECT \(end.rawValue)(pid) FROM pg_stat_activity
            WHERE application_name = '\(bench.schema)' AND wait_event = 'SyncRep'
            """)
        Thread.sleep(forTimeInterval: 0.005)
    }

    @Test func aWaitThatIsEndedIsNotAcknowledged() throws {
        let cluster = try OwnCluster()
        for commit in Commit.allCases {
            for end in End.allCases { try endWait(of: commit, end, cluster) }
        }
    }

    private func endWait(of commit: Commit, _ end: End, _ cluster: OwnCluster) throws {
        let bench = try Bench(url: cluster.url())
        let name = AggregateName.new()
        let writer = try bench.writer()
        let snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
        func save(_ version: UInt64) -> TenantChange {
            .saveSnapshot(
                SaveSnapshotRequest(
                    tenant: bench.tenant, aggregate: name, version: Version(version), snapshot: snapshot), kept: 3)
        }
        try writer.append(try .sample(2, to: name, tenant: bench.tenant))
        _ = try writer.apply(save(1), now: .now())
        try writer.append(try .sample(2, to: name, tenant: bench.tenant))
        let fromMemory = writer.optimisticCommits
        try writer.append(try .sample(2, to: name, tenant: bench.tenant))
        #expect(writer.optimisticCommits == fromMemory + 1)
        try require(standby: true, bench)
        var request = try AppendRequest.sample(2, to: name, tenant: bench.tenant)
        if commit == .appendWithSnapshot { request.aggregates[0].snapshot = snapshot }
        if commit == .appendByLookingUp { request.aggregates[0].expected = .exists }
        let (append, fresh) = (request, commit == .appendByLookingUp ? try bench.writer() : writer)
        let settings = PutSettingsRequest(
            tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer(string: "{}"))
        let using = UncheckedWriter(fresh)
        let saving = save(2)
        let answer = Threads.start {
            refusal { () throws(StorageError) in
                switch commit {
                case .appendFromMemory, .appendByLookingUp, .appendWithSnapshot: try using.writer.append(append)
                case .saveSnapshot: _ = try using.writer.apply(saving, now: .now())
                case .deleteSnapshots:
                    _ = try using.writer.apply(
                        .deleteSnapshots(DeleteSnapshotsRequest(tenant: bench.tenant, aggregate: name)), now: .now())
                case .putSettings: _ = try using.writer.apply(.putSettings(settings), now: .now())
                }
            }
        }
        try bench.waitForSession("wait_event = 'SyncRep'")
        try endWaits(bench, end)
        // Others are told in a transaction of its own, which waits as well.
        while !answer.isDone { try? endWaits(bench, .cancel) }
        let error = try answer.value()
        #expect(error?.kind == .outcomeUnknown, "\(commit), \(end): \(String(describing: error))")
        try require(standby: false, bench)
        if [.appendFromMemory, .appendByLookingUp, .appendWithSnapshot].contains(commit) {
            #expect(try fresh.append(append)?.replayed == true)
        }
        #expect(try fresh.append(try .sample(tenant: bench.tenant)) != nil)
    }

    /// What is here is on no standby yet: to be sent again does not make it so.
    @Test func aRetryIsNotAcknowledgedEitherBeforeTheStandbyHasIt() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        try require(standby: true, bench)
        let request = try AppendRequest.sample(2, tenant: bench.tenant)
        for attempt in 0..<3 {
            let answer = Threads.start {
                let writer = bench.engine().makeWriter()
                return refusal { () throws(StorageError) in try writer.append(request) }
            }
            while !answer.isDone { try endWaits(bench) }
            #expect(try answer.value()?.kind == .outcomeUnknown, "attempt \(attempt)")
        }
        try require(standby: false, bench)
        #expect(try bench.engine().makeWriter().append(request)?.replayed == true)
        #expect(try bench.holds(request.ids))
    }

    @Test func aServerEndsWithinItsDrainLimitThoughACommitWaits() async throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let engine = bench.engine()
        try engine.prepare()
        try await Threads.run { try require(standby: true, bench) }
        let isOver = NIOLockedValueBox(false)
        // A test that fails ends as well.
        let watch = Threads.start {
            for _ in 0..<1_500 where !isOver.withLockedValue({ $0 }) { Thread.sleep(forTimeInterval: 0.01) }
            while !isOver.withLockedValue({ $0 }) {
                try bench.endSessions()
                Thread.sleep(forTimeInterval: 0.1)
            }
        }
        let drainedAt = NIOLockedValueBox(ContinuousClock.now)
        try await TestServer.with(engine) { server in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    _ = try? await server.withClient { client in
                        try await client.putSettings(
                            PutSettingsRequest(
                                tenant: bench.tenant, kind: .snapshotPolicies,
                                document: ByteBuffer(string: #"{"policies":[]}"#)))
                    }
                }
                try await Threads.run { try bench.waitForSession("wait_event = 'SyncRep'") }
                group.cancelAll()
            }
            drainedAt.withLockedValue { $0 = .now }
        }
        let seconds = (ContinuousClock.now - drainedAt.withLockedValue { $0 }) / .seconds(1)
        isOver.withLockedValue { $0 = true }
        try watch.value()
        #expect(seconds < 5, "it took \(seconds) s, and the drain limit is 1 s")
    }
}

/// `@unchecked Sendable`: one thread at a time has it.
private final class UncheckedWriter: @unchecked Sendable {
    let writer: PostgreSQLWriter
    init(_ writer: PostgreSQLWriter) { self.writer = writer }
}
