import Foundation
import MartletTesting
import Testing

/// The Python client, which was written from Docs/PROTOCOL.md and Protos/ alone.
@Suite struct InteropTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let generated = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON_PATH"] ?? ""

    private func run(_ server: ServerProcess, tenant: String, _ more: [String]) async throws {
        let certificates = try TestCertificates.shared.get()
        let outcome = try await Binary.run(
            [
                Repository.root + "/Tests/Interop/interop.py", "--port", "\(server.port)", "--ca",
                certificates.file("ca.pem"), "--tenant", tenant,
            ] + more,
            environment: ["PYTHONPATH": Self.generated, "PYTHONDONTWRITEBYTECODE": "1"], path: Self.python ?? "",
            seconds: 120)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.output.contains("23 of 23 checks passed"), "\(outcome.output)")
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func thePythonClientPassesOnSQLite() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        try await run(server, tenant: UUID().uuidString, [])
        try await server.stop()
    }

    /// gRPC's own interoperability cases, from its stock Python client, on the layer that Martlet's services stand on.
    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func theStockClientPassesTheCasesOfGRPC() async throws {
        let certificates = try TestCertificates.shared.get()
        let folder = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
            .deletingLastPathComponent()
        let outcome = try await Binary.run(
            [
                Repository.root + "/Tests/Interop/testservice.py", folder.path + "/InteropServer",
                certificates.file("server.pem"),
                certificates.file("server.key"), certificates.file("ca.pem"),
            ],
            environment: ["PYTHONPATH": Self.generated, "PYTHONDONTWRITEBYTECODE": "1"], path: Self.python ?? "",
            seconds: 120)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.lines.count { $0.hasSuffix(": passed") } == 20, "\(outcome.output)")
    }

    @Test(.enabled(if: python != nil && PostgresTestDatabase.isAvailable, "run the tests by make test"))
    func thePythonClientPassesOnPostgreSQLWithCertificates() async throws {
        let certificates = try TestCertificates.shared.get()
        let server = try await ServerProcess(storage: try PostgresTestDatabase().url, clientCA: true)
        try await run(
            server, tenant: "11111111-1111-4111-8111-111111111111",
            [
                "--cert", certificates.file("client.pem"), "--key", certificates.file("client.key"), "--other-tenant",
                UUID().uuidString,
            ])
        try await server.stop()
    }
}
