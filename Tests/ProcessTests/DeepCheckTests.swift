import Foundation
import MartletTesting
import Testing

/// `martlet doctor --deep`, as a user types it.
@Suite struct DeepCheckTests {
    /// A second process reads the file of a server that goes on writing, and again after it was killed.
    @Test func theFileOfARunningAndOfAKilledServerIsSound() async throws {
        let folder = try TemporaryFolder()
        let storage = "sqlite:\(folder.path)/m.db"
        let server = try await ServerProcess(storage: storage)
        let settings = try server.environment(tenant: UUID())
        let check = ["doctor", "--deep", "--offline", "--storage", storage]
        func head() async throws -> String { try await Binary.run(["head"], environment: settings).output }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                // Ends with an error once its server is gone.
                _ = try await Binary.run(
                    ["bench", "append", "--clients", "8", "--seconds", "4"], environment: settings)
            }
            group.addTask {
                for _ in 0..<3 {
                    // Appends come in between.
                    let before = try await head()
                    while try await head() == before {}
                    let running = try await Binary.run(check)
                    #expect(running.code == 0 && !running.output.contains("FAIL"), "\(running.output)\(running.errors)")
                }
                try await server.stop(SIGKILL)
            }
            try await group.waitForAll()
        }
        let killed = try await Binary.run(check)
        #expect(killed.code == 0 && killed.output.contains("ok    blocks: "), "\(killed.output)\(killed.errors)")
        #expect(!killed.output.contains("blocks: 0 events") && killed.errors.isEmpty, "\(killed.output)")
        // The server takes the file up where it was.
        let next = try await ServerProcess(storage: storage)
        #expect(try await Binary.run(check).code == 0)
        try await next.stop()
    }

    @Test func aFindingIsAFailureAndNamesTheNextStep() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let server = try await ServerProcess(storage: "sqlite:\(path)")
        let order = ["--type", "order", "--id", "11111111-1111-4111-8111-111111111111"]
        let event = #"{"type":"Placed","payload":{"text":"as it was said"}}"#
        #expect(
            try await Binary.run(["append"] + order, input: event, environment: server.environment(tenant: UUID())).code
                == 0)
        try await server.stop()
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        // The text stays as long as it was; the id's field before it does not.
        let type = try #require(bytes.firstRange(of: Data("\u{12}\u{06}Placed".utf8)))
        bytes[type.lowerBound + 1] = 0x7F
        try bytes.write(to: URL(fileURLWithPath: path))
        let found = try await Binary.run(["doctor", "--deep", "--offline", "--storage", "sqlite:\(path)"])
        #expect(found.code == 1)
        #expect(
            found.output.contains("FAIL  blocks:") && found.output.contains("block at position 1")
                && found.output.contains("restore a backup"), "\(found.output)")
    }

    @Test func aStorageMustBeNamed() async throws {
        let refused = try await Binary.run(["doctor", "--offline", "--deep"])
        #expect(refused.code == 2 && refused.errors.contains("--storage sqlite:PATH"), "\(refused.errors)")
        #expect(refused.output.isEmpty)
    }

    @Test func aDatabaseThatDoesNotAnswerFailsWithoutItsPassword() async throws {
        let url = "postgres://m:s3cret@127.0.0.1:1/m"
        let found = try await Binary.run(["doctor", "--deep", "--offline", "--storage", url])
        #expect(found.code == 1 && found.output.contains("FAIL  storage"), "\(found.output)\(found.errors)")
        #expect(!found.output.contains("s3cret") && !found.errors.contains("s3cret"))
    }

    @Test func aFileThatIsNotThereFails() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/none.db"
        let found = try await Binary.run(["doctor", "--deep", "--offline", "--storage", "sqlite:\(path)"])
        #expect(found.code == 1 && found.output.contains("does not exist"))
        #expect(!FileManager.default.fileExists(atPath: path))
    }
}
