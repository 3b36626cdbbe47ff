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
@Suite(.blocking) struct BitFlipTests {
    @Test func aThousandBitsAreFoundOrServeNothing() throws {
        let random = SeededGenerator.fromEnvironment()
        var numbers = random
        let bench = try Bench(rangesHeldMax: 20)
        let history = try BitFlipHistory(bench.engine, &numbers)
        let file = bench.folder.path + "/whole.db"
        // One file without a log, and without what is left over in pages.
        try RawDatabase(bench.path).run("VACUUM INTO '\(file)'")
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: file)))
        let before = try history.answers(of: file)
        let records = BitFlipHistory.records(in: before)
        #expect(try Findings(file).all.isEmpty)
        let copy = bench.folder.path + "/copy/m.db"
        try FileManager.default.createDirectory(
            atPath: bench.folder.path + "/copy", withIntermediateDirectories: true)
        var (byCheck, byRead, idle) = (0, 0, 0)
        for _ in 0..<1_000 {
            let bit = Int.random(in: 0..<bytes.count * 8, using: &numbers)
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            for end in ["", "-wal", "-shm", ".lock"] { try? FileManager.default.removeItem(atPath: copy + end) }
            try Data(damaged).write(to: URL(fileURLWithPath: copy))
            let after: [String]
            do throws(StorageError) { after = try history.answers(of: copy) } catch {
                byRead += 1
                continue
            }
            if after == before {
                idle += 1
            } else {
                // What ids are stored and which snapshots there are is an index's to tell.
                byCheck += 1
                #expect(
                    records.isSuperset(of: BitFlipHistory.records(in: after)) && Self.isFound(copy),
                    "seed \(random.seed): bit \(bit % 8) of byte \(bit / 8) was served")
            }
        }
        print(
            "seed \(random.seed): of 1,000 bits \(byRead) refused a read, \(byCheck) changed no event and were found by the "
                + "check, \(idle) changed nothing that is read")
        #expect(byRead + byCheck > 500)
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

/// A history, and everything that a server would read of it.
struct BitFlipHistory {
    private var tenants = (0..<2).map { _ in TenantID(UUID()) }
    private var names = (0..<5).map { AggregateName.new(["order", "cart"][$0 % 2]) }
    private var sent: [AppendRequest] = []

    init(_ engine: SQLiteEngine, _ numbers: inout SeededGenerator) throws {
        let writer = engine.makeWriter()
        for round in 0..<60 {
            var request = try AppendRequest.of(
                (0..<Int.random(in: 1...12, using: &numbers)).map { _ in
                    try .sample(#""\#(String(repeating: "x", count: Int.random(in: 0...600, using: &numbers)))""#)
                }, to: names[round % 5], tenant: tenants[round % 2])
            if round % 8 == 0 { request.aggregates[0].snapshot = NewSnapshot(payload: ByteBuffer(string: "\(round)")) }
            sent.append(request)
            try writer.append(request, now: Timestamp(microseconds: Int64(round) * 1_000))
        }
        for tenant in tenants {
            _ = try writer.apply(
                .putSettings(
                    PutSettingsRequest(
                        tenant: tenant, kind: .snapshotPolicies, document: ByteBuffer(string: #"{"policies":[]}"#))),
                now: Timestamp(microseconds: 50_000))
        }
    }

    /// Those of the answers that are events: each with its bytes, and thereby with its place.
    static func records(in answers: [String]) -> Set<String> { Set(answers.filter { $0.hasPrefix("event ") }) }

    private static func records(_ page: EventPage) throws(StorageError) -> [String] {
        var rest = page.entries
        var records: [String] = []
        do throws(RecordFault) {
            while let record = try RecordedEntries.nextRecord(of: &rest) { records.append("event \(record.hashValue)") }
        } catch { throw StorageError(.corrupted, "\(error)") }
        return records + ["\(page.count) events"]
    }

    /// What a server that opens the file answers, as text.
    func answers(of path: String) throws(StorageError) -> [String] {
        let engine = SQLiteEngine(file: DatabaseFile(path: path, rangesHeldMax: 20), logger: .silent)
        try engine.prepare()
        let reader = engine.makeReader()
        var answers: [String] = []
        for tenant in tenants {
            let standing = try reader.standing(of: tenant)
            answers.append("\(standing)")
            let settings = try reader.settings(of: tenant)
            answers.append("\(settings.revision) \(settings.documents.map { "\($0.key)\(String(buffer: $0.value))" })")
            for filter in [EventFilter.all, EventFilter(aggregateTypes: [names[1].type])] {
                for direction: Direction in [.forward, .backward] {
                    let page = try reader.page(
                        of: tenant, positions: PageRange(after: .start, to: standing.head.position), filter: filter,
                        bounds: PageBounds(direction: direction, bytesMax: .max))
                    answers += try Self.records(page)
                }
            }
            for name in names {
                let page = try reader.page(
                    of: name, in: tenant, versions: PageRange(after: .none, to: .max),
                    bounds: PageBounds(bytesMax: .max))
                answers += try Self.records(page)
                for info in try reader.snapshots(of: name, in: tenant) {
                    let stored = try reader.snapshot(of: name, in: tenant, at: info.version)
                    // One that is damaged is left out.
                    if info.isIntact, let stored, stored.isIntact { answers.append("\(stored)") }
                }
                for position in [5, 20, 60] as [UInt64] {
                    answers.append("\(try reader.version(of: name, in: tenant, asOf: Position(position)))")
                }
            }
            for micros in stride(from: Int64(0), to: 40_000, by: 7_000) {
                answers.append("\(try reader.position(of: tenant, asOf: Timestamp(microseconds: micros)))")
            }
        }
        let writer = engine.makeWriter()
        for request in sent {
            answers.append("\(try writer.append(request, now: Timestamp(microseconds: 60_000)) as AppendReceipt?)")
        }
        return answers
    }
}
