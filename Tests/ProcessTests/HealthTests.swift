import Foundation
import MartletTesting
import Testing

/// The health and the reflection of a server, by gRPC's stock Python clients.
@Suite struct HealthTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let generated = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON_PATH"] ?? ""
    /// The stock clients come before the generated packages of the same names.
    private static let path = "\(generated)/../stock:\(generated)"

    private static func arguments(_ server: ServerProcess) throws -> [String] {
        let certificates = try TestCertificates.shared.get()
        return [
            Repository.root + "/Tests/Interop/health_reflection.py", "--port", "\(server.port)", "--ca",
            certificates.file("ca.pem"),
        ]
    }

    @Test(
        .enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"),
        arguments: [("reflection", 7), ("health", 3)])
    func theStockClientsFindAll(_ part: String, _ count: Int) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let outcome = try await Binary.run(
            Self.arguments(server) + [part],
            environment: ["PYTHONPATH": Self.path, "PYTHONDONTWRITEBYTECODE": "1"], path: Self.python ?? "",
            seconds: 120)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.lines.count { $0.hasSuffix(" passed") } == count, "\(outcome.output)")
        try await server.stop()
    }

    /// What `health_reflection.py watch` prints, and what it is told.
    private final class Watch {
        private let process = Process()
        private let input = Pipe()
        private let folder: TemporaryFolder
        private let path: String

        init(_ server: ServerProcess) throws {
            folder = try TemporaryFolder()
            path = folder.path + "/out"
            try Data().write(to: URL(fileURLWithPath: path))
            process.executableURL = URL(fileURLWithPath: HealthTests.python ?? "")
            process.arguments = try HealthTests.arguments(server) + ["watch"]
            process.environment = ProcessInfo.processInfo.environment.merging([
                "PYTHONPATH": HealthTests.path, "PYTHONDONTWRITEBYTECODE": "1",
            ]) { $1 }
            process.standardInput = input
            process.standardOutput = FileHandle(forWritingAtPath: path)
            try process.run()
        }

        deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

        var lines: [String] {
            ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
        }

        /// The lines that begin with that word, without it.
        func lines(of word: String) -> [String] {
            lines.filter { $0.hasPrefix(word) }.map { String($0.dropFirst(word.count)) }
        }

        /// Appends an event of that many bytes.
        /// - Returns: what became of it.
        func append(bytes: Int) async throws -> String {
            let before = lines(of: "append: ").count
            try input.fileHandleForWriting.write(contentsOf: Data("\(bytes)\n".utf8))
            try await wait("an append is answered") { $0.lines(of: "append: ").count > before }
            return lines(of: "append: ").last ?? ""
        }

        func wait(_ what: String, until condition: (Watch) -> Bool) async throws {
            let deadline = ContinuousClock.now + .seconds(40)
            while !condition(self) {
                guard ContinuousClock.now < deadline else { throw ProcessFailure("\(what): not within 40 s: \(lines)") }
                try await Task.sleep(for: .milliseconds(10))
            }
        }

        func waitForEnd() async throws { try await process.end(within: 20) }
    }

    private static let services = [
        "whole", "martlet.v1.AppendService", "martlet.v1.QueryService", "grpc.health.v1.Health",
    ]

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func watchersHearOfADrainBeforeTheirStreamsEnd() async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let watch = try Watch(server)
        try await watch.wait("all are told the first state") { $0.lines.count == Self.services.count }
        try await server.stop()
        try await watch.waitForEnd()
        for service in Self.services {
            #expect(watch.lines(of: service) == [": SERVING", ": NOT_SERVING", " ended: UNAVAILABLE"], "\(service)")
        }
    }

    @Test(.enabled(if: python != nil, "MARTLET_TEST_PYTHON names no Python: run the tests by make test"))
    func aFullDiskTakesTheWritingServicesOutOfServiceAndRoomBringsThemBack() async throws {
        let folder = try TemporaryFolder()
        guard Self.run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder.path) else {
            print("skipped: no file system can be mounted here")
            return
        }
        defer { _ = Self.run("umount", "-l", folder.path) }
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let watch = try Watch(server)
        try await watch.wait("all are told the first state") { $0.lines.count == Self.services.count }
        var outcome = try await watch.append(bytes: 60_000)
        #expect(outcome == "OK")
        while outcome == "OK", watch.lines.count < 200 { outcome = try await watch.append(bytes: 60_000) }
        #expect(outcome == "RESOURCE_EXHAUSTED", "\(watch.lines)")
        try await watch.wait("the append service is out") {
            $0.lines(of: "martlet.v1.AppendService: ").contains("NOT_SERVING")
        }
        for other in ["whole", "martlet.v1.QueryService", "grpc.health.v1.Health"] {
            #expect(watch.lines(of: other) == [": SERVING"])
        }
        #expect(Self.run("mount", "-o", "remount,size=64m", folder.path))
        // Nobody appends meanwhile.
        try await watch.wait("the append service is back") {
            $0.lines(of: "martlet.v1.AppendService: ").last == "SERVING"
        }
        #expect(try await watch.append(bytes: 60_000) == "OK")
        try await server.stop()
        try await watch.waitForEnd()
    }

    private static func run(_ arguments: String...) -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }
}
