import Foundation
import MartletTesting
import Testing

/// What a user reads when something does not work: what, with its value, and what to do.
@Suite struct ErrorTextTests {
    private static let tenant = ["MARTLET_TENANT": "11111111-1111-4111-8111-111111111111"]

    private static func head(_ settings: [String: String]) async throws -> Binary.Outcome {
        try await Binary.run(["head"], environment: tenant.merging(settings) { $1 })
    }

    private static func expect(
        _ outcome: Binary.Outcome, code: Int32, _ words: [String], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(outcome.code == code, "\(outcome)", sourceLocation: sourceLocation)
        for word in words {
            #expect(outcome.errors.contains(word), "\(word): \(outcome.errors)", sourceLocation: sourceLocation)
        }
        // What libraries say for themselves.
        for raw in ["errno", "error set", "NIO", "Optional(", "Error Domain"] {
            #expect(!outcome.errors.contains(raw), "\(outcome.errors)", sourceLocation: sourceLocation)
        }
    }

    @Test func aServerThatCannotBeReached() async throws {
        let certificates = try TestCertificates.shared.get()
        let ca = certificates.file("ca.pem")
        Self.expect(
            try await Self.head(["MARTLET_SERVER": "127.0.0.1:1", "MARTLET_CA": ca]), code: 4,
            ["cannot connect to 127.0.0.1:1: Connection refused; check the address and that the server is running"])
        Self.expect(
            try await Self.head(["MARTLET_SERVER": "nowhere.invalid:7311", "MARTLET_CA": ca]), code: 4,
            ["cannot connect to nowhere.invalid:7311: the name nowhere.invalid has no address"])
    }

    @Test func aCertificateThatIsNotAccepted() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let other = try TemporaryFolder()
        let made = try await Binary.run([Repository.root + "/Certs/make-dev-certs.sh", other.path], path: "/bin/sh")
        #expect(made.code == 0, "\(made.errors)")
        for settings in [[:], ["MARTLET_CA": other.path + "/ca.pem"]] {
            let place = ["MARTLET_SERVER": "127.0.0.1:\(server.port)"]
            Self.expect(
                try await Self.head(place.merging(settings) { $1 }), code: 4,
                ["none of the CAs that are trusted here", "--ca or MARTLET_CA", "127.0.0.1:\(server.port)"])
        }
        #expect(try await server.stop() == 0)
        // An address of this machine that the certificate does not name.
        let own = try TestCertificates.shared.get()
        let elsewhere = try await ServerProcess(arguments: [
            "--listen", "127.0.0.2:0", "--storage", "sqlite:\(folder.path)/m.db", "--cert", own.file("server.pem"),
            "--key",
            own.file("server.key"),
        ])
        Self.expect(
            try await Self.head(["MARTLET_SERVER": "127.0.0.2:\(elsewhere.port)", "MARTLET_CA": own.file("ca.pem")]),
            code: 4, ["the server's certificate is for localhost, ", "127.0.0.1", "127.0.0.2:\(elsewhere.port)"])
        #expect(try await elsewhere.stop() == 0)
    }

    @Test func aPlaceToBeginThatIsNone() async throws {
        Self.expect(
            try await Binary.run(["subscribe", "--from", "foo"], environment: Self.tenant), code: 2,
            ["--from 'foo' is not start, head, a position, or a time in RFC 3339, as in 2026-01-31T12:00:00Z, a day"])
    }

    /// Nothing of it is changed, not even who may read it.
    @Test func aFileOfAnotherProgram() async throws {
        let certificates = try TestCertificates.shared.get()
        let folder = try TemporaryFolder()
        let file = folder.path + "/notes.txt"
        for text in ["x", "Dear diary, today I wrote no SQLite database.\n"] {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: file)
            let refused = try await Binary.run([
                "serve", "--listen", "127.0.0.1:0", "--storage", "sqlite:\(file)", "--cert",
                certificates.file("server.pem"), "--key", certificates.file("server.key"),
            ])
            Self.expect(refused, code: 5, ["\(file) is not a database", "give another --storage"])
            #expect(!refused.errors.contains("CORRUPTED"))
            #expect(try String(contentsOfFile: file, encoding: .utf8) == text)
            let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
            #expect(mode == 0o644)
        }
    }

    @Test func aDatabaseThatDoesNotAnswer() async throws {
        let certificates = try TestCertificates.shared.get()
        let refused = try await Binary.run([
            "serve", "--listen", "127.0.0.1:0", "--storage", "postgres://martlet@127.0.0.1:1/x", "--cert",
            certificates.file("server.pem"), "--key", certificates.file("server.key"),
        ])
        Self.expect(refused, code: 4, [#""127.0.0.1", port 1 failed: Connection refused"#, "check --storage"])
        #expect(!refused.errors.contains("retry"))
    }

    private static let misspellings: [(line: [String], words: [String])] = [
        (["lod"], ["there is no command 'martlet lod'", #"did you mean "load"?"#]),
        (["consumers", "lst"], ["there is no command 'martlet consumers lst'", #"did you mean "list"?"#]),
        (["frobnicate"], ["there is no command 'martlet frobnicate'", "known: append, bench"]),
        (["load", "--tpye", "order"], ["there is no flag --tpye of 'martlet load'", #"did you mean "--type"?"#]),
        (["load", "--type", "order", "--as-off=now"], [#"did you mean "--as-of"?"#]),
        (["serve", "--conections-max", "3"], [#"did you mean "--connections-max"?"#]),
        (["consumers", "put", "--slts", "3", "x"], [#"did you mean "--slots"?"#]),
        (["load", "--zzzzzzzz"], ["there is no flag --zzzzzzzz of 'martlet load' `martlet load --help` lists all"]),
    ]

    @Test(arguments: misspellings)
    func whatWasPerhapsMeant(_ line: [String], _ words: [String]) async throws {
        let refused = try await Binary.run(line, environment: Self.tenant)
        Self.expect(refused, code: 2, words)
        #expect(refused.errors.split(separator: "\n").count == 1, "\(refused.errors)")
    }

    /// What is missing is still said as before.
    @Test func whatIsMissing() async throws {
        Self.expect(try await Binary.run(["load"], environment: Self.tenant), code: 2, ["'--type <type>'"])
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func completionIsAScriptOfTheShell(_ shell: String) async throws {
        let script = try await Binary.run(["completion", shell])
        #expect(script.code == 0 && script.output.contains("subscribe") && script.output.contains("connections-max"))
        guard shell == "bash" else { return }
        let folder = try TemporaryFolder()
        let file = folder.path + "/completion"
        try script.output.write(toFile: file, atomically: true, encoding: .utf8)
        let read = try await Binary.run(["-n", file], path: "/bin/bash")
        #expect(read.code == 0, "\(read.errors)")
        Self.expect(try await Binary.run(["completion", "tcsh"]), code: 2, ["tcsh", "bash"])
    }
}
