import Foundation
import MartletClient
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// What the server process does with too many connections, with too few file descriptors, and with CAs that go.
@Suite struct ConnectionLimitTests {
    /// A process that has no descriptor left for connections neither spins nor stays deaf.
    @Test func withoutDescriptorsItWaitsAndRecovers() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let settings = try server.environment(tenant: UUID())
        #expect(try await Binary.run(["head"], environment: settings).code == 0)
        let id = server.process.processIdentifier
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(id)/fd").count
        let limited = try await Binary.run(
            ["--pid", "\(id)", "--nofile=\(open + 24):"], path: "/usr/bin/prlimit")
        #expect(limited.code == 0, "\(limited.errors)")

        let peers = SilentPeers()
        #expect(peers.connect(400, to: server.port, from: 0x00_00_02) == 400)
        let before = try processorSeconds(id)
        try await Task.sleep(for: .seconds(1))
        let used = try processorSeconds(id) - before
        #expect(used < 0.5, "\(used) s of processor time in a second of waiting")
        let lines = server.logged.split(separator: "\n").filter { $0.contains("cannot accept connections") }
        #expect(lines.count == 1, "\(server.logged)")
        // Silent ones make room for who has something to say, and the others may go.
        #expect(try await Binary.run(["head"], environment: settings).code == 0, "\(server.logged)")
        peers.closeAll()
        #expect(try await Binary.run(["head"], environment: settings).code == 0, "\(server.logged)")
        try await server.stop()
    }

    /// User and system time of a process.
    private func processorSeconds(_ id: Int32) throws -> Double {
        let text = try String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8)
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        return try (Double(#require(UInt64(fields[12]))) + Double(#require(UInt64(fields[13])))) / 100
    }

    @Test func tooFewDescriptorsAreToldAtTheStart() async throws {
        let certificates = try TestCertificates.shared.get()
        let folder = try TemporaryFolder()
        let serve = [
            Binary.path, "serve", "--listen", "127.0.0.1:0", "--storage", "sqlite:\(folder.path)/m.db", "--cert",
            certificates.file("server.pem"), "--key", certificates.file("server.key"),
        ]
        let refused = try await Binary.run(["-c", "ulimit -n 2000; exec \"$0\" \"$@\""] + serve, path: "/bin/sh")
        #expect(refused.code == 5, "\(refused.errors)")
        for part in ["connections_max 10000", "2000", "connections_max to 720 (--connections-max)"] {
            #expect(refused.errors.contains(part), "\(refused.errors)")
        }
        // The soft limit alone is raised.
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/n.db", prefix: ["/bin/sh", "-c", "ulimit -S -n 64; exec \"$0\" \"$@\""])
        let limits = try String(contentsOfFile: "/proc/\(server.process.processIdentifier)/limits", encoding: .utf8)
        let files = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max open files") })
            .split(separator: " ")
        #expect(files[3] == files[4] && files[3] != "64", "\(files)")
        try await server.stop()
    }

    @Test func aKeyThatEveryoneMayReadIsRefused() async throws {
        let certificates = try TestCertificates.shared.get()
        let folder = try TemporaryFolder()
        let key = "\(folder.path)/open.key"
        try FileManager.default.copyItem(atPath: certificates.file("server.key"), toPath: key)
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: key)
        let commands = [
            ["serve", "--listen", "127.0.0.1:0", "--cert", certificates.file("server.pem"), "--key", key],
            [
                "head", "--tenant", UUID().uuidString, "--server", "127.0.0.1:1", "--cert",
                certificates.file("server.pem"), "--key", key, "--ca", certificates.file("ca.pem"),
            ],
            ["doctor", "--offline", "--cert", certificates.file("server.pem"), "--key", key],
        ]
        for command in commands {
            let refused = try await Binary.run(command)
            #expect(refused.code != 0, "\(command)")
            let said = refused.errors + refused.output
            #expect(said.contains("run chmod 600 \(key)"), "\(command): \(said)")
        }
    }

    /// Connections that a CA let in end when it is taken away.
    @Test func aReloadEndsConnectionsOfACAThatIsGone() async throws {
        let folder = try TemporaryFolder()
        let own = try TestCertificates.shared.get()
        for name in ["server.pem", "server.key", "ca.pem"] {
            try FileManager.default.copyItem(atPath: own.file(name), toPath: "\(folder.path)/\(name)")
        }
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/m.db", clientCA: true, extra: ["--log-level", "debug"],
            certificates: folder.path)
        // The tenant of the development client.
        let tenant = try #require(UUID(uuidString: "11111111-1111-4111-8111-111111111111"))
        let settings = try server.environment(tenant: tenant, client: "client")
        async let follower = Binary.run(["subscribe"], environment: settings)
        try await waitFor { server.logged.contains("connection opened") }
        // The same CAs again: nothing happens.
        server.signal(SIGHUP)
        try await waitFor { server.logged.contains("certificates were reloaded") }
        let other = try TemporaryFolder()
        let made = try await Binary.run([Repository.root + "/Certs/make-dev-certs.sh", other.path], path: "/bin/sh")
        #expect(made.code == 0, "\(made.errors)")
        #expect(!server.logged.contains("closing a connection"))
        try FileManager.default.removeItem(atPath: "\(folder.path)/ca.pem")
        try FileManager.default.copyItem(atPath: "\(other.path)/ca.pem", toPath: "\(folder.path)/ca.pem")
        server.signal(SIGHUP)
        try await waitFor { server.logged.contains("reason=CERTIFICATE_NOT_TRUSTED") }
        #expect(server.logged.contains("reason=CERTIFICATE_NOT_TRUSTED"), "\(server.logged)")
        // Nobody lets it in again.
        #expect(try await follower.code == 4)
        try await server.stop()
    }

    private func waitFor(_ condition: () -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !condition(), .now < deadline { try await Task.sleep(for: .milliseconds(20)) }
    }

    /// A client's name cannot begin a line of its own in the log.
    @Test func namesOfClientsAreLoggedInPrintableForm() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/m.db", extra: ["--log-level", "debug"])
        let certificates = try TestCertificates.shared.get()
        let configuration = ClientConfiguration(
            host: "127.0.0.1", port: server.port,
            tls: TLSClientConfiguration(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "evil\u{1B}[2J\ninfo martlet: forged\u{202E}")
        _ = try await MartletClient.withClient(configuration, logger: .silent) { try await $0.status() }
        try await waitFor { server.logged.contains("connection opened") }
        #expect(server.logged.contains(#"client=evil\u001b[2J\u000ainfo martlet: forged\u202e"#), "\(server.logged)")
        try await server.stop()
    }
}
