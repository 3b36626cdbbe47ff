import Foundation
import MartletTesting
import Testing

/// Commands on events that were stored while `--payload-max` was larger than it is now.
@Suite struct LargerEventsCommandTests {
    private static let aggregate = ["--type", "order", "--id", "11111111-1111-4111-8111-111111111111"]
    private static let bytes = 6 << 20
    /// What a command may take; a debug build needs some seconds for 6 MiB.
    private static let seconds = 30.0

    /// Events are delivered whatever the limits are now: a frame holds each that was ever taken.
    @Test func everyCommandThatReadsThemEnds() async throws {
        let folder = try TemporaryFolder()
        let tenant = UUID()
        let payload = String(repeating: "x", count: Self.bytes)
        let lines = #"{"type":"Small","payload":1}"# + "\n" + #"{"type":"Large","payload":"\#(payload)"}"# + "\n"
        let first = try await ServerProcess(
            storage: "sqlite:\(folder.path)/m.db", extra: ["--payload-max", "7340032"])
        var settings = try first.environment(tenant: tenant)
        let appended = try await run(["append"] + Self.aggregate, settings, lines)
        #expect(appended.code == 0, "\(appended.errors)")
        #expect(try await first.stop() == 0)

        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        settings = try server.environment(tenant: tenant)
        let exported = try await run(["export"], settings)
        let commands = [
            ["load"] + Self.aggregate, ["load", "--backward"] + Self.aggregate, ["load", "--raw"] + Self.aggregate,
            ["read"], ["read", "--backward"], ["subscribe", "--count", "2"], ["export", "--upcast"],
            ["diff", "--from", "0"] + Self.aggregate,
        ]
        #expect(exported.code == 0 && exported.errors.isEmpty, "\(exported.errors)")
        #expect(exported.lines.count == 3 && exported.output.utf8.count > Self.bytes)
        for command in commands {
            let outcome = try await run(command, settings)
            #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(command): \(outcome.errors)")
            #expect(outcome.lines.count == (["diff", "export"].contains(command[0]) ? 3 : 2), "\(command)")
            #expect(outcome.lines.contains { $0.utf8.count > Self.bytes }, "\(command)")
        }
        // What may be stored is another matter: the refusal names the limit and the value.
        let file = folder.path + "/export.jsonl"
        try exported.output.write(toFile: file, atomically: false, encoding: .utf8)
        let other = try server.environment(tenant: UUID())
        for command in [["import", file], ["append"] + Self.aggregate] {
            let refused = try await run(command, other, lines)
            let says = refused.errors.prefix(1_000)
            #expect(refused.code != 0 && says.utf8.count < 1_000, "\(command): \(says)")
            for part in ["payload", "1048576", "\(Self.bytes + 2)"] {
                #expect(says.contains(part), "\(command): \(says)")
            }
        }
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    private func run(
        _ command: [String], _ environment: [String: String], _ input: String = ""
    ) async throws -> Binary.Outcome {
        try await Binary.run(command, input: input, environment: environment, seconds: Self.seconds)
    }
}
