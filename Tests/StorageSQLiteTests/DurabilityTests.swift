import CMartletSQLite
import Foundation
import Logging
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// What a returned commit means, on a good disk and on a bad one.
@Suite(.blocking) struct DurabilityTests {
    @Test func everyConnectionWritesAheadAndSyncsInFull() throws {
        let bench = try Bench()
        for connection in try (0..<2).map({ _ in try SQLiteConnection(path: bench.path, creates: false) }) {
            #expect(try connection.text("PRAGMA journal_mode") == "wal")
            #expect(try connection.text("PRAGMA synchronous") == "2")
        }
        // Where no write-ahead log can be kept, nothing is.
        let error = refusal { () throws(StorageError) in _ = try SQLiteConnection(path: ":memory:", creates: true) }
        #expect(error?.description.contains("write-ahead log") == true)
    }

    @Test func aCommitReturnsAfterASyncOfAllThatItWrote() throws {
        let bench = try Bench()
        for round in 0..<30 {
            let request = try AppendRequest.sample(1 + round % 5, tenant: bench.tenant)
            let calls = try FaultyDisk.calls(bench.path) { try bench.writer.append(request) }
            #expect(calls.contains(.write("-wal")), "round \(round)")
            #expect(calls.last == .sync("-wal"), "round \(round): \(calls)")
        }
        // What is refused writes nothing.
        let refused = try AppendRequest.sample(to: .new(), .exists, tenant: bench.tenant)
        let calls = try FaultyDisk.calls(bench.path) { try bench.writer.append(refused) }
        #expect(calls == [])
    }

    @Test(arguments: [true, false])
    func aFullDiskIsToldAndNothingIsLost(_ hasReader: Bool) throws {
        let bench = try Bench()
        let reader = hasReader ? bench.engine.makeReader() : nil
        var stored: [UUID] = []
        func store(_ request: AppendRequest) throws {
            #expect(try bench.writer.append(request) != nil)
            stored += request.ids
        }
        try store(try .sample(3, tenant: bench.tenant))
        #expect(try reader?.head(of: bench.tenant).position ?? Position(3) == Position(3))
        var failures = 0
        // Whichever write of the commit fails.
        for writes in 0..<12 {
            let request = try AppendRequest.sample(40, tenant: bench.tenant)
            FaultyDisk.fail(bench.path, .full, after: writes)
            let error = refusal { () throws(StorageError) in try bench.writer.append(request) }
            if let error {
                #expect(error.kind == .full, "after \(writes) writes: \(error)")
                let answer = MartletError(error)
                #expect(answer.isRetryable && answer.reason == .storageFull)
                failures += 1
                // As long as there is no room, it is said again, and reads go on.
                FaultyDisk.fail(bench.path, .full)
                let again = refusal { () throws(StorageError) in try bench.writer.append(request) }
                #expect(again?.kind == .full, "after \(writes) writes: \(String(describing: again))")
                if let reader { #expect(try reader.events(of: bench.tenant).map(\.event.id) == stored) }
            } else {
                stored += request.ids
            }
            FaultyDisk.fail(bench.path, nil)
            // The same call, without a restart.
            let receipt = try bench.writer.append(request)
            #expect(receipt?.replayed == (error == nil))
            if error != nil { stored += request.ids }
        }
        #expect(failures > 2)
        #expect(try bench.holds(stored))
    }

    @Test func aSmallFileSystemThatFillsUpIsToldAndNothingIsLost() throws {
        let bench = try Bench(prepares: false)
        let folder = bench.folder.path + "/data"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        guard try run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder) else {
            print("skipped: no file system can be mounted here")
            return
        }
        defer { _ = try? run("umount", "-l", folder) }
        try bench.engine.prepare()
        var stored: [UUID] = []
        for round in 0..<2 {
            var refused: (request: AppendRequest, error: StorageError)?
            while refused == nil, stored.count < 1_000 {
                let request = AppendRequest.of([try .large(60_000)], tenant: bench.tenant)
                do throws(StorageError) {
                    if try bench.writer.append(request) != nil { stored += request.ids }
                } catch { refused = (request, error) }
            }
            guard let refused else { throw BenchFailure("\(stored.count) events found room in 2 MiB") }
            #expect(refused.error.kind == .full, "\(refused.error)")
            let again = refusal { () throws(StorageError) in try bench.writer.append(refused.request) }
            #expect(again?.kind == .full, "\(String(describing: again))")
            #expect(try bench.engine.makeReader().events(of: bench.tenant).map(\.event.id) == stored)
            #expect(try run("mount", "-o", "remount,size=\(4 + 2 * round)m", folder))
            #expect(try bench.writer.append(refused.request)?.replayed == false)
            stored += refused.request.ids
        }
        #expect(stored.count > 20)
        #expect(try bench.holds(stored))
    }

    @Test func afterASyncThatFailedNothingIsAcknowledged() throws {
        let bench = try Bench()
        let reader = bench.engine.makeReader()
        let first = try AppendRequest.sample(2, tenant: bench.tenant)
        try bench.writer.append(first)
        let lost = try AppendRequest.sample(2, tenant: bench.tenant)
        FaultyDisk.fail(bench.path, .sync)
        #expect(
            refusal { () throws(StorageError) in try bench.writer.append(lost) }?.kind == .outcomeUnknown)
        // The disk says that it is well again; what it may have dropped, nobody knows.
        FaultyDisk.fail(bench.path, nil)
        for _ in 0..<3 {
            let other = try AppendRequest.sample(tenant: bench.tenant)
            let error = refusal { () throws(StorageError) in try bench.writer.append(other) }
            #expect(error?.kind == .unavailable && error?.description.contains("restart the server") == true)
            let replay = refusal { () throws(StorageError) in try bench.writer.append(lost) }
            #expect(replay?.kind == .unavailable)
        }
        #expect(try reader.head(of: bench.tenant).position >= Position(2), "reads go on")
        // After a restart the call is answered, and stored once.
        let engine = SQLiteEngine(file: DatabaseFile(path: bench.path), logger: .silent)
        let restarted = engine.makeWriter()
        #expect(try restarted.append(lost)?.firstPosition == Position(3))
        let next = try AppendRequest.sample(tenant: bench.tenant)
        #expect(try restarted.append(next)?.replayed == false)
        #expect(try bench.holds(first.ids + lost.ids + next.ids, engine.makeReader()))
    }

    @Test func aWriteThatFailsLeavesTheOutcomeOpenAndTheWriterWell() throws {
        let bench = try Bench()
        var stored: [UUID] = []
        var unknown = 0
        for writes in 0..<12 {
            let request = try AppendRequest.sample(40, tenant: bench.tenant)
            FaultyDisk.fail(bench.path, .write, after: writes)
            let error = refusal { () throws(StorageError) in try bench.writer.append(request) }
            FaultyDisk.fail(bench.path, nil)
            if error != nil {
                #expect(error?.kind == .outcomeUnknown || error?.kind == .unavailable, "after \(writes) writes")
                if error?.kind == .outcomeUnknown { unknown += 1 }
            }
            #expect(try bench.writer.append(request) != nil)
            stored += request.ids
        }
        #expect(unknown > 1)
        #expect(try bench.holds(stored))
    }

    /// Runs a program; whether it went well.
    private func run(_ command: String...) throws -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus == 0
    }
}
