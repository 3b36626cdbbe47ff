import Foundation
import MartletTesting
import Testing

/// The tests of the Python client, in Clients/python/tests, which start servers on both engines.
@Suite(.serialized) struct PythonClientTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func itsTestsPass() async throws {
        let outcome = try await Binary.run(
            ["-m", "pytest", "-q", "-rP", "--durations=5", Repository.root + "/Clients/python/tests"],
            environment: [
                "MARTLET_TEST_BINARY": Binary.path,
                "MARTLET_TEST_CERTIFICATES": try TestCertificates.shared.get().folder, "PYTHONDONTWRITEBYTECODE": "1",
            ], path: Self.python ?? "", seconds: 600)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        // Pytest's exit code says that nothing failed, not that anything ran.
        #expect(outcome.output.contains(" passed"), "\(outcome.output)")
        let lines = outcome.output.split(separator: "\n")
        for line in lines where line.contains("black hole") || line.contains("slow reader") || line.contains(" passed")
        {
            print("python client: \(line)")
        }
    }
}
