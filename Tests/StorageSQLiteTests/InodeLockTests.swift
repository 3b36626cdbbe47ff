import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// One server uses a file, under whatever name.
@Suite(.blocking) struct InodeLockTests {
    /// Another name for a file that a server uses.
    enum OtherName: CaseIterable {
        case hardLink, renamed, folderRenamed, lockRemoved, boundFile, boundFolder
    }

    @Test(arguments: OtherName.allCases)
    func theSecondIsRefusedUnderAnyName(_ other: OtherName) throws {
        let folder = try TemporaryFolder()
        let data = folder.path + "/data"
        let path = data + "/m.db"
        let first = SQLiteEngine(path: path, logger: .silent)
        try first.prepare()
        let (writer, tenant) = (first.makeWriter(), TenantID(UUID()))
        try writer.append(try .sample(tenant: tenant))
        let mounted = folder.path + "/mounted"
        let files = FileManager.default
        var name = data + "/n.db"
        switch other {
        case .hardLink: try files.linkItem(atPath: path, toPath: name)
        case .renamed: try files.moveItem(atPath: path, toPath: name)
        case .folderRenamed:
            try files.moveItem(atPath: data, toPath: folder.path + "/moved")
            try files.removeItem(atPath: folder.path + "/moved/m.db.lock")
            name = folder.path + "/moved/m.db"
        case .lockRemoved:
            try files.removeItem(atPath: path + ".lock")
            name = path
        case .boundFile:
            try Data().write(to: URL(fileURLWithPath: name))
            guard try Self.run("mount", "--bind", path, name) else { return Self.skipped() }
        case .boundFolder:
            try files.createDirectory(atPath: mounted, withIntermediateDirectories: true)
            guard try Self.run("mount", "--bind", data, mounted) else { return Self.skipped() }
            // The lock file is the same one there: the database's own lock is what is tried.
            try files.removeItem(atPath: path + ".lock")
            name = mounted + "/m.db"
        }
        defer {
            if other == .boundFile { _ = try? Self.run("umount", "-l", name) }
            if other == .boundFolder { _ = try? Self.run("umount", "-l", mounted) }
        }
        let second = SQLiteEngine(path: name, logger: .silent)
        for _ in 0..<3 {
            let error = refusal { () throws(StorageError) in try second.prepare() }
            #expect(error?.kind == .misconfigured, "\(other): \(String(describing: error))")
            #expect(error?.description.contains("only one may") == true, "\(String(describing: error))")
        }
        // Trying has not let go of anything that the first holds.
        if other == .hardLink || other == .lockRemoved {
            #expect(try writer.append(try .sample(tenant: tenant))?.firstPosition == Position(2))
            #expect(try first.makeReader().events(of: tenant).count == 2)
        }
    }

    @Test func aFileWithTwoNamesIsRefusedAndSoIsOneThatIsBoundInItsPlace() throws {
        let folder = try TemporaryFolder()
        let (path, other) = (folder.path + "/m.db", folder.path + "/n.db")
        do { try SQLiteEngine(path: path, logger: .silent).prepare() }
        try FileManager.default.linkItem(atPath: path, toPath: other)
        for name in [path, other] {
            let error = refusal { () throws(StorageError) in try SQLiteEngine(path: name, logger: .silent).prepare() }
            #expect(error?.kind == .misconfigured, "\(String(describing: error))")
            #expect(error?.description.contains("2 names") == true, "\(String(describing: error))")
        }
        try FileManager.default.removeItem(atPath: other)
        do { try SQLiteEngine(path: path, logger: .silent).prepare() }
        try Data().write(to: URL(fileURLWithPath: other))
        guard try Self.run("mount", "--bind", path, other) else { return Self.skipped() }
        let bound = refusal { () throws(StorageError) in try SQLiteEngine(path: other, logger: .silent).prepare() }
        #expect(try Self.run("umount", "-l", other))
        #expect(bound?.kind == .misconfigured, "\(String(describing: bound))")
        #expect(bound?.description.contains("mount") == true, "\(String(describing: bound))")
    }

    @Test func ofTwoNamesNoTwoServersStartAtOnce() async throws {
        for round in 0..<40 {
            let folder = try TemporaryFolder()
            let names = ["/m.db", "/n.db", "/link.db", "/../\(folder.path.split(separator: "/").last!)/m.db"]
                .map { folder.path + $0 }
            do { try SQLiteEngine(path: names[0], logger: .silent).prepare() }
            if round % 2 == 0 {
                try FileManager.default.linkItem(atPath: names[0], toPath: names[1])
            } else {
                try FileManager.default.createSymbolicLink(atPath: names[1], withDestinationPath: names[0])
            }
            try FileManager.default.createSymbolicLink(atPath: names[2], withDestinationPath: "m.db")
            let engines = names.map { SQLiteEngine(path: $0, logger: .silent) }
            let errors = try await Threads.race(engines.count) { index in
                refusal { () throws(StorageError) in try engines[index].prepare() }
            }
            #expect(errors.count { $0 == nil } == round % 2, "round \(round): \(errors)")
            #expect(errors.allSatisfy { $0 == nil || $0?.kind == .misconfigured }, "round \(round): \(errors)")
        }
    }

    private static func skipped() { print("skipped: nothing can be mounted here") }

    /// Runs a program; whether it went well.
    private static func run(_ command: String...) throws -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus == 0
    }
}
