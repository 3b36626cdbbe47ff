import Foundation
import MartletTesting
import Testing

/// Names and times that Swift's library would change: through the commands, byte for byte.
@Suite struct ExactNameTests {
    private let order = ["--type", "order", "--id", "11111111-1111-4111-8111-111111111111"]
    private static let composed = "Caf\u{E9}"
    private static let decomposed = "Cafe\u{301}"

    private func withServer(_ body: ([String: String], TemporaryFolder) async throws -> Void) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/data/m.db")
        try await body(try server.environment(tenant: UUID()), folder)
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    /// Whether the bytes of the one are in the other; `contains` of a string would compare canonically.
    private func has(_ text: String, _ part: String) -> Bool { Data(text.utf8).range(of: Data(part.utf8)) != nil }

    @Test func canonicallyEqualNamesStayTwo() async throws {
        try await withServer { settings, folder in
            let (a, b) = (Self.composed, Self.decomposed)
            let events =
                #"{"type":"\#(a)","payload":1,"metadata":{"tags":{"\#(a)":"1","\#(b)":"2"}}}"# + "\n"
                + #"{"type":"\#(b)","payload":2}"# + "\n"
            let appended = try await Binary.run(["append"] + order, input: events, environment: settings)
            #expect(appended.code == 0, "\(appended.errors)")
            let tags = #""tags":{"\#(b)":"2","\#(a)":"1"}"#
            let loaded = try await Binary.run(["load"] + order, environment: settings)
            #expect(has(loaded.output, tags), "\(loaded.output)")
            let exported = try await Binary.run(["export"], environment: settings)
            #expect(has(exported.output, tags), "\(exported.output)")
            let diff = try await Binary.run(["diff"] + order + ["--from", "0"], environment: settings)
            #expect(has(diff.output, #""types":{"\#(b)":1,"\#(a)":1}"#), "\(diff.output)")
            let found = try await Binary.run(["read", "--event-type", b], environment: settings)
            #expect(found.lines.count == 1 && has(found.output, #""payload":2"#), "\(found.output)")

            let file = folder.path + "/export.jsonl"
            try exported.output.write(toFile: file, atomically: true, encoding: .utf8)
            var other = settings
            other["MARTLET_TENANT"] = UUID().uuidString
            #expect(try await Binary.run(["import", file], environment: other).code == 0)
            let again = try await Binary.run(["export"], environment: other)
            #expect(has(again.output, tags), "\(again.output)")
        }
    }

    @Test(arguments: ["json", "yaml"])
    func upcasterFilesHaveBothKeys(_ kind: String) async throws {
        try await withServer { settings, folder in
            let (a, b) = (Self.composed, Self.decomposed)
            let file = folder.path + "/upcasters.\(kind)"
            let text =
                kind == "json"
                ? #"{"upcasters":[{"event":"\#(a)","from":1,"operations":[{"map":{"path":"/x","table":{"\#(a)":"1","\#(b)":"2"}}}]},"#
                    + #"{"event":"\#(b)","from":1,"operations":[{"remove":{"path":"/y"}}]}]}"#
                : """
                upcasters:
                  - event: "\(a)"
                    from: 1
                    operations:
                      - map: {path: /x, table: {\(a): "1", '\(b)': "2", 😀: "3", "\\u00e9": "4"}}
                  - {event: \(b), from: 1, operations: [{remove: {path: /y}}]}
                """
            try text.write(toFile: file, atomically: true, encoding: .utf8)
            let applied = try await Binary.run(["upcasters", "apply", file], environment: settings)
            #expect(applied.code == 0, "\(applied.errors)")
            for (type, value) in [(a, a), (a, b)] {
                let event = #"{"type":"\#(type)","payload":{"x":"\#(value)"}}"#
                #expect(try await Binary.run(["append"] + order, input: event, environment: settings).code == 0)
            }
            let loaded = try await Binary.run(["load"] + order, environment: settings)
            #expect(loaded.lines.count == 2, "\(loaded.output)\(loaded.errors)")
            #expect(loaded.output.contains(#"{"x":"1"}"#) && loaded.output.contains(#"{"x":"2"}"#), "\(loaded.output)")
        }
    }

    @Test func theSameKeyTwiceIsRefused() async throws {
        try await withServer { settings, folder in
            let file = folder.path + "/upcasters.yaml"
            let text =
                #"upcasters: [{event: E, from: 1, operations: [{map: {path: /x, table: {é: 1, "\u00e9": 2}}}]}]"#
            try text.write(toFile: file, atomically: true, encoding: .utf8)
            let applied = try await Binary.run(["upcasters", "apply", file], environment: settings)
            #expect(applied.code == 2 && applied.errors.contains("the key é appears twice"), "\(applied.errors)")
        }
    }

    @Test func allMetadataSurvivesExportAndImport() async throws {
        try await withServer { settings, folder in
            let metadata =
                #""metadata":{"user_id":"u","role":"r","occurred_at":"2026-01-01T00:00:00.500000Z","#
                + #""correlation_id":"c","causation_id":"d","request_id":"e","source":"f","traceparent":"g","#
                + #""tracestate":"congo=t61","tags":{"a":"b"}}"#
            let appended = try await Binary.run(
                ["append"] + order, input: #"{"type":"E","payload":1,\#(metadata)}"#, environment: settings)
            #expect(appended.code == 0, "\(appended.errors)")
            let loaded = try await Binary.run(["load"] + order, environment: settings)
            #expect(loaded.output.contains(metadata), "\(loaded.output)")
            let exported = try await Binary.run(["export"], environment: settings)
            let file = folder.path + "/export.jsonl"
            try exported.output.write(toFile: file, atomically: true, encoding: .utf8)
            var other = settings
            other["MARTLET_TENANT"] = UUID().uuidString
            #expect(try await Binary.run(["import", file], environment: other).code == 0)
            let again = try await Binary.run(["export"], environment: other)
            #expect(again.output.contains(metadata), "\(again.output)")
        }
    }

    @Test func timesOfOtherCalendarsSurviveExportAndImport() async throws {
        try await withServer { settings, folder in
            // The zero time of Go and .NET, a day that the Julian calendar has and the Gregorian has otherwise, both ends.
            let times = [
                "0001-01-01T00:00:00.000000Z", "1500-02-28T00:00:00.000000Z", "1582-10-10T00:00:00.000000Z",
                "9999-12-31T23:59:59.999999Z",
            ]
            let events = times.map { #"{"type":"E","payload":1,"metadata":{"occurred_at":"\#($0)"}}"# }
            let appended = try await Binary.run(
                ["append"] + order, input: events.joined(separator: "\n"), environment: settings)
            #expect(appended.code == 0, "\(appended.errors)")
            let exported = try await Binary.run(["export"], environment: settings)
            for (line, time) in zip(exported.lines, times) {
                #expect(line.contains(#""occurred_at":"\#(time)""#), "\(line)")
            }
            let file = folder.path + "/export.jsonl"
            try exported.output.write(toFile: file, atomically: true, encoding: .utf8)
            var other = settings
            other["MARTLET_TENANT"] = UUID().uuidString
            #expect(try await Binary.run(["import", file], environment: other).code == 0)
            let again = try await Binary.run(["export"], environment: other)
            #expect(again.lines.count == 5)
            for (line, time) in zip(again.lines, times) {
                #expect(line.contains(#""occurred_at":"\#(time)""#), "\(line)")
            }
            let late = #"{"type":"E","payload":1,"metadata":{"occurred_at":"+010000-01-01T00:00:00.000000Z"}}"#
            let refused = try await Binary.run(["append"] + order, input: late, environment: settings)
            #expect(refused.code == 5 && refused.errors.contains("9999-12-31T23:59:59.999999Z"), "\(refused.errors)")
        }
    }
}
