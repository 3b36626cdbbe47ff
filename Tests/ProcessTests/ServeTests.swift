import Foundation
import MartletClient
import MartletModel
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// The server process: how it starts, reloads and ends.
@Suite struct ServeTests {
    @Test func refusesToListenBeyondLoopbackWithoutClientCertificates() async throws {
        let certificates = try TestCertificates.shared.get()
        let refused = try await Binary.run([
            "serve", "--listen", "0.0.0.0:0", "--cert", certificates.file("server.pem"), "--key",
            certificates.file("server.key"),
        ])
        #expect(refused.code == 2)
        #expect(refused.errors.contains("--client-ca") && refused.errors.contains("--insecure-no-auth"))
    }

    @Test func badSettingsAreToldInALine() async throws {
        let certificates = try TestCertificates.shared.get()
        let serve = ["serve", "--listen", "127.0.0.1:0", "--cert", certificates.file("server.pem"), "--key"]
        let wrongKey = try await Binary.run(serve + [certificates.file("client.key")])
        #expect(wrongKey.code == 2, "\(wrongKey.errors)")
        let wrongStorage = try await Binary.run(
            serve + [certificates.file("server.key"), "--storage", "mysql://u:secret@h"])
        #expect(wrongStorage.code == 2 && !wrongStorage.errors.contains("secret"), "\(wrongStorage.errors)")
        let noDatabase = try await Binary.run(
            serve + [certificates.file("server.key"), "--storage", "postgres://u:secret@127.0.0.1:1/x"])
        #expect(noDatabase.code == 4 && !noDatabase.errors.contains("secret"), "\(noDatabase.errors)")
    }

    @Test func oneServerUsesAFile() async throws {
        let folder = try TemporaryFolder()
        let first = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let failure = await #expect(throws: ProcessFailure.self) {
            try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        }
        #expect(failure?.description.contains("only one may") == true, "\(String(describing: failure))")
        try await first.stop(SIGKILL)
        // The lock went with the process.
        let next = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        try await next.stop()
    }

    /// Whoever cannot listen has opened no storage.
    @Test func aPortThatIsInUseIsNoticedFirst() async throws {
        let certificates = try TestCertificates.shared.get()
        let folder = try TemporaryFolder()
        let first = try await ServerProcess(storage: "sqlite:\(folder.path)/first.db")
        func serve(_ listen: String, _ more: [String] = []) async throws -> Binary.Outcome {
            try await Binary.run(
                [
                    "serve", "--listen", listen, "--storage", "sqlite:\(folder.path)/second.db", "--cert",
                    certificates.file("server.pem"), "--key", certificates.file("server.key"),
                ] + more)
        }
        let second = try await serve("127.0.0.1:\(first.port)")
        #expect(second.code == 1, "\(second)")
        for part in ["--listen 127.0.0.1:\(first.port) is in use by another process", "sport = :\(first.port)"] {
            #expect(second.errors.contains(part) && !second.errors.contains("errno"), "\(second.errors)")
        }
        // An address of nobody (RFC 5737).
        let foreign = try await serve("192.0.2.1:7311", ["--client-ca", certificates.file("ca.pem")])
        #expect(foreign.code == 1, "\(foreign)")
        #expect(foreign.errors.contains("192.0.2.1:7311 is no address of this machine"), "\(foreign)")
        #expect(!FileManager.default.fileExists(atPath: folder.path + "/second.db"))
        #expect(try await first.stop() == 0)
        // The port is free again at once.
        let next = try await ServerProcess(storage: "sqlite:\(folder.path)/second.db", port: first.port)
        #expect(try await next.stop() == 0)
    }

    @Test func ipv6AddressesHaveBrackets() async throws {
        let certificates = try TestCertificates.shared.get()
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(arguments: [
            "--listen", "[::1]:0", "--storage", "sqlite:\(folder.path)/m.db", "--cert", certificates.file("server.pem"),
            "--key", certificates.file("server.key"),
        ])
        #expect(server.logged.contains("[::1]:\(server.port)"), "\(server.logged)")
        #expect(try await server.stop() == 0)
    }

    @Test func ofServersThatStartAtOnceOneListens() async throws {
        for _ in 0..<3 {
            let folder = try TemporaryFolder()
            let storage = "sqlite:\(folder.path)/m.db"
            let started = await withTaskGroup(of: Result<ServerProcess, any Error>.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        do { return .success(try await ServerProcess(storage: storage)) } catch {
                            return .failure(error)
                        }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            var servers: [ServerProcess] = []
            for result in started {
                switch result {
                case .success(let server): servers.append(server)
                case .failure(let error): #expect("\(error)".contains("only one may"), "\(error)")
                }
            }
            #expect(servers.count == 1)
            for server in servers { #expect(try await server.stop() == 0) }
        }
    }

    private static func wait(_ what: String, until condition: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(20)
        while try await !condition() {
            try #require(ContinuousClock.now < end, "not within 20 s: \(what)")
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    private static func hasSubscriber(_ environment: [String: String]) async throws -> Bool {
        try await Binary.run(["status"], environment: environment).output.contains(#""subscriptions":1"#)
    }

    @Test(arguments: [SIGTERM, SIGINT])
    func drainsOnTheFirstSignal(_ signal: Int32) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let settings = try server.environment(tenant: UUID())
        // A subscriber whose connection stays open, and comes back when the server does.
        async let follower = Binary.run(["subscribe", "--count", "1"], environment: settings)
        try await Self.wait("a subscriber") { try await Self.hasSubscriber(settings) }
        #expect(try await server.stop(signal, within: 8) == 0, "\(server.logged)")
        #expect(server.logged.contains("draining"))
        let again = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db", port: server.port)
        let appended = try await Binary.run(
            ["append", "--type", "t", "--id", UUID().uuidString], input: #"{"type":"E","payload":1}"#,
            environment: settings)
        #expect(appended.code == 0, "\(appended.errors)")
        #expect(try await follower.lines.count == 1)
        try await again.stop()
    }

    @Test func theSecondSignalEndsAtOnce() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let certificates = try TestCertificates.shared.get()
        let configuration = ClientConfiguration(
            host: "127.0.0.1", port: server.port,
            tls: TLSClientConfiguration(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"), clientName: "t")
        let name = AggregateName(type: AggregateType("t"), id: UUID())
        let kind = EventType("E")
        let tenant = TenantID(UUID())
        try await MartletClient.withClient(configuration, logger: .silent) { client in
            let payload = ByteBuffer(string: "\"" + String(repeating: "x", count: 900_000) + "\"")
            for _ in 0..<10 {
                let event = NewEvent(type: kind, payload: payload)
                _ = try await client.append([event], to: name, expecting: .any, tenant: tenant)
            }
            // A load that waits for credit keeps the drain from ending.
            var events = try await client.load(LoadRequest(tenant: tenant, aggregate: name)).makeAsyncIterator()
            _ = try await events.next()
            server.signal(SIGTERM)
            try await Self.wait("the drain") { server.logged.contains("draining") }
            #expect(server.process.isRunning, "the drain waits for the load")
            #expect(try await server.stop(SIGTERM, within: 2) == 1)
        }
    }

    @Test func reloadsCertificatesWithoutDroppingConnections() async throws {
        let folder = try TemporaryFolder()
        let own = try TestCertificates.shared.get()
        for name in ["server.pem", "server.key", "ca.pem"] {
            try FileManager.default.copyItem(atPath: own.file(name), toPath: "\(folder.path)/\(name)")
        }
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db", certificates: folder.path)
        let settings = try server.environment(tenant: UUID())
        async let follower = Binary.run(["subscribe", "--count", "1"], environment: settings)
        try await Self.wait("a subscriber") { try await Self.hasSubscriber(settings) }
        // A file that is no certificate: what was in force stays in force.
        try "nonsense".write(toFile: "\(folder.path)/server.pem", atomically: true, encoding: .utf8)
        server.signal(SIGHUP)
        try await Self.wait("the refusal") { server.logged.contains("certificates could not be reloaded") }
        #expect(try await Binary.run(["head"], environment: settings).code == 0)
        // Another CA's certificate: new connections see it, the old one goes on.
        let other = try TemporaryFolder()
        let made = try await Binary.run([Repository.root + "/Certs/make-dev-certs.sh", other.path], path: "/bin/sh")
        #expect(made.code == 0, "\(made.errors)")
        for name in ["server.pem", "server.key"] {
            try FileManager.default.removeItem(atPath: "\(folder.path)/\(name)")
            try FileManager.default.copyItem(atPath: "\(other.path)/\(name)", toPath: "\(folder.path)/\(name)")
        }
        server.signal(SIGHUP)
        try await Self.wait("the reload") { server.logged.contains("certificates were reloaded") }
        #expect(
            try await Binary.run(["head"], environment: settings).code == 4,
            "the old CA did not sign the new certificate")
        var trusting = settings
        trusting["MARTLET_CA"] = other.path + "/ca.pem"
        let appended = try await Binary.run(
            ["append", "--type", "t", "--id", UUID().uuidString], input: #"{"type":"E","payload":1}"#,
            environment: trusting)
        #expect(appended.code == 0, "\(appended.errors)")
        #expect(try await follower.lines.count == 1)
        try await server.stop()
    }
}
