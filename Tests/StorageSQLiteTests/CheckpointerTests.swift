import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// The write-ahead log is moved beside the commits: it stays small, nothing is lost, and who closes leaves none behind.
@Suite(.blocking) struct CheckpointerTests {
    private func bytes(_ path: String) -> Int {
        (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
    }

    @Test func theLogStaysSmallWhateverIsWritten() throws {
        let bench = try Bench(rangesHeldMax: 100)
        let pageBytes = 4_096
        let text = "\"" + String(repeating: "x", count: 100_000) + "\""
        var largest = 0
        do {
            let writer = bench.engine.makeWriter()
            let names = (0..<10).map { _ in AggregateName.new() }
            for round in 0..<800 {
                let event = try EncodedEvent.sample(text)
                _ = try writer.commit(
                    [.of([event], to: names[round % 10], tenant: bench.tenant)], now: Timestamp(microseconds: 1))
                largest = max(largest, bytes(bench.path + "-wal"))
            }
            // 80 MB were written, ten times what the log is moved at.
            #expect(largest > Checkpointer.startPages * pageBytes)
            #expect(largest < 5 * Checkpointer.startPages * pageBytes, "the log grew to \(largest) bytes")
        }
        #expect(bytes(bench.path + "-wal") == 0, "the last connection was closed with the writer")
        let reader = bench.engine.makeReader()
        #expect(try reader.head(of: bench.tenant).position == Position(800))
        #expect(try bench.pragma("integrity_check") == "ok")
    }

    @Test func aWriterThatGoesTakesItsThreadAlong() throws {
        for _ in 0..<20 {
            let bench = try Bench()
            do { try bench.engine.makeWriter().append(.sample(tenant: bench.tenant)) }
            #expect(!FileManager.default.fileExists(atPath: bench.path + "-wal"))
        }
    }
}
