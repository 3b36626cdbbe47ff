import Foundation
import MartletTesting
import Testing

/// The commands, as a user types them.
@Suite struct CommandTests {
    private let order = ["--type", "order", "--id", "11111111-1111-4111-8111-111111111111"]

    private func withServer(
        _ body: ([String: String], ServerProcess) async throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/data/m.db")
        try await body(try server.environment(tenant: UUID()), server)
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    @Test func appendLoadReadSubscribeHeadAndStatus() async throws {
        try await withServer { settings, _ in
            func martlet(_ arguments: [String], _ input: String = "") async throws -> Binary.Outcome {
                try await Binary.run(arguments, input: input, environment: settings)
            }
            #expect(try await martlet(["head"]).output == #"{"position":0,"recorded_at":null}"# + "\n")
            let lines =
                #"{"type":"Placed","payload":{"n" : 1.50}}"# + "\n\n"
                + #"{"type":"Paid","payload":[],"metadata":{"user_id":"u"}}"#
            let appended = try await martlet(["append"] + order + ["--expect", "none"], lines)
            #expect(
                appended.code == 0
                    && appended.output.contains(#""first_version":1,"last_version":2,"first_position":1"#))
            let loaded = try await martlet(["load"] + order)
            #expect(loaded.lines.count == 2 && loaded.lines[0].contains(#""payload":{"n" : 1.50}"#))
            #expect(try await martlet(["load"] + order + ["--backward", "--max", "1"]).output.contains("Paid"))
            #expect(try await martlet(["load"] + order + ["--to-version", "1"]).lines.count == 1)
            #expect(try await martlet(["load"] + order + ["--as-of-position", "1"]).lines.count == 1)
            #expect(try await martlet(["load"] + order + ["--as-of", "2001-01-01T00:00:00Z"]).lines.isEmpty)
            for (time, count) in [
                ("now", 2), ("2001-01-01", 0), ("1h30m ago", 0), ("2 w ago", 0),
            ] {
                let lines = try await martlet(["load"] + order + ["--as-of", time]).lines
                #expect(lines.count == count, "\(time)")
            }
            for time in ["yesterday", "1 ago", "h ago", "1y ago", "9999999999999w ago", "2026-02-30", "1h"] {
                let refused = try await martlet(["load"] + order + ["--as-of", time])
                #expect(
                    refused.code == 2 && refused.errors.contains("--as-of '\(time)' is not a time in RFC 3339, as in"),
                    "\(refused)"
                )
            }
            #expect(try await martlet(["read", "--event-type", "Paid"]).lines.count == 1)
            #expect(try await martlet(["read", "--after", "1", "--to", "2"]).lines.count == 1)
            let followed = try await martlet(["subscribe", "--count", "2"])
            #expect(followed.code == 0 && followed.output == loaded.output)
            #expect(try await martlet(["status"]).output.contains(#""storage":"sqlite","storage_ready":true"#))
        }
    }

    @Test func aKeyNamesAnAggregate() async throws {
        try await withServer { settings, _ in
            func martlet(_ arguments: [String], _ input: String = "") async throws -> Binary.Outcome {
                try await Binary.run(arguments, input: input, environment: settings)
            }
            let (keyed, event) = (
                ["--type", "order", "--aggregate-key", "größe/17"], #"{"type":"Placed","payload":1}"#
            )
            #expect(try await martlet(["append"] + keyed + ["--expect", "none"], event).code == 0)
            let loaded = try await martlet(["load"] + keyed)
            #expect(loaded.lines.count == 1 && loaded.output.contains(#""tags":{"aggregate_key":"größe/17"}"#))
            #expect(try await martlet(["diff", "--from", "0", "--to", "1"] + keyed).code == 0)
            #expect(try await martlet(["snapshots", "list"] + keyed).code == 0)
            for wrong in [
                [], ["--id", UUID().uuidString, "--aggregate-key", "a"], ["--aggregate-key", ""],
                ["--aggregate-key", "a\nb"],
            ] {
                let refused = try await martlet(["load", "--type", "order"] + wrong)
                #expect(refused.code == 2 && refused.errors.contains("--aggregate-key"), "\(wrong): \(refused.errors)")
            }
        }
    }

    @Test func exitCodesSayWhatHappened() async throws {
        try await withServer { settings, _ in
            func martlet(
                _ arguments: [String], _ input: String = "", _ more: [String: String] = [:]
            ) async throws -> Binary.Outcome {
                try await Binary.run(arguments, input: input, environment: settings.merging(more) { $1 })
            }
            let event = #"{"type":"Placed","payload":1}"#
            #expect(try await martlet(["append"] + order + ["--expect", "none"], event).code == 0)
            let conflict = try await martlet(["append"] + order + ["--expect", "none"], event)
            #expect(conflict.code == 3 && conflict.errors.contains("is at version 1, expected none"))
            #expect(conflict.errors.split(separator: "\n").count == 1, "one readable line: \(conflict.errors)")
            #expect(try await martlet(["append"] + order, #"{"type":"Placed","payload":{}"#).code == 2)
            #expect(try await martlet(["append"] + order, #"{"type":"","payload":{}}"#).code == 2)
            #expect(try await martlet(["append"] + order + ["--expect", "maybe"], event).code == 2)
            #expect(try await martlet(["append", "--type", "order"], event).code == 2)
            #expect(try await martlet(["frobnicate"]).code == 2)
            #expect(try await martlet(["head"], "", ["MARTLET_TENANT": ""]).code == 2)
            #expect(try await martlet(["load"] + order + ["--as-of-position", "99"]).code == 5)
            let gone = try await martlet(["head"], "", ["MARTLET_SERVER": "127.0.0.1:1"])
            #expect(gone.code == 4 && gone.errors.contains("127.0.0.1:1"), "\(gone.errors)")
            #expect(try await martlet(["--help"]).code == 0)
            #expect(try await martlet(["--version"]).output == "0.1.0\n")
        }
    }

    @Test func importThenExportGivesTheSameEventsInTheSameOrder() async throws {
        let folder = try TemporaryFolder()
        var random = SeededGenerator.fromEnvironment()
        let names = (0..<30).map { _ in UUID().uuidString.lowercased() }
        let lines = (1...2_000).map { number -> String in
            let payload =
                Bool.random(using: &random)
                ? #""payload":{"n": \#(number).00}"#
                : #""payload_base64":"\#(Data("\n{}".utf8).base64EncodedString())""#
            return #"{"aggregate_type":"t","aggregate_id":"\#(names.randomElement(using: &random) ?? names[0])","#
                + #""id":"\#(UUID().uuidString.lowercased())","type":"E\#(number % 7)","#
                + #""schema_version":\#(1 + number % 3),"metadata":{"tags":{"k":"v\#(number)"}},\#(payload)}"#
        }
        let file = folder.path + "/events.jsonl"
        try await withServer { settings, _ in
            // The first part only, as after an interruption; then all of it.
            try lines.prefix(700).joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
            let first = try await Binary.run(["import", file], environment: settings)
            #expect(first.output == #"{"imported":700,"already_there":0,"head":700}"# + "\n", "\(first.errors)")
            try lines.joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
            let second = try await Binary.run(["import", file], environment: settings)
            #expect(second.output == #"{"imported":1300,"already_there":700,"head":2000}"# + "\n", "\(second.errors)")
            let exported = try await Binary.run(["export"], environment: settings)
            // What export adds stands before and between; what was imported is in the line as it was.
            let stripped = exported.lines.dropLast().map { line in
                String(line)
                    .replacing(#/"position":\d+,"recorded_at":"[^"]+",/#, with: "")
                    .replacing(#/"version":\d+,/#, with: "")
            }
            #expect(stripped == lines, "seed \(random.seed)")
            // An export is an import.
            var other = settings
            other["MARTLET_TENANT"] = UUID().uuidString
            try exported.output.write(toFile: file, atomically: true, encoding: .utf8)
            #expect(try await Binary.run(["import", file], environment: other).code == 0)
            let again = try await Binary.run(["export"], environment: other)
            #expect(again.lines.count == 2_001)
            func comparable(_ export: Binary.Outcome) -> [String] {
                export.lines.dropLast().map { String($0).replacing(#/"recorded_at":"[^"]+"/#, with: "") }
            }
            #expect(comparable(again) == comparable(exported))
            // Another file's events are refused.
            try lines.reversed().joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
            #expect(try await Binary.run(["import", file], environment: settings).code == 1)
        }
    }

    @Test func doctorSaysWhatIsWrong() async throws {
        try await withServer { settings, _ in
            let certificates = try TestCertificates.shared.get()
            let well = try await Binary.run(
                [
                    "doctor", "--server-cert", certificates.file("server.pem"), "--server-key",
                    certificates.file("server.key"),
                ],
                environment: settings)
            #expect(well.code == 0 && !well.output.contains("FAIL"), "\(well.output)\(well.errors)")
            let ill = try await Binary.run(
                [
                    "doctor", "--server-cert", certificates.file("server.pem"), "--server-key",
                    certificates.file("client.key"),
                    "--storage", "sqlite:/proc/version", "--server", "127.0.0.1:1",
                ], environment: settings)
            #expect(ill.code == 1)
            #expect(ill.output.contains("the private key does not match it"), "\(ill.output)")
            #expect(
                ill.output.contains("FAIL  storage sqlite") && ill.output.contains("FAIL  server 127.0.0.1:1"),
                "\(ill.output)")
        }
    }

    @Test func clientCertificatesNameTheTenants() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db", clientCA: true)
        let named = try #require(UUID(uuidString: "11111111-1111-4111-8111-111111111111"))
        #expect(
            try await Binary.run(["head"], environment: server.environment(tenant: named, client: "client")).code == 0)
        let other = try await Binary.run(["head"], environment: server.environment(tenant: UUID(), client: "client"))
        #expect(other.code == 5 && other.errors.contains("TENANT_NOT_ALLOWED"), "\(other.errors)")
        let nobody = try await Binary.run(["head"], environment: server.environment(tenant: named))
        #expect(nobody.code == 4, "\(nobody.errors)")
        try await server.stop()
    }
}
