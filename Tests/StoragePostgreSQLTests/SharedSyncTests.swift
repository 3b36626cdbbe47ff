import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// Snapshots and settings share transactions, and so syncs, as appends do: seen at PostgreSQL's system calls.
@Suite(.blocking, .needsPostgres) struct SharedSyncTests {
    private static let strace = "/usr/bin/strace"

    /// Some containers allow no process to trace another one.
    private static let canTrace: Bool = {
        // Where it is missing, the test says so.
        guard FileManager.default.isExecutableFile(atPath: strace) else { return true }
        guard let process = try? OwnCluster.launch([strace, "-f", "-o", "/dev/null", "/bin/true"]) else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    @Test(.enabled(if: SharedSyncTests.canTrace, "strace may not trace here"), arguments: [1, 250])
    func concurrentChangesShareSyncs(_ tenantCount: Int) async throws {
        let writes = 1_000
        let cluster = try await Threads.run { try OwnCluster(syncs: true) }
        let bench = try await Threads.run { try Bench(url: cluster.url()) }
        let store = EventStore(engine: bench.engine(), limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
        let tenants = (0..<tenantCount).map { _ in TenantID(UUID()) }
        let names = (0..<writes / 2).map { _ in AggregateName.new() }
        let folder = try TemporaryFolder()

        let before = try await Self.syncs(of: cluster, folder) {
            for _ in 0..<20 { _ = try await store.write(.append(.sample(tenant: TenantID(UUID())))) }
        }
        #expect((20...60).contains(before), "\(before) syncs of 20 commits are seen")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, name) in names.enumerated() {
                let tenant = tenants[index % tenantCount]
                group.addTask { _ = try await store.write(.append(.sample(to: name, tenant: tenant))) }
            }
            try await group.waitForAll()
        }
        let syncs = try await Self.syncs(of: cluster, folder) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, name) in names.enumerated() {
                    let tenant = tenants[index % tenantCount]
                    let save = SaveSnapshotRequest(
                        tenant: tenant, aggregate: name, version: Version(1),
                        snapshot: NewSnapshot(payload: ByteBuffer(string: "{}")))
                    let put = PutSettingsRequest(
                        tenant: tenant, kind: .snapshotPolicies, document: ByteBuffer(string: #"{"policies":[]}"#))
                    for change in [TenantChange.saveSnapshot(save, kept: 3), .putSettings(put)] {
                        group.addTask {
                            let outcome = try await store.write(.change(change))
                            if let refusal = outcome.refusal { throw refusal }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        print("changes: \(writes) by \(tenantCount) tenants took \(syncs) syncs of PostgreSQL's log")
        #expect(0 < syncs && syncs <= writes / 50)
        await store.shutDown()
    }

    /// How often the cluster's processes flush the log to disk meanwhile.
    private static func syncs(
        of cluster: OwnCluster, _ folder: TemporaryFolder, _ body: () async throws -> Void
    ) async throws -> Int {
        let file = folder.path + "/trace"
        let main = try cluster.processID()
        // Those that it forks later are followed.
        let children = try String(contentsOfFile: "/proc/\(main)/task/\(main)/children", encoding: .utf8)
        let processes = ["\(main)"] + children.split(separator: " ").map(String.init)
        let tracer = try OwnCluster.launch(
            [strace, "-f", "-yy", "-e", "trace=fdatasync,fsync", "-o", file] + processes.flatMap { ["-p", $0] })
        while try !processes.allSatisfy({ try Self.isTraced($0) }) { try await Task.sleep(for: .milliseconds(5)) }
        try await body()
        // Its other signals are blocked, as in the thread that started it. Each line is written as it comes.
        kill(tracer.processIdentifier, SIGKILL)
        tracer.waitUntilExit()
        let lines = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n")
        return lines.count { $0.contains("/pg_wal/") && !$0.contains("resumed") }
    }

    private static func isTraced(_ process: String) throws -> Bool {
        guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8) else { return true }
        return !status.contains("TracerPid:\t0\n")
    }
}
