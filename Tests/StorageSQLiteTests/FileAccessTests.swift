import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// Who may read the files, and which files the engine touches.
@Suite(.blocking) struct FileAccessTests {
    private static let files = ["", "-wal", "-shm", ".lock"]

    private func mode(_ path: String) throws -> String {
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        return String(mode ?? -1, radix: 8)
    }

    @Test func nobodyElseReadsWhatIsMade() throws {
        let bench = try Bench()
        try bench.writer.append(try .sample(tenant: bench.tenant))
        for file in Self.files { #expect(try mode(bench.path + file) == "600", "m.db\(file)") }
        #expect(try mode(bench.folder.path + "/data") == "700")
    }

    @Test func whatEverybodyCouldReadIsClosedAndTold() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let tenant = TenantID(UUID())
        let holder: SQLiteConnection
        do {
            let first = SQLiteEngine(path: path, logger: .silent)
            try first.prepare()
            try first.makeWriter().append(try .sample(tenant: tenant))
            // It keeps the log and the memory file in their places.
            holder = try SQLiteConnection(path: path, creates: false)
            _ = try holder.text("SELECT count(*) FROM tenants")
        }
        for file in Self.files { _ = unsafe chmod(path + file, 0o664) }
        let log = CapturedLog()
        let engine = SQLiteEngine(path: path, logger: log.logger)
        try engine.prepare()
        try engine.makeWriter().append(try .sample(tenant: tenant))
        // What the group may do is the operator's own choice.
        for file in Self.files.dropLast() { #expect(try mode(path + file) == "660", "m.db\(file)") }
        #expect(try mode(path + ".lock") == "600")
        for file in Self.files.dropLast() {
            #expect(log.lines.contains { $0.contains("file=\(path)\(file) ") }, "m.db\(file): \(log.lines)")
        }
        #expect(try engine.makeReader().head(of: tenant).position == Position(2))
        withExtendedLifetime(holder) {}
    }

    @Test(arguments: [".lock", "-wal", "-shm"])
    func aSymbolicLinkInTheirPlaceIsNotFollowed(_ file: String) throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let victim = folder.path + "/victim"
        try "precious".write(toFile: victim, atomically: false, encoding: .utf8)
        _ = unsafe chmod(victim, 0o644)
        do {
            let first = SQLiteEngine(path: path, logger: .silent)
            try first.prepare()
        }
        try? FileManager.default.removeItem(atPath: path + file)
        try FileManager.default.createSymbolicLink(atPath: path + file, withDestinationPath: victim)
        let engine = SQLiteEngine(path: path, logger: .silent)
        let error = refusal { () throws(StorageError) in try engine.prepare() }
        #expect(error?.kind == .misconfigured, "\(String(describing: error))")
        #expect(error?.description.contains(path + file) == true && error?.description.contains("remove") == true)
        #expect(try String(contentsOfFile: victim, encoding: .utf8) == "precious")
        #expect(try mode(victim) == "644")
        try FileManager.default.removeItem(atPath: path + file)
        try engine.prepare()
    }

    @Test func aLockFileThatIsAnotherFileOrNoFileIsRefused() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let victim = folder.path + "/victim"
        try "precious".write(toFile: victim, atomically: false, encoding: .utf8)
        try FileManager.default.linkItem(atPath: victim, toPath: path + ".lock")
        let linked = refusal { () throws(StorageError) in try SQLiteEngine(path: path, logger: .silent).prepare() }
        #expect(linked?.kind == .misconfigured, "\(String(describing: linked))")
        #expect(try String(contentsOfFile: victim, encoding: .utf8) == "precious")
        try FileManager.default.removeItem(atPath: path + ".lock")
        #expect(unsafe mkfifo(path + ".lock", 0o600) == 0)
        let pipe = refusal { () throws(StorageError) in try SQLiteEngine(path: path, logger: .silent).prepare() }
        #expect(pipe?.kind == .misconfigured, "\(String(describing: pipe))")
        try FileManager.default.removeItem(atPath: path + ".lock")
        try SQLiteEngine(path: path, logger: .silent).prepare()
    }
}
