import Foundation
import MartletTesting
import Testing

/// Servers in processes of their own, on one file under two names.
@Suite struct FileNameTests {
    private func start(_ path: String) async -> Result<ServerProcess, any Error> {
        do { return .success(try await ServerProcess(storage: "sqlite:\(path)")) } catch { return .failure(error) }
    }

    @Test(arguments: ["hard link", "lock removed", "renamed"])
    func aSecondServerIsRefused(_ how: String) async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let first = try await ServerProcess(storage: "sqlite:\(path)")
        var name = folder.path + "/n.db"
        switch how {
        case "hard link": try FileManager.default.linkItem(atPath: path, toPath: name)
        case "renamed": try FileManager.default.moveItem(atPath: path, toPath: name)
        default:
            try FileManager.default.removeItem(atPath: path + ".lock")
            name = path
        }
        for _ in 0..<3 {
            switch await start(name) {
            case .success: Issue.record("\(how): it started")
            case .failure(let error): #expect("\(error)".contains("only one may"), "\(error)")
            }
        }
        try await first.stop(SIGKILL)
        // The lock went with the process; a second name is refused all the same.
        let next = await start(name)
        switch next {
        case .success(let server):
            #expect(how != "hard link")
            try await server.stop()
        case .failure(let error): #expect(how == "hard link" && "\(error)".contains("2 names"), "\(error)")
        }
    }

    /// The lock files differ: the database's own lock alone keeps them apart.
    @Test func ofTwoThatStartAtOnceUnderTwoNamesOneListens() async throws {
        for round in 0..<12 {
            let folder = try TemporaryFolder()
            let path = folder.path + "/m.db"
            // Whoever looks for the lock file after the other has taken it finds none.
            let cleaner = Task {
                while !Task.isCancelled {
                    try? FileManager.default.removeItem(atPath: path + ".lock")
                    try await Task.sleep(for: .milliseconds(1))
                }
            }
            let started = await withTaskGroup(of: Result<ServerProcess, any Error>.self) { group in
                for _ in 0..<2 { group.addTask { await start(path) } }
                return await group.reduce(into: []) { $0.append($1) }
            }
            cleaner.cancel()
            var servers: [ServerProcess] = []
            for result in started {
                switch result {
                case .success(let server): servers.append(server)
                case .failure(let error):
                    #expect("\(error)".contains("only one may"), "round \(round): \(error)")
                }
            }
            #expect(servers.count == 1, "round \(round)")
            for server in servers { try await server.stop() }
        }
    }
}
