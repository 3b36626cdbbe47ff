import Foundation
import MartletTesting
import Testing

/// The program of README.md, as a user runs it.
@Suite struct QuickstartTests {
    @Test func theProgramOfTheReadmeStoresItsEvent() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let environment = try server.environment(tenant: UUID())
        let program = Process()
        program.executableURL = URL(fileURLWithPath: Binary.path).deletingLastPathComponent()
            .appendingPathComponent("Quickstart")
        program.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        try program.run()
        defer { if program.isRunning { kill(program.processIdentifier, SIGKILL) } }
        let tooLong = ContinuousClock.now + .seconds(30)
        var output = ""
        while output.isEmpty, .now < tooLong {
            output = try await Binary.run(
                ["load", "--type", "order", "--aggregate-key", "A-17"], environment: environment
            ).output
        }
        #expect(output.contains(#""payload":{"parcel":"X2"}"#) && output.contains(#""aggregate_key":"A-17""#))
        #expect(program.isRunning, "it follows the tenant's events")
        kill(program.processIdentifier, SIGKILL)
        try await program.end(within: 20)
        try await server.stop()
    }
}
