import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// Snapshots and settings share transactions, and cost appends nothing.
@Suite(.blocking, .needsPostgres) struct SharedSyncTests {
    private static let strace = "/usr/bin/strace"

    /// The database's processes, and the first of them, which starts the others.
    private func processes(_ bench: Bench) throws -> [String] {
        let file = try bench.rows("SELECT pg_read_file('postmaster.pid')")[0][0]
        let first = String(file.prefix { $0.isNumber })
        let children = try String(contentsOfFile: "/proc/\(first)/task/\(first)/children", encoding: .utf8)
        return [first] + children.split(separator: " ").map(String.init)
    }

    /// The syncs of the database's log while that ran, as the system saw them; nil where no process may be traced.
    private func syncs(_ bench: Bench, _ body: () async throws -> Void) async throws -> Int? {
        let folder = try TemporaryFolder()
        let trace = folder.path + "/trace"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.strace)
        let traced = try processes(bench)
        process.arguments =
            ["-f", "-yy", "-o", trace, "-e", "trace=fdatasync,fsync"] + traced.flatMap { ["-p", $0] }
        let errors = folder.path + "/errors"
        try Data().write(to: URL(fileURLWithPath: errors))
        process.standardError = FileHandle(forWritingAtPath: errors)
        try process.run()
        func attached() -> Int {
            let text = (try? String(contentsOfFile: errors, encoding: .utf8)) ?? ""
            return text.split(separator: "\n").count { $0.contains(" attached") || $0.contains("No such process") }
        }
        while process.isRunning, attached() < traced.count { try await Task.sleep(for: .milliseconds(10)) }
        guard process.isRunning else { return nil }
        try await body()
        // It has inherited that all else is blocked. What it traced goes on.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let lines = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n")
        return lines.count { $0.contains("/pg_wal/") && !$0.contains("resumed") }
    }

    /// A thousand at once, of one tenant or of many, in a database that syncs.
    @Test(.enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"), arguments: [1, 250])
    func concurrentChangesShareSyncs(_ tenantCount: Int) async throws {
        guard FileManager.default.isExecutableFile(atPath: Self.strace) else {
            Issue.record("strace is missing: run the tests by make test")
            return
        }
        let cluster = try OwnCluster(syncs: true)
        let bench = try Bench(url: cluster.url())
        let store = EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
        let tenants = (0..<tenantCount).map { _ in TenantID(UUID()) }
        let names = (0..<500).map { _ in AggregateName.new() }
        for (index, name) in names.enumerated() {
            _ = try await store.write(.append(.sample(to: name, tenant: tenants[index % tenantCount])))
        }
        let counted = try await syncs(bench) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, name) in names.enumerated() {
                    let tenant = tenants[index % tenantCount]
                    group.addTask {
                        let saving = SaveSnapshotRequest(
                            tenant: tenant, aggregate: name, version: Version(1),
                            snapshot: NewSnapshot(payload: ByteBuffer(string: "{}")))
                        _ = try await store.write(.change(.saveSnapshot(saving, kept: 1)))
                    }
                    group.addTask {
                        let document = ByteBuffer(string: #"{"policies":[]}"#)
                        let settings = PutSettingsRequest(
                            tenant: tenant, kind: .snapshotPolicies, document: document)
                        _ = try await store.write(.change(.putSettings(settings)))
                    }
                }
                try await group.waitForAll()
            }
        }
        await store.shutDown()
        // Some containers allow no process to trace another one.
        guard let counted else { return }
        print("changes: 1,000 by \(tenantCount) tenants took \(counted) syncs of PostgreSQL's log")
        #expect(1...20 ~= counted)
    }

    /// What another server saves of snapshots refutes nothing that appends are proved by.
    @Test func appendsTakeOneTripBesideSnapshotsOfAnotherServer() async throws {
        let bench = try Bench()
        let writer = try bench.writer()
        let (tenant, name) = (bench.tenant, AggregateName.new())
        for _ in 0..<3 { try writer.append(.sample(to: name, tenant: tenant)) }
        func share(of appends: Int) throws -> Double {
            let before = writer.optimisticCommits
            for _ in 0..<appends { try writer.append(.sample(to: name, tenant: tenant)) }
            return Double(writer.optimisticCommits - before) / Double(appends)
        }
        let alone = try share(of: 500)
        let other = EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: .silent)
        try other.start()
        let (beside, saved) = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    var saved = 0
                    while !Task.isCancelled {
                        let saving = SaveSnapshotRequest(
                            tenant: tenant, aggregate: name, version: Version(3),
                            snapshot: NewSnapshot(payload: ByteBuffer(string: "{}")))
                        guard (try? await other.write(.change(.saveSnapshot(saving, kept: 1)))) != nil else { break }
                        saved += 1
                    }
                    return saved
                }
            }
            try await Task.sleep(for: .milliseconds(200))
            let share = try share(of: 500)
            group.cancelAll()
            return (share, try await group.reduce(0, +))
        }
        await other.shutDown()
        print("one-trip appends: \(alone) alone, \(beside) beside \(saved) saved snapshots of another server")
        #expect(saved > 100 && beside >= alone - 0.01)
    }
}
