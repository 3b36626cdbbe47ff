import Foundation
import MartletTesting
import Testing

/// The settings of `serve`: flags, the environment, a file.
@Suite struct ConfigCommandTests {
    private static func config(
        _ arguments: [String], _ environment: [String: String] = [:]
    ) async throws -> Binary.Outcome {
        try await Binary.run(["config"] + arguments, environment: environment)
    }

    private func file(_ text: String, in folder: TemporaryFolder) throws -> String {
        let path = folder.path + "/martlet.yaml"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test func flagsComeBeforeTheEnvironmentBeforeTheFileBeforeTheDefault() async throws {
        let folder = try TemporaryFolder()
        let path = try file(
            """
            # What an operator writes.
            connections-max: 3
            connections-per-address-max: 3
            greeting-connections-max: 3
            cert: "a.pem"
            key: a.key
            allow-tls12: true
            """, in: folder)
        let environment = [
            "MARTLET_SERVE_CONFIG": path, "MARTLET_SERVE_CONNECTIONS_MAX": "2",
            "MARTLET_SERVE_CONNECTIONS_PER_ADDRESS_MAX": "2", "MARTLET_SERVE_KEEPALIVE": "",
            // That of the client.
            "MARTLET_CERT": "client.pem",
        ]
        let printed = try await Self.config(["print", "--connections-max", "1"], environment)
        #expect(printed.code == 0, "\(printed.errors)")
        for line in [
            "connections-max: 1  # --connections-max",
            "connections-per-address-max: 2  # MARTLET_SERVE_CONNECTIONS_PER_ADDRESS_MAX",
            "greeting-connections-max: 3  # \(path), line 4", "cert: a.pem  # \(path), line 5",
            "allow-tls12: true  # \(path), line 7", "keepalive: 30  # default", "listen: 127.0.0.1:7311  # default",
            "# client-ca:  # default", "storage: sqlite:data/martlet.db  # default",
        ] { #expect(printed.lines.contains { $0 == line }, "\(line): \(printed.output)") }

        // What it prints is a file with the same settings.
        let again = try await Self.config(["print", "--config", try file(printed.output, in: folder)])
        func values(_ outcome: Binary.Outcome) -> [Substring] {
            outcome.lines.filter { !$0.hasPrefix("#") }.compactMap { $0.split(separator: "  # ").first }
        }
        #expect(again.code == 0 && values(again) == values(printed), "\(again)")
    }

    @Test func everythingThatIsWrongIsSaidAtOnce() async throws {
        let folder = try TemporaryFolder()
        let path = try file(
            """
            conections-max: 3
            listen: 7311
            drain: soon
            colour: red
            payload-max: 8000000
            cert: [a.pem, b.pem]
            """, in: folder)
        let environment = ["MARTLET_SERVE_LOG_LEVEL": "loud", "MARTLET_SERVE_STORRAGE": "sqlite:x"]
        let refused = try await Self.config(["check", "--config", path, "--connection-age-max=-5"], environment)
        #expect(refused.code == 2 && refused.output.isEmpty, "\(refused)")
        for part in [
            #"there is no setting MARTLET_SERVE_STORRAGE; did you mean "MARTLET_SERVE_STORAGE"?"#,
            #"\#(path), line 1: there is no setting conections-max; did you mean "connections-max"?"#,
            "\(path), line 2: listen must be HOST:PORT, as in 127.0.0.1:7311 or [::1]:7311, not '7311'",
            "\(path), line 3: drain must be a number from 0 to 86400, not 'soon'",
            "\(path), line 4: there is no setting colour; known: allow-tls12, ",
            "\(path), line 5: payload-max must be a number from 1 to 7340032, not '8000000'",
            "\(path), line 6: a setting is one value",
            "MARTLET_SERVE_LOG_LEVEL must be trace, debug, info, notice, warning or error, not 'loud'",
            "--connection-age-max must be a number from 0 to 31536000, not '-5'",
            "there is no cert: give --cert FILE, set MARTLET_SERVE_CERT, or write cert: FILE",
            "there is no key: ",
        ] { #expect(refused.errors.contains(part), "\(part): \(refused.errors)") }
        // The server says the same, and does not start.
        let serve = try await Binary.run(["serve", "--config", path], environment: environment)
        #expect(serve.code == 2 && serve.errors.contains("conections-max") && serve.errors.contains("colour"))
        for (text, words) in [
            ("listen: a\nlisten: b", "twice"), ("- listen", "not a list of settings"), ("listen: [", "not YAML"),
        ] {
            let wrong = try await Self.config(["check", "--config", try file(text, in: folder)])
            #expect(wrong.code == 2 && wrong.errors.contains(words), "\(text): \(wrong.errors)")
        }
        let missing = try await Self.config(["check", "--config", folder.path + "/none"])
        #expect(missing.code == 2 && missing.errors.contains("cannot read \(folder.path)/none"), "\(missing)")
    }

    private static let urls: [(url: String, shown: String)] = [
        ("postgres://martlet:s3cret@db:5432/martlet", "postgres://martlet:***@db:5432/martlet"),
        ("postgres://martlet:s3cret@[::1]:5432/martlet", "postgres://martlet:***@[::1]:5432/martlet"),
        ("postgres://martlet@db/martlet?sslmode=require", "postgres://martlet@db/martlet?sslmode=require"),
        ("postgres://martlet@db/martlet?password=s3cret&host=db", "postgres://martlet@db/martlet?password=***&host=db"),
        ("postgres://martlet@db/martlet?pasword=s3cret", "postgres://martlet@db/martlet?***"),
        ("postgres://martlet@db/martlet?s3cret", "postgres://martlet@db/martlet?***"),
        ("postgres://martlet@db/martlet?sslpassword=s3cret", "postgres://martlet@db/martlet?sslpassword=***"),
        ("postgres://martlet:s3cret/s3cret@db/martlet", "postgres://martlet:***@db/martlet"),
        ("postgres://martlet:s3cret@s3cret@db/martlet", "postgres://martlet:***@db/martlet"),
        ("postgres://martlet:a?s3cret=1@db/martlet", "postgres://martlet:***@db/martlet"),
        ("postgres://martlet:s3cret", "postgres://martlet:***"),
        ("postgres://db:5432/martlet", "postgres://db:5432/martlet"),
        ("postgres://[::1]:5432/martlet", "postgres://[::1]:5432/martlet"),
    ]

    @Test(arguments: urls) func noPasswordIsShown(_ url: String, _ shown: String) async throws {
        let printed = try await Self.config(["print", "--cert", "c", "--key", "k", "--storage", url])
        #expect(!printed.output.contains("s3cret") && !printed.errors.contains("s3cret"), "\(printed)")
        let line = try #require(printed.lines.first { $0.hasPrefix("storage: ") })
        #expect(line.contains(shown), "\(line)")
        // One that is no storage at all.
        let wrong = try await Self.config(["print", "--storage", "my" + url], ["MARTLET_SERVE_LISTEN": url])
        #expect(wrong.code == 2 && !wrong.errors.contains("s3cret"), "\(wrong.errors)")
    }

    @Test(arguments: ["postgresql:/u:s3cret@db/x", "u:s3cret", "//u:s3cret@db", "s3cret"])
    func noValueOfStorageIsRepeated(_ storage: String) async throws {
        for settings in [["MARTLET_SERVE_STORAGE": storage], ["MARTLET_SERVE_LISTEN": "u:s3cret@db"]] {
            let refused = try await Self.config(["print"], settings)
            #expect(refused.code == 2 && !"\(refused)".contains("s3cret"), "\(refused)")
        }
    }

    @Test func aPasswordInAFileExcludesOneInTheURL() async throws {
        for storage in ["postgres://u:s3cret@db/x", "postgres://u@db/x?password=s3cret", "sqlite:x"] {
            let refused = try await Self.config([
                "check", "--cert", "c", "--key", "k", "--storage", storage, "--storage-password-file", "file",
            ])
            #expect(refused.code == 2 && refused.errors.contains("--storage-password-file "), "\(refused)")
            #expect(!refused.errors.contains("s3cret"))
        }
    }

    @Test func checkLooksAtTheCertificates() async throws {
        let own = try TestCertificates.shared.get()
        let good = ["check", "--cert", own.file("server.pem"), "--key", own.file("server.key")]
        let passed = try await Self.config(good)
        #expect(passed.code == 0 && passed.output.hasPrefix("ok: 2 of "), "\(passed)")
        let wrong = try await Self.config(["check", "--cert", own.file("server.pem"), "--key", own.file("client.key")])
        #expect(wrong.code == 2, "\(wrong)")
        let open = try await Self.config(good + ["--listen", "0.0.0.0:0"])
        #expect(open.code == 2 && open.errors.contains("--client-ca"), "\(open)")
    }

    @Test func aServerStartsWithAFileAlone() async throws {
        let own = try TestCertificates.shared.get()
        let folder = try TemporaryFolder()
        let path = try file(
            """
            listen: 127.0.0.1:0
            storage: sqlite:\(folder.path)/m.db
            cert: \(own.file("server.pem"))
            key: \(own.file("server.key"))
            payload-max: 1000
            """, in: folder)
        let server = try await ServerProcess(arguments: ["--config", path])
        let settings = try server.environment(tenant: UUID())
        let line = #"{"type":"E","payload":"\#(String(repeating: "x", count: 2_000))"}"#
        let refused = try await Binary.run(
            ["append", "--type", "t", "--id", UUID().uuidString], input: line, environment: settings)
        #expect(refused.code == 5 && refused.errors.contains("1000"), "\(refused)")
        #expect(try await server.stop() == 0, "\(server.logged)")
    }
}
