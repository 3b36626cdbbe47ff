import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// Lists of snapshots come from what is known of them: their states, which may be large, are not read.
@Suite(.blocking) struct SnapshotListTests {
    private static let states = [#"{"n":1}"#, #"{"n":22}"#, #"{"n":333}"#]

    /// States that are damaged where they lie: a list says what it said before, and a load finds it.
    @Test func aListReadsNoState() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let writer = bench.writer
        try writer.append(AppendRequest.of((0..<9).map { _ in try .sample() }, to: name, tenant: bench.tenant))
        for (index, state) in Self.states.enumerated() {
            _ = try writer.apply(
                .saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: bench.tenant, aggregate: name, version: Version(UInt64(3 * index + 3)),
                        snapshot: NewSnapshot(payload: ByteBuffer(string: state))), kept: 3), now: .now())
        }
        let reader = bench.engine.makeReader()
        let before = try reader.snapshots(of: name, in: bench.tenant)
        #expect(before.map(\.version.rawValue) == [9, 6, 3])
        #expect(before.map(\.payloadBytes) == Self.states.reversed().map(\.utf8.count))
        #expect(!before.contains { !$0.isIntact })
        try RawDatabase(bench.path).run("UPDATE snapshots SET payload = zeroblob(length(payload))")
        #expect(try reader.snapshots(of: name, in: bench.tenant) == before)
        for info in before {
            let loaded = try #require(try reader.snapshot(of: name, in: bench.tenant, at: info.version))
            #expect(!loaded.isIntact)
        }
        try RawDatabase(bench.path).run("UPDATE snapshots SET payload = x'00'")
        let shorter = try reader.snapshots(of: name, in: bench.tenant)
        #expect(shorter.count == 3 && !shorter.contains { $0.isIntact })
    }

    /// What was read from the file, not what was answered: while columns lay behind the state, a list of 100 states of 1 MiB
    /// read 105 MB.
    @Test func aListOfLargeStatesTakesFewReads() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let writer = bench.writer
        try writer.append(AppendRequest.of((0..<50).map { _ in try .sample() }, to: name, tenant: bench.tenant))
        for version in UInt64(1)...50 {
            let state = NewSnapshot(
                contentType: "application/octet-stream", payload: ByteBuffer(repeating: UInt8(version), count: 1 << 20))
            _ = try writer.apply(
                .saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: bench.tenant, aggregate: name, version: Version(version), snapshot: state), kept: 50),
                now: .now())
        }
        let reader = bench.engine.makeReader()
        let before = try Self.bytesReadByThread()
        #expect(try reader.snapshots(of: name, in: bench.tenant).count == 50)
        let bytes = try Self.bytesReadByThread() - before
        #expect(bytes > 0 && bytes < 2 << 20, "\(bytes) bytes were read")
    }

    private static func bytesReadByThread() throws -> Int {
        let text = try String(contentsOfFile: "/proc/thread-self/io", encoding: .utf8)
        let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("rchar:") })
        return try #require(Int(line.drop { !$0.isNumber }))
    }
}
