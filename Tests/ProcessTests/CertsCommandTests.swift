import Foundation
import MartletTesting
import Testing

/// Certificates for a first start.
@Suite struct CertsCommandTests {
    private static func make(_ folder: TemporaryFolder, _ more: [String] = []) async throws -> Binary.Outcome {
        try await Binary.run(["certs", "init", "--out", folder.path + "/c"] + more)
    }

    private static func openssl(_ arguments: [String]) async throws -> Binary.Outcome {
        try await Binary.run(["openssl"] + arguments, path: "/usr/bin/env")
    }

    /// The variables that were printed.
    private static func variables(_ made: Binary.Outcome) -> [String: String] {
        made.lines.reduce(into: [:]) { found, line in
            if let (_, name, value) = line.wholeMatch(of: #/export ([A-Z_]+)='(.*)'/#)?.output {
                found[String(name)] = String(value)
            }
        }
    }

    @Test func theyLeadToTheFirstEvent() async throws {
        let folder = try TemporaryFolder()
        let made = try await Self.make(folder)
        #expect(made.code == 0, "\(made.errors)")
        var settings = Self.variables(made)
        #expect(settings.keys.sorted() == ["MARTLET_CA", "MARTLET_CERT", "MARTLET_KEY", "MARTLET_TENANT"], "\(made)")
        let server = try await ServerProcess(
            storage: "sqlite:\(folder.path)/m.db", clientCA: true, certificates: folder.path + "/c")
        settings["MARTLET_SERVER"] = "127.0.0.1:\(server.port)"
        let append = ["append", "--type", "t", "--id", UUID().uuidString]
        let event = #"{"type":"E","payload":1}"#
        let stored = try await Binary.run(append, input: event, environment: settings)
        #expect(stored.code == 0, "\(stored.errors)")
        let doctor = try await Binary.run(
            ["doctor", "--server-cert", folder.path + "/c/server.pem", "--server-key", folder.path + "/c/server.key"],
            environment: settings)
        #expect(doctor.code == 0 && !doctor.output.contains("warn"), "\(doctor.output)")
        // The certificate is for its tenant alone.
        let foreign = settings.merging(["MARTLET_TENANT": UUID().uuidString]) { $1 }
        #expect(try await Binary.run(append, input: event, environment: foreign).code == 5)
        #expect(try await server.stop() == 0)
    }

    @Test func theyAreWhatTheySay() async throws {
        let folder = try TemporaryFolder()
        let (one, two) = (UUID().uuidString.lowercased(), UUID().uuidString.lowercased())
        let made = try await Self.make(
            folder,
            [
                "--host", "events.example", "--host", "192.0.2.7", "--host", "2001:db8::7", "--tenant", one, "--tenant",
                two,
                "--client", "billing", "--days", "30",
            ])
        #expect(made.code == 0 && Self.variables(made)["MARTLET_TENANT"] == one, "\(made)")
        let path = folder.path + "/c"
        for name in ["ca", "server", "billing"] {
            let verified = try await Self.openssl([
                "verify", "-x509_strict", "-CAfile", path + "/ca.pem", "\(path)/\(name).pem",
            ])
            #expect(verified.code == 0, "\(name): \(verified)")
            let mode =
                try FileManager.default.attributesOfItem(atPath: "\(path)/\(name).key")[.posixPermissions] as? Int
            #expect(mode == 0o600, "\(name)")
        }
        let text = ["x509", "-noout", "-text", "-in"]
        let server = try await Self.openssl(text + [path + "/server.pem"]).output
        for part in [
            "DNS:events.example", "IP Address:192.0.2.7", "IP Address:2001:DB8:0:0:0:0:0:7",
            "TLS Web Server Authentication",
            "CA:FALSE", "NIST CURVE: P-256", "ecdsa-with-SHA256",
        ] { #expect(server.contains(part), "\(part): \(server)") }
        let client = try await Self.openssl(text + [path + "/billing.pem"]).output
        for part in ["/tenant/\(one)", "/tenant/\(two)", "TLS Web Client Authentication"] {
            #expect(client.contains(part), "\(part): \(client)")
        }
        for (days, code) in [(29, 0), (31, 1)] as [(Int, Int32)] {
            let seconds = "\(days * 86_400)"
            let end = try await Self.openssl(["x509", "-noout", "-checkend", seconds, "-in", path + "/server.pem"])
            #expect(end.code == code, "\(days): \(end)")
        }
    }

    @Test func whatIsThereStays() async throws {
        let folder = try TemporaryFolder()
        #expect(try await Self.make(folder).code == 0)
        func contents() throws -> [String: Data] {
            try FileManager.default.contentsOfDirectory(atPath: folder.path + "/c").reduce(into: [:]) {
                $0[$1] = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/c/" + $1))
            }
        }
        let before = try contents()
        #expect(before.count == 6)
        #expect(try await Self.make(folder).code == 0)
        #expect(try contents() == before)
        // Another client of the same CA.
        #expect(try await Self.make(folder, ["--client", "other"]).code == 0)
        #expect(try contents().filter { !$0.key.hasPrefix("other") } == before)
        let path = folder.path + "/c/"
        let verified = try await Self.openssl(["verify", "-CAfile", path + "ca.pem", path + "other.pem"])
        #expect(verified.code == 0, "\(verified)")
        // A certificate without its key may be needed.
        try FileManager.default.removeItem(atPath: path + "server.key")
        let refused = try await Self.make(folder)
        #expect(refused.code == 1 && refused.errors.contains("server.pem, and not "), "\(refused)")
        #expect(try contents()["server.pem"] == before["server.pem"])
    }

    @Test func whatIsWrongIsNamed() async throws {
        let folder = try TemporaryFolder()
        for (more, words) in [
            (["--host", "a b"], "--host 'a b'"), (["--host", "a,IP:1.2.3.4"], "--host"),
            (["--tenant", "x"], "--tenant 'x'"),
            (["--client", "ca"], "--client 'ca'"), (["--client", "../x"], "--client"), (["--days", "0"], "--days 0"),
        ] {
            let refused = try await Self.make(folder, more)
            #expect(refused.code == 2 && refused.errors.contains(words), "\(more): \(refused)")
        }
        #expect(!FileManager.default.fileExists(atPath: folder.path + "/c"))
    }
}
