import Foundation
import Logging
import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// A checkpoint that the disk refuses, after another one has moved a part of the log without a sync.
@Suite(.blocking) struct CheckpointFailureTests {
    struct Case: CustomTestStringConvertible {
        var fault: FaultyDisk.Fault
        /// Whose checkpoint it is: that of the writer, after a commit, or of the thread beside it.
        var isWriters: Bool

        var testDescription: String { "\(fault) in the checkpoint of the \(isWriters ? "writer" : "thread")" }
    }

    private static let refused: [Case] = [FaultyDisk.Fault.sync, .write].flatMap { fault in
        [true, false].map { Case(fault: fault, isWriters: $0) }
    }

    /// Pages that were moved before may be lost, and the log alone has their events.
    @Test(arguments: refused) func whatWasAcknowledgedStaysInTheLog(_ failing: Case) async throws {
        let bench = try Bench()
        let log = CapturedLog()
        let synced = try HalfMoved.copy(of: bench)
        var stored: [UUID] = []
        do {
            var half: HalfMoved? = try HalfMoved(bench, logger: log.logger)
            try await half?.fail(failing)
            // The disk says that it is well again.
            FaultyDisk.fail(bench.path, nil)
            for _ in 0..<3 {
                let error = refusal { () throws(StorageError) in try half?.append() }
                #expect(error?.kind == .unavailable && error?.description.contains("restart the server") == true)
            }
            let calls = FaultyDisk.calls(bench.path) {
                #expect(throws: SQLiteFault.self) { try bench.engine.file.open().checkpoint() }
            }
            #expect(calls == [], "no other checkpoint is made")
            stored = half?.stored ?? []
            #expect(try half?.reader.events(of: bench.tenant).map(\.event.id) == stored, "reads go on")
            half = nil
        }
        #expect(log.lines.filter { $0.hasPrefix("critical") }.count == 1, "\(log.lines)")
        // The disk has of the database what was synced, and of the log all.
        let disk = bench.folder.path + "/disk"
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
        try FileManager.default.moveItem(atPath: synced, toPath: disk + "/m.db")
        if FileManager.default.fileExists(atPath: bench.path + "-wal") {
            try FileManager.default.copyItem(atPath: bench.path + "-wal", toPath: disk + "/m.db-wal")
        }
        for path in [disk + "/m.db", bench.path] {
            let restarted = SQLiteEngine(file: DatabaseFile(path: path), logger: .silent)
            #expect(try restarted.makeReader().events(of: bench.tenant).map(\.event.id) == stored, "\(path)")
            let next = try AppendRequest.sample(tenant: bench.tenant)
            #expect(try restarted.makeWriter().append(next)?.replayed == false)
            #expect(!FileManager.default.fileExists(atPath: path + "-wal"), "a start on a good disk moves the log")
        }
    }

    /// What finds no room was not taken by the system: it is written again.
    @Test(arguments: [true, false]) func aFullDiskIsTriedAgain(_ isWriters: Bool) async throws {
        let bench = try Bench()
        let log = CapturedLog()
        let half = try HalfMoved(bench, logger: log.logger)
        try await half.fail(Case(fault: .full, isWriters: isWriters))
        try half.append()
        FaultyDisk.fail(bench.path, nil)
        try half.append()
        #expect(log.lines.contains { $0.hasPrefix("warning") } && !log.lines.contains { $0.hasPrefix("critical") })
        let calls = try FaultyDisk.calls(bench.path) { try bench.engine.file.open().checkpoint() }
        #expect(calls.last == .sync(""))
        #expect(try bench.holds(half.stored, half.reader))
    }
}

/// A file a part of whose log has been moved into the database, which syncs nothing, while a read needs the rest.
private final class HalfMoved {
    let reader: any StorageReader
    private(set) var stored: [UUID] = []
    private let bench: Bench
    private let writer: SQLiteWriter
    private let reading: SQLiteConnection

    /// The database as it was synced last.
    static func copy(of bench: Bench) throws -> String {
        let path = bench.folder.path + "/synced"
        try FileManager.default.copyItem(atPath: bench.path, toPath: path)
        return path
    }

    init(_ bench: Bench, logger: Logger) throws {
        self.bench = bench
        reader = bench.engine.makeReader()
        writer = SQLiteWriter(file: bench.engine.file, logger: logger)
        reading = try bench.engine.file.open()
        for _ in 0..<5 { try append() }
        try reading.run("BEGIN")
        _ = try reading.text("SELECT count(*) FROM tenants")
        for _ in 0..<5 { try append() }
        let calls = try FaultyDisk.calls(bench.path) { try bench.engine.file.open().checkpoint() }
        guard calls.contains(.write("")), !calls.contains(.sync("")) else {
            throw BenchFailure("a checkpoint of a part of the log: \(calls)")
        }
    }

    func append() throws(StorageError) {
        let request: AppendRequest
        do { request = try .sample(3, tenant: bench.tenant) } catch {
            throw StorageError(.unavailable, "no sample: \(error)")
        }
        if try writer.append(request) != nil { stored += request.ids }
    }

    /// Has the next checkpoint move the rest, and the disk refuse that.
    func fail(_ failing: CheckpointFailureTests.Case) async throws {
        guard let checkpointer = writer.checkpointer else { throw BenchFailure("the writer has no checkpointer") }
        if failing.isWriters {
            #expect(!checkpointer.committed(logPages: Checkpointer.startPages))
            while !checkpointer.isRestDue { try await Task.sleep(for: .milliseconds(1)) }
        }
        try reading.run("COMMIT")
        FaultyDisk.fail(bench.path, failing.fault, isWhole: true)
        if failing.isWriters {
            try append()
        } else {
            // Waits until the thread has tried.
            #expect(!checkpointer.committed(logPages: Checkpointer.holdPages))
        }
    }
}
