import Foundation
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// One bit of a file, whichever it is: what it changes is refused when it is read, or found by the check of the file, or
/// all that is read is as before. No event is ever read that was not stored so.
@Suite(.blocking) struct FileBitFlipTests {
    /// How many; `make test-bits` flips 1,000.
    private static let flips = Int(ProcessInfo.processInfo.environment["MARTLET_TEST_BITS"] ?? "") ?? 150

    @Test func bitsAreFoundOrServeNothing() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(rangesHeldMax: 20)
        let history = try BitFlipHistory(bench.engine, &numbers)
        let file = bench.folder.path + "/whole.db"
        // One file without a log, and without what is left over in pages.
        try RawDatabase(bench.path).run("VACUUM INTO '\(file)'")
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: file)))
        var tally = try BitFlipTally(history, on: engine(file))
        #expect(try Findings(file).all.isEmpty)
        let copy = bench.folder.path + "/copy/m.db"
        try FileManager.default.createDirectory(
            atPath: bench.folder.path + "/copy", withIntermediateDirectories: true)
        // Every other one where something is stored: half of the file is room in the pages of small tables and indexes.
        let used = bytes.indices.filter { bytes[$0] != 0 }
        for flip in 0..<Self.flips {
            let any = Int.random(in: 0..<bytes.count * 8, using: &numbers)
            let bit = flip.isMultiple(of: 2) ? any : used[any / 8 % used.count] * 8 + any % 8
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            for end in ["", "-wal", "-shm", ".lock"] { try? FileManager.default.removeItem(atPath: copy + end) }
            try Data(damaged).write(to: URL(fileURLWithPath: copy))
            let complaint = try tally.count(engine(copy)) { Self.isFound(copy) }
            #expect(complaint == nil, "seed \(random.seed): bit \(bit % 8) of byte \(bit / 8)")
        }
        print("seed \(random.seed): \(tally)")
        #expect(tally.refused + tally.found > Self.flips / 2)
    }

    private func engine(_ path: String) -> SQLiteEngine {
        SQLiteEngine(file: DatabaseFile(path: path, rangesHeldMax: 20), logger: .silent)
    }

    private static func isFound(_ path: String) -> Bool {
        do throws(StorageError) { return try FileCheck(path: path).run { _ in } > 0 } catch { return true }
    }

    /// Eight bytes inside of a payload: what used to be served, and to pass the deep check.
    @Test func aChangedPayloadIsNeverDelivered() throws {
        let bench = try Bench(rangesHeldMax: 1)
        let name = AggregateName.new()
        let requests = try (0..<3).map { _ in
            try AppendRequest.of([.sample(#""payload-before""#)], to: name, tenant: bench.tenant)
        }
        for request in requests { try bench.writer.append(request) }
        let key = try EventKeys.key(1, Position(2))
        let changed = try SQLiteConnection(path: bench.path, creates: false).text(
            "SELECT replace(hex(entries), hex('payload-'), hex('PAYLOAD+')) FROM blocks WHERE key = \(key)")
        try RawDatabase(bench.path).run("UPDATE blocks SET entries = x'\(changed ?? "")' WHERE key = \(key)")
        let found = try Findings(bench.path)
        #expect(found.all.contains { "\($0)".contains("position 2") && "\($0)".contains("checksum") }, "\(found.all)")
        let reader = bench.engine.makeReader()
        let tenant = bench.tenant
        for direction: Direction in [.forward, .backward] {
            for bytesMax in [1, 1 << 20] {
                let bounds = PageBounds(direction: direction, bytesMax: bytesMax)
                let after = direction == .forward ? UInt64(1) : 0
                let to = direction == .forward ? UInt64(3) : 2
                for filter in [EventFilter.all, EventFilter(aggregateTypes: [name.type])] {
                    let error = refusal { () throws(StorageError) in
                        _ = try reader.page(
                            of: tenant, positions: PageRange(after: Position(after), to: Position(to)), filter: filter,
                            bounds: bounds)
                    }
                    #expect(error?.kind == .corrupted && error?.description.contains("position 2") == true)
                }
                let error = refusal { () throws(StorageError) in
                    _ = try reader.page(
                        of: name, in: tenant, versions: PageRange(after: Version(after), to: Version(to)),
                        bounds: bounds)
                }
                #expect(error?.kind == .corrupted && error?.description.contains("version 2") == true)
            }
        }
        // A retry is compared with what is stored.
        let error = refusal { () throws(StorageError) in try bench.writer.append(requests[1]) }
        #expect(error?.kind == .corrupted)
        #expect(try bench.writer.append(requests[2])?.replayed == true)
        #expect(MartletError(error ?? StorageError(.full, "")).reason == .storageCorrupted)
    }
}
