import Foundation
import MartletTesting
import Testing

/// The cases of Tests/Interop/cases, which stock gRPC clients in Python carry out; `make interop` has other languages do so.
@Suite(.serialized) struct GRPCCaseTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let generated = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON_PATH"] ?? ""

    private func run(storage: String) async throws {
        let outcome = try await Binary.run(
            [
                Repository.root + "/Tests/Interop/run_cases.py", "--languages", "python,asyncio", "--certs",
                try TestCertificates.shared.get().folder, "--server", Binary.path, "--storage", storage,
            ],
            environment: ["PYTHONPATH": Self.generated, "PYTHONDONTWRITEBYTECODE": "1"], path: Self.python ?? "",
            seconds: 1_800)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.output.contains(", 0 failed"), "\(outcome.output)")
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func stockClientsInPythonPassOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await run(storage: "sqlite:\(folder.path)/m.db")
    }

    @Test(.enabled(if: python != nil && PostgresTestDatabase.isAvailable, "run the tests by make test"))
    func stockClientsInPythonPassOnPostgreSQL() async throws {
        try await run(storage: try PostgresTestDatabase().url)
    }
}
