import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// One server uses a file.
@Suite(.blocking) struct LockTests {
    @Test func theSecondIsRefusedUntilTheFirstIsGone() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let second = SQLiteEngine(path: path, logger: .silent)
        do {
            let first = SQLiteEngine(path: path, logger: .silent)
            try first.prepare()
            let error = refusal { () throws(StorageError) in try second.prepare() }
            #expect(error?.kind == .misconfigured)
            #expect(error?.description.contains("process \(ProcessInfo.processInfo.processIdentifier)") == true)
            // The first goes on.
            let tenant = TenantID(UUID())
            try first.makeWriter().append(try .sample(tenant: tenant))
            #expect(try first.makeReader().head(of: tenant).position == Position(1))
        }
        try second.prepare()
    }

    /// Whatever threads an engine's writer has, they have let go of the file when the writer is gone.
    @Test func aFileIsFreeAsSoonAsItsWriterIsGone() throws {
        let folder = try TemporaryFolder()
        let tenant = TenantID(UUID())
        for _ in 0..<TestRounds.count(150, long: 1_000) {
            let engine = SQLiteEngine(path: folder.path + "/m.db", logger: .silent)
            try engine.prepare()
            try engine.makeWriter().append(try .sample(tenant: tenant))
        }
    }

    @Test func ofThoseThatStartAtOnceOneWins() async throws {
        for round in 0..<20 {
            let folder = try TemporaryFolder()
            let engines = (0..<4).map { _ in SQLiteEngine(path: folder.path + "/m.db", logger: .silent) }
            let errors = try await Threads.race(engines.count) { index in
                refusal { () throws(StorageError) in try engines[index].prepare() }
            }
            #expect(errors.count { $0 == nil } == 1, "round \(round): \(errors)")
            #expect(errors.allSatisfy { $0 == nil || $0?.kind == .misconfigured }, "round \(round): \(errors)")
        }
    }

    @Test(arguments: [true, false])
    func anotherNameOfTheFileIsTheSameFile(_ exists: Bool) throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.db"
        let link = folder.path + "/link.db"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: exists ? path : "m.db")
        let first = SQLiteEngine(path: exists ? path : link, logger: .silent)
        try first.prepare()
        let second = SQLiteEngine(path: exists ? link : path, logger: .silent)
        #expect(refusal { () throws(StorageError) in try second.prepare() }?.kind == .misconfigured)
        let other = SQLiteEngine(
            path: folder.path + "/../" + folder.path.split(separator: "/").last! + "/m.db", logger: .silent)
        #expect(refusal { () throws(StorageError) in try other.prepare() }?.kind == .misconfigured)
    }
}
