import Foundation
import MartletClient
import MartletModel
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// Acknowledged means on disk, as the system sees it.
@Suite struct SyncTests {
    private static let strace = "/usr/bin/strace"

    /// Some containers allow no process to trace another one.
    private static let canTrace: Bool = {
        // Where it is missing, the test says so.
        guard FileManager.default.isExecutableFile(atPath: strace) else { return true }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: strace)
        process.arguments = ["-f", "-o", "/dev/null", "/bin/true"]
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    @Test(.enabled(if: SyncTests.canTrace, "strace may not trace here"))
    func anAnswerLeavesAfterTheSyncOfItsCommit() async throws {
        guard FileManager.default.isExecutableFile(atPath: Self.strace) else {
            Issue.record("strace is missing: run the tests by make test")
            return
        }
        let folder = try TemporaryFolder()
        let appends = 40
        let kind = EventType("Synced")
        let name = AggregateName.new()
        let trace = try await Self.trace(folder) { client in
            let tenant = TenantID(UUID())
            for index in 0..<appends {
                let payload = ByteBuffer(string: "\"" + String(repeating: "x", count: 700 * index) + "\"")
                _ = try await client.append(
                    [NewEvent(type: kind, payload: payload)], to: name, expecting: .any, tenant: tenant)
            }
        }
        let order = SyncOrder(trace: trace, log: "/m.db-wal")
        #expect(order.violations == [])
        #expect(order.syncedAnswers >= appends, "\(order.syncedAnswers) answers followed a sync")
    }

    /// Snapshots and settings share transactions as appends do: a thousand at once, of one tenant or of many.
    @Test(.enabled(if: SyncTests.canTrace, "strace may not trace here"), arguments: [1, 250])
    func concurrentChangesShareSyncs(tenantCount: Int) async throws {
        guard FileManager.default.isExecutableFile(atPath: Self.strace) else {
            Issue.record("strace is missing: run the tests by make test")
            return
        }
        let writes = 1_000
        let folder = try TemporaryFolder()
        let tenants = (0..<tenantCount).map { _ in TenantID(UUID()) }
        let names = (0..<writes / 2).map { _ in AggregateName.new() }
        let kind = EventType("Made")
        let before = try await Self.trace(folder) { client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, name) in names.enumerated() {
                    group.addTask {
                        _ = try await client.append(
                            [NewEvent(type: kind, payload: ByteBuffer(string: "{}"))], to: name, expecting: .none,
                            tenant: tenants[index % tenantCount])
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(SyncOrder.syncCount(before, log: "/m.db-wal") > 0, "syncs are not seen")
        let trace = try await Self.trace(folder) { client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, name) in names.enumerated() {
                    let tenant = tenants[index % tenantCount]
                    group.addTask {
                        let state = NewSnapshot(payload: ByteBuffer(string: "{}"))
                        let receipt = try await client.saveSnapshot(
                            SaveSnapshotRequest(
                                tenant: tenant, aggregate: name, version: Version(1), snapshot: state))
                        #expect(receipt.isKept)
                    }
                    group.addTask {
                        let document = ByteBuffer(string: #"{"policies":[]}"#)
                        _ = try await client.putSettings(
                            PutSettingsRequest(tenant: tenant, kind: .snapshotPolicies, document: document))
                    }
                }
                try await group.waitForAll()
            }
        }
        let syncs = SyncOrder.syncCount(trace, log: "/m.db-wal")
        print("changes: \(writes) by \(tenantCount) tenants took \(syncs) syncs of the log")
        // A debug build takes so long for each call that fewer come together.
        let isRelease = ProcessInfo.processInfo.environment["MARTLET_TEST_BINARY"] != nil
        #expect(syncs <= writes / (isRelease ? 50 : 10))
    }

    /// Consumers that each acknowledge an event a second share syncs, with one another and with the leases of their workers.
    @Test(.enabled(if: SyncTests.canTrace, "strace may not trace here"), .timeLimit(.minutes(5)))
    func consumersThatAcknowledgeOnceASecondShareSyncs() async throws {
        guard FileManager.default.isExecutableFile(atPath: Self.strace) else {
            Issue.record("strace is missing: run the tests by make test")
            return
        }
        // A debug build that is traced takes too long for a thousand.
        let isRelease = ProcessInfo.processInfo.environment["MARTLET_TEST_BINARY"] != nil
        let (count, rounds) = isRelease ? (1_000, 20) : (200, 5)
        let folder = try TemporaryFolder()
        let tenant = TenantID(UUID())
        let consumers = try (0..<count).map { number in
            ConsumerID(tenant: tenant, name: try #require(ConsumerName("consumer-\(number)")))
        }
        let kind = EventType("Made")
        let worker = try #require(WorkerName("worker"))
        _ = try await Self.trace(folder) { client in
            for consumer in consumers {
                try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 1)))
            }
        }
        let trace = try await Self.trace(folder) { client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for consumer in consumers {
                    group.addTask {
                        let consumption = client.consume(ConsumeRequest(consumer, worker: worker))
                        for try await item in consumption {
                            guard case .events(let events) = item else { continue }
                            for event in events { consumption.acknowledge(event.delivery) }
                        }
                    }
                }
                var head = Position.start
                for _ in 0..<rounds {
                    let event = NewEvent(type: kind, payload: ByteBuffer(string: "{}"))
                    head = try await client.append([event], to: .new(), expecting: .none, tenant: tenant).lastPosition
                    try await Task.sleep(for: .seconds(1))
                }
                for consumer in consumers {
                    try await client.awaitConsumer(consumer, position: head, timeout: .seconds(60))
                }
                group.cancelAll()
            }
        }
        let syncs = SyncOrder.syncCount(trace, log: "/m.db-wal")
        let writes = count * rounds
        print(
            "consumers: \(writes) acknowledgements of \(count) consumers took \(syncs) syncs, \(rounds) appends among them"
        )
        #expect(syncs > rounds, "syncs are not seen")
        #expect(syncs <= rounds + writes / (isRelease ? 50 : 10))
    }

    /// What a server on that folder did while a client did this.
    private static func trace(
        _ folder: TemporaryFolder, _ body: @escaping @Sendable (MartletClient) async throws -> Void
    ) async throws -> String {
        let trace = folder.path + "/trace"
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/m.db",
            prefix: [
                strace, "-f", "-yy", "--seccomp-bpf", "-o", trace, "-e",
                "trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg",
            ])
        // A signal to strace would not reach the server; its lock names the process.
        let traced = try #require(pid_t(try String(contentsOfFile: folder.path + "/m.db.lock", encoding: .utf8)))
        defer { if server.process.isRunning { kill(traced, SIGKILL) } }
        let certificates = try TestCertificates.shared.get()
        let configuration = ClientConfiguration(
            host: "127.0.0.1", port: server.port,
            tls: .init(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"), clientName: "sync")
        try await MartletClient.withClient(configuration, logger: .silent, body)
        // The trace ends with the server.
        kill(traced, SIGTERM)
        try await server.process.end(within: 20)
        return try String(contentsOfFile: trace, encoding: .utf8)
    }

    private static let write = "11 pwrite64(7</d/m.db-wal>, \"\\0\"..., 8192, 56) = 8192"
    private static let sync = "11 fdatasync(7</d/m.db-wal>) = 0"
    private static let answer = "12 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\\27\\3\\3\"..., 90) = 90"

    @Test func theCheckAcceptsTheRightOrder() {
        let others = [
            "10 write(5<anon_inode:[eventfd]>, \"\\1\"..., 8) = 8", "10 pwrite64(6</d/m.db>, \"\"..., 8, 0) = 8",
            "10 fdatasync(6</d/m.db>) = 0", "", "10 +++ exited with 0 +++",
        ]
        let good = [Self.answer, Self.write, Self.write] + others + [Self.sync, Self.answer, Self.answer]
        let twice = (good + good).joined(separator: "\n")
        var expected = SyncOrder(trace: "", log: "/m.db-wal")
        #expect(expected == SyncOrder(trace: Self.answer, log: "/m.db-wal"))
        expected.syncedAnswers = 2
        #expect(SyncOrder(trace: twice, log: "/m.db-wal") == expected)
    }

    @Test func theCheckAcceptsCallsThatAreInterrupted() {
        let trace = """
            11 pwrite64(7</d/m.db-wal>, "\\0"..., 8192, 56 <unfinished ...>
            12 write(5<anon_inode:[eventfd]>, "\\1"..., 8) = 8
            11 <... pwrite64 resumed>) = 8192
            11 fdatasync(7</d/m.db-wal> <unfinished ...>
            12 write(5<anon_inode:[eventfd]>, "\\1"..., 8) = 8
            11 <... fdatasync resumed>) = 0
            \(Self.answer)
            """
        let order = SyncOrder(trace: trace, log: "/m.db-wal")
        #expect(order.violations == [] && order.syncedAnswers == 1)
    }

    @Test(arguments: [
        // The answer before the sync, without one, and after one of another file.
        [write, answer, sync], [write, answer], [write, "11 fdatasync(6</d/m.db>) = 0", answer],
        // The sync before the write, or before a second write.
        [sync, write, answer], [write, sync, write, answer],
        // A sync that failed, one that is still under way, and one that began before the write had ended.
        [write, "11 fdatasync(7</d/m.db-wal>) = -1 EIO (Input/output error)", answer],
        [write, "11 fdatasync(7</d/m.db-wal> <unfinished ...>", answer, "11 <... fdatasync resumed>) = 0"],
        [
            "11 pwrite64(7</d/m.db-wal>, \"\", 8, 0 <unfinished ...>", "13 fdatasync(7</d/m.db-wal>) = 0",
            "11 <... pwrite64 resumed>) = 8", answer,
        ],
        // Never synced.
        [answer, write],
    ])
    func theCheckFindsThePlantedViolation(_ lines: [String]) {
        let order = SyncOrder(trace: lines.joined(separator: "\n"), log: "/m.db-wal")
        #expect(!order.violations.isEmpty && order.syncedAnswers == 0)
    }
}
