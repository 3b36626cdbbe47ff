import Foundation
import MartletTesting
import Testing

/// What Docs/CLIENTS.md shows of Martlet's own clients, while their connections are cut and the server and they themselves are
/// killed; `make interop` has the programs of the other languages run too.
@Suite struct ClientTaskTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let generated = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON_PATH"] ?? ""

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func theProgramsOfThePageDoTheirTasks() async throws {
        let folder = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
            .deletingLastPathComponent()
        let outcome = try await Binary.run(
            [
                Repository.root + "/Tests/Interop/run_tasks.py", "--languages", "python,swift", "--certs",
                try TestCertificates.shared.get().folder, "--server", Binary.path,
            ],
            environment: [
                "MARTLET_TASKS_BINARY": folder.path + "/InteropTasks", "PYTHONPATH": Self.generated,
                "PYTHONDONTWRITEBYTECODE": "1",
            ], path: Self.python ?? "", seconds: 300)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.output.contains("16 passed, 0 failed"), "\(outcome.output)")
    }
}
