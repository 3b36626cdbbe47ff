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
        let trace = folder.path + "/trace"
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/m.db",
            prefix: [
                Self.strace, "-f", "-yy", "-o", trace, "-e",
                "trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg",
            ])
        // A signal to strace would not reach the server; its lock names the process.
        let traced = try #require(pid_t(try String(contentsOfFile: folder.path + "/m.db.lock", encoding: .utf8)))
        defer { if server.process.isRunning { kill(traced, SIGKILL) } }
        let certificates = try TestCertificates.shared.get()
        let configuration = ClientConfiguration(
            host: "127.0.0.1", port: server.port,
            tls: .init(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"), clientName: "sync")
        let appends = 40
        let kind = try #require(EventType("Synced"))
        let name = AggregateName.new()
        try await MartletClient.withClient(configuration, logger: .silent) { client in
            let tenant = TenantID(UUID())
            for index in 0..<appends {
                let payload = ByteBuffer(string: "\"" + String(repeating: "x", count: 700 * index) + "\"")
                _ = try await client.append(
                    [NewEvent(type: kind, payload: payload)], to: name, expecting: .any, tenant: tenant)
            }
        }
        // The trace ends with the server.
        kill(traced, SIGTERM)
        try await server.process.end(within: 20)
        let order = SyncOrder(trace: try String(contentsOfFile: trace, encoding: .utf8), log: "/m.db-wal")
        #expect(order.violations == [])
        #expect(order.syncedAnswers >= appends, "\(order.syncedAnswers) answers followed a sync")
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
