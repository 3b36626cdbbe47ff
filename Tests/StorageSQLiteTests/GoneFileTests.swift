import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// The file, or its folder, is taken away under the engine, and put back.
@Suite(.blocking) struct GoneFileTests {
    @Test(arguments: [("/data", true), ("/data", false), ("/data/m.db", true), ("/data/m.db", false)])
    func whatIsPutBackIsUsedWithoutARestart(_ part: String, _ hasReader: Bool) throws {
        let bench = try Bench()
        let reader = bench.engine.makeReader()
        var stored: [UUID] = []
        for round in 0..<3 {
            let request = try AppendRequest.sample(2, tenant: bench.tenant)
            try bench.writer.append(request)
            stored += request.ids
            if hasReader { #expect(try reader.head(of: bench.tenant).position.rawValue == UInt64(stored.count)) }
            let place = bench.folder.path + part
            let elsewhere = bench.folder.path + "/elsewhere"
            try FileManager.default.moveItem(atPath: place, toPath: elsewhere)
            let refused = try AppendRequest.sample(2, tenant: bench.tenant)
            for _ in 0..<2 {
                let error = refusal { () throws(StorageError) in try bench.writer.append(refused) }
                #expect(
                    error?.kind == .unavailable && error?.description.contains(bench.path) == true, "round \(round)")
                if hasReader {
                    let error = refusal { () throws(StorageError) in _ = try reader.head(of: bench.tenant) }
                    #expect(error?.kind == .unavailable, "round \(round)")
                }
            }
            #expect(!FileManager.default.fileExists(atPath: place), "nothing is made in its place")
            try FileManager.default.moveItem(atPath: elsewhere, toPath: place)
            #expect(try bench.writer.append(refused)?.replayed == false, "round \(round)")
            stored += refused.ids
            if hasReader { #expect(try reader.head(of: bench.tenant).position.rawValue == UInt64(stored.count)) }
        }
        #expect(try bench.holds(stored))
    }

    @Test func anotherFileInItsPlaceIsNotWrittenTo() throws {
        let bench = try Bench()
        let reader = bench.engine.makeReader()
        let first = try AppendRequest.sample(2, tenant: bench.tenant)
        try bench.writer.append(first)
        #expect(try reader.head(of: bench.tenant).position == Position(2))
        let elsewhere = bench.folder.path + "/elsewhere"
        try RawDatabase(bench.folder.path + "/other").run("CREATE TABLE notes (text TEXT)")
        try FileManager.default.moveItem(atPath: bench.path, toPath: elsewhere)
        try FileManager.default.moveItem(atPath: bench.folder.path + "/other", toPath: bench.path)
        let other = try Data(contentsOf: URL(fileURLWithPath: bench.path))
        let next = try AppendRequest.sample(tenant: bench.tenant)
        for _ in 0..<3 {
            let error = refusal { () throws(StorageError) in try bench.writer.append(next) }
            #expect(error?.kind == .unavailable && error?.description.contains("replaced") == true)
            #expect(refusal { () throws(StorageError) in _ = try reader.head(of: bench.tenant) } == error)
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path)) == other, "it is as it was")
        try FileManager.default.removeItem(atPath: bench.path)
        try FileManager.default.moveItem(atPath: elsewhere, toPath: bench.path)
        #expect(try bench.writer.append(next)?.firstPosition == Position(3))
        #expect(try bench.holds(first.ids + next.ids, reader))
    }
}
