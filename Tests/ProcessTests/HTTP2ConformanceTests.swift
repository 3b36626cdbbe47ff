import Foundation
import MartletTesting
import Testing

/// What RFC 9113 and RFC 7541 ask of a server, and floods: by Tests/Interop/http2, which builds its frames by hand.
@Suite(.serialized) struct HTTP2ConformanceTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let generated = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON_PATH"] ?? ""
    /// Set for the long run, against a release build.
    private static let rounds = ProcessInfo.processInfo.environment["MARTLET_TEST_HTTP2_ROUNDS"].flatMap { Int($0) }

    /// One of each kind; a build for debugging takes long over some of the others.
    private static let shortFloods =
        "rapid_reset,made_reset,continuation,unread_pings,settings_over_streams,data_of_reset,tiny_data,cut_frames,"
        + "field_bomb,half_open,slow_subscribers,gzip_bombs,http1_garbage"

    private func run(_ server: ServerProcess, _ arguments: [String], seconds: Double) async throws {
        let certificates = try TestCertificates.shared.get()
        let outcome = try await Binary.run(
            ["-m", "http2"] + arguments + [
                "--target", "127.0.0.1:\(server.port)", "--ca", certificates.file("ca.pem"),
            ],
            environment: [
                "PYTHONPATH": "\(Repository.root)/Tests/Interop:\(Self.generated)", "PYTHONDONTWRITEBYTECODE": "1",
            ], path: Self.python ?? "", seconds: seconds)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.output.contains(" 0 failed"), "\(outcome.output)")
        print(outcome.output)
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func eachClauseIsKeptAndTheDocumentSaysSo() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        try await run(
            server, ["--rounds", "\(Self.rounds ?? 1)", "--document", Repository.root + "/Docs/HTTP2.md"],
            seconds: 180 + 60 * Double(Self.rounds ?? 1))
        try await server.stop()
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func floodsAreEndedAndMemoryStaysWithinBounds() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let chosen = Self.rounds == nil ? ["--seconds", "0.5", "--only", Self.shortFloods] : ["--seconds", "5"]
        try await run(server, ["floods", "--pid", "\(server.process.processIdentifier)"] + chosen, seconds: 600)
        try await server.stop()
    }
}
