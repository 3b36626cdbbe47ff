import Foundation
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import Testing
@testable import MartletStorageSQLite

/// The write-ahead log keeps its bound (Docs/OPERATIONS.md) while reads overlap without a pause.
@Suite(.blocking) struct LogBoundTests {
    private static let logBytesMax = 64 << 20
    /// Seconds over which the appends are spread: 0 for as fast as they go; `make test-log` takes a minute.
    private static let seconds = Double(ProcessInfo.processInfo.environment["MARTLET_TEST_LOG_SECONDS"] ?? "") ?? 0

    /// What the threads of a run share.
    private struct Progress {
        var isDone = false
        var largest = 0
        var reads: [Duration] = []
        var appends: [Duration] = []
    }

    @Test func sixFilteredReadersLeaveTheLogWithinItsBound() async throws {
        let bench = try Bench(rangesHeldMax: 4_096)
        let (tenant, engine, log) = (bench.tenant, bench.engine, bench.path + "-wal")
        let progress = NIOLockedValueBox(Progress())
        let appends = Self.seconds > 0 ? 1_600 : 1_000
        let text = "\"" + String(repeating: "x", count: 8_000) + "\""
        let filter = EventFilter(eventTypes: [EventType("Rare")])
        // What readers look through from the beginning.
        do {
            let writer = engine.makeWriter()
            for _ in 0..<20 { try writer.append(.of((0..<100).map { _ in try .sample(text) }, tenant: tenant)) }
        }
        _ = try await Threads.race(7) { thread in
            guard thread > 0 else {
                defer { progress.withLockedValue { $0.isDone = true } }
                let writer = engine.makeWriter()
                let names = (0..<50).map { _ in AggregateName.new() }
                let start = ContinuousClock.now
                for number in 0..<appends {
                    let request = AppendRequest.of(
                        try (0..<8).map { _ in try .sample(text) }, to: names[number % 50], tenant: tenant)
                    let begin = ContinuousClock.now
                    try writer.append(request)
                    let took = ContinuousClock.now - begin
                    let size = (try? FileManager.default.attributesOfItem(atPath: log)[.size] as? Int) ?? 0
                    progress.withLockedValue {
                        $0.largest = max($0.largest, size)
                        $0.appends.append(took)
                    }
                    let due = start + .seconds(Self.seconds * Double(number + 1) / Double(appends))
                    let left = due - .now
                    if left > .zero { Thread.sleep(forTimeInterval: left / .seconds(1)) }
                }
                return
            }
            let reader = engine.makeReader()
            while !progress.withLockedValue({ $0.isDone }) {
                var range = PageRange(after: .start, to: try reader.head(of: tenant).position)
                while range.after < range.to {
                    let begin = ContinuousClock.now
                    let page = try reader.page(
                        of: tenant, positions: range, filter: filter,
                        bounds: PageBounds(bytesMax: 256 << 10, scanMax: 10_000))
                    let took = ContinuousClock.now - begin
                    progress.withLockedValue { $0.reads.append(took) }
                    guard page.count == 0, page.scannedTo > range.after else {
                        throw BenchFailure("a page gets nowhere at \(range.after)")
                    }
                    range.after = page.scannedTo
                }
            }
        }
        let (largest, reads, commits) = progress.withLockedValue { ($0.largest, $0.reads, $0.appends) }
        print("log at most \(largest >> 20) MiB;", Self.summary("appends", commits) + ";", Self.summary("reads", reads))
        #expect(largest < Self.logBytesMax, "the log grew to \(largest >> 20) MiB")
        #expect(try engine.makeReader().head(of: tenant).position == Position(UInt64(2_000 + 8 * appends)))
    }

    private static func summary(_ what: String, _ all: [Duration]) -> String {
        let sorted = all.sorted().map { ($0 / .milliseconds(1) * 100).rounded() / 100 }
        guard let most = sorted.last else { return "no \(what)" }
        return "\(sorted.count) \(what): p50 \(sorted[sorted.count / 2]), p99 \(sorted[sorted.count * 99 / 100]), "
            + "at most \(most) ms"
    }

    /// A read that does not end: the log grows, and each commit and each other read still comes to its end.
    @Test func aReadThatDoesNotEndStopsNothingForLong() async throws {
        let bench = try Bench(rangesHeldMax: 4_096)
        let (tenant, engine, path) = (bench.tenant, bench.engine, bench.path)
        try bench.writer.append(.sample(tenant: tenant))
        let stuck = try SQLiteConnection(path: path, creates: false)
        engine.file.gate.enter()
        try stuck.run("BEGIN")
        _ = try stuck.text("SELECT count(*) FROM tenants")
        let isDone = NIOLockedValueBox(false)
        let reading = Threads.start {
            let reader = engine.makeReader()
            var (longest, count) = (Duration.zero, 0)
            while !isDone.withLockedValue({ $0 }) {
                let begin = ContinuousClock.now
                _ = try reader.head(of: tenant)
                (longest, count) = (max(longest, .now - begin), count + 1)
            }
            return (longest, count)
        }
        let text = "\"" + String(repeating: "x", count: 500_000) + "\""
        var longest = Duration.zero
        for _ in 0..<100 {
            let request = AppendRequest.of([try .sample(text)], tenant: tenant)
            let begin = ContinuousClock.now
            try bench.writer.append(request)
            longest = max(longest, .now - begin)
        }
        isDone.withLockedValue { $0 = true }
        let (longestRead, reads) = try reading.value()
        let bound = Duration.milliseconds(Checkpointer.holdMillis + Checkpointer.gateMillis + 2_000)
        #expect(longest >= .milliseconds(Checkpointer.holdMillis), "no commit waited for the read")
        #expect(longest < bound && longestRead < bound && reads > 100, "\(longest), \(longestRead), \(reads)")
        try stuck.run("COMMIT")
        engine.file.gate.leave()
        for _ in 0..<20 { try bench.writer.append(.of([.sample(text)], tenant: tenant)) }
        let pages = try stuck.checkpoint()
        #expect(pages < Checkpointer.gatePages, "the log still has \(pages) pages")
        #expect(try bench.engine.makeReader().head(of: tenant).position == Position(121))
    }

    /// The log reaches the size where commits wait while the gate is closed for a smaller one: the commit waits its time.
    @Test func aGateThatWasClosedBeforeSparesNoCommitItsWait() async throws {
        let bench = try Bench(rangesHeldMax: 4_096)
        try bench.writer.append(.sample(tenant: bench.tenant))
        let file = bench.engine.file
        let checkpointer = Checkpointer(file, logger: .silent)
        file.gate.enter()
        defer { file.gate.leave() }
        #expect(!checkpointer.committed(logPages: Checkpointer.holdPages - 1))
        while !file.gate.holdsReadsBack { try await Task.sleep(for: .milliseconds(1)) }
        let begin = ContinuousClock.now
        #expect(!checkpointer.committed(logPages: Checkpointer.holdPages))
        let waited = ContinuousClock.now - begin
        #expect(waited >= .milliseconds(Checkpointer.holdMillis), "the commit did not wait for the read")
        // The fastest of five: the machine may be busy with something else. One of them may be asked to move the rest.
        let fastest = (1...5).map { number in
            let next = ContinuousClock.now
            if checkpointer.committed(logPages: Checkpointer.holdPages + number) { checkpointer.restMoved() }
            return ContinuousClock.now - next
        }.min()
        #expect(fastest.map { $0 < .milliseconds(Checkpointer.holdMillis) } == true, "tried again at once: no help")
    }

    /// A rare match among large events holds no read transaction open while thousands of MiB go by.
    @Test(arguments: [Direction.forward, .backward])
    func aFilteredPageLooksAtBoundedBytes(_ direction: Direction) throws {
        let bench = try Bench()
        let rare = EventType("Rare")
        let name = AggregateName.new()
        for number in 1...60 {
            let event = number % 25 == 0 ? try EncodedEvent.sample(kind: "Rare") : try EncodedEvent.large(1 << 20)
            try bench.writer.append(.of([event], to: name, tenant: bench.tenant))
        }
        let reader = bench.engine.makeReader()
        var range = PageRange(after: Position.start, to: Position(60))
        var found: [UInt64] = []
        var pages = 0
        while range.after < range.to {
            let page = try reader.page(
                of: bench.tenant, positions: range, filter: EventFilter(eventTypes: [rare]),
                bounds: PageBounds(direction: direction, bytesMax: 256 << 10, scanMax: 10_000))
            let events = try RecordedEntries.decode(page.entries).map(\.position.rawValue)
            found += events
            let ends =
                direction == .forward
                ? (range.after, page.scannedTo) : (Position(page.scannedTo.rawValue - 1), range.to)
            #expect(
                ends.1.rawValue - ends.0.rawValue <= 12, "a page looked at \(ends.1.rawValue - ends.0.rawValue) MiB")
            #expect(page.isLast == (direction == .forward ? page.scannedTo == range.to : page.scannedTo == Position(1)))
            if direction == .forward { range.after = page.scannedTo } else { range.to = ends.0 }
            pages += 1
            try #require(pages <= 60)
        }
        #expect(found == (direction == .forward ? [25, 50] : [50, 25]))
        #expect(pages >= 6)
    }
}
