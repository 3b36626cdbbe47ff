import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// Workers of one event loop read their consumers' events together.
@Suite struct SharedReadingTests {
    private let accounts = (0..<64).map { AggregateName.new("account-\($0)") }

    private func readingCount(_ bench: ConsumerBench) -> Int {
        bench.service.readings(of: bench.servers[0].loop).count
    }

    /// Pages of a few events each.
    private func makeBench() throws -> ConsumerBench { try ConsumerBench { $0.pageBytesMax = 2_048 } }

    /// Appends events that are numbered, to accounts in turn.
    private func append(_ numbers: Range<Int>, _ bench: ConsumerBench) throws {
        for number in numbers { try bench.append("\(number)", to: accounts[number % accounts.count]) }
    }

    private func take(_ workers: [BenchWorker], into seen: inout [Int]) throws {
        for worker in workers {
            let got = try worker.take()
            let positions = got.map(\.event.position)
            #expect(positions == positions.sorted(), "a worker's events come in order")
            seen += got.compactMap { Int($0.payload) }
            worker.acknowledge(got)
            worker.say(.alive)
        }
    }

    @Test func workersOfAnEventLoopReadTogether() throws {
        let bench = try makeBench()
        try bench.put(ConsumerDefinition(slotCount: 32))
        try append(0..<400, bench)
        let workers = try (0..<8).map { try bench.worker("w\($0)") }
        bench.advance(.seconds(2))
        var seen: [Int] = []
        for _ in 0..<40 {
            try take(workers, into: &seen)
            bench.advance(.milliseconds(50))
            #expect(readingCount(bench) <= 3, "one, and now and then one of those who are behind")
        }
        try append(400..<500, bench)
        let before = bench.reads
        for _ in 0..<10 {
            try take(workers, into: &seen)
            bench.advance(.milliseconds(50))
        }
        #expect(Set(seen) == Set(0..<500))
        #expect(readingCount(bench) == 1)
        #expect(bench.reads - before < 60)
        for worker in workers { worker.leave() }
        bench.run()
        #expect(readingCount(bench) == 0)
        #expect(bench.service.pools.calls.bytes == 0)
    }

    @Test func consumersThatAreDefinedAlikeReadTogether() throws {
        let bench = try makeBench()
        try append(0..<20, bench)
        for name in ["a", "b"] { try bench.put(ConsumerDefinition(slotCount: 4), named: name) }
        var other = ConsumerDefinition(slotCount: 4)
        other.filter.aggregateTypes = [accounts[3].type]
        try bench.put(other, named: "c")
        let workers = try ["a", "b", "c"].map { try bench.worker("w", of: $0) }
        bench.advance(.milliseconds(100))
        #expect(readingCount(bench) == 2)
        let got = try workers.map { try $0.take().compactMap { Int($0.payload) } }
        #expect(got == [Array(0..<20), Array(0..<20), [3]])
    }

    @Test func aWorkerThatTakesNothingHoldsNobodyBack() throws {
        let bench = try makeBench()
        var definition = ConsumerDefinition(slotCount: 16)
        definition.delivery.inFlightMax = 1_000
        definition.delivery.windowEventsMax = 1_000
        try bench.put(definition)
        let fast = try (0..<3).map { try bench.worker("w\($0)") }
        let slow = try bench.worker("slow", creditBytes: 0)
        bench.advance(.seconds(2))
        var seen: [Int] = []
        try take(fast + [slow], into: &seen)
        #expect(!slow.slots.isEmpty)
        // Far more than all pages that there may be.
        try append(0..<600, bench)
        for _ in 0..<20 {
            try take(fast, into: &seen)
            slow.say(.alive)
            bench.advance(.milliseconds(50))
        }
        let own = (0..<600).filter {
            let account = accounts[$0 % accounts.count]
            return slow.slots.keys.contains(ConsumerKey(.aggregate, aggregate: account, tag: { _ in nil }).slot(of: 16))
        }
        #expect(seen.sorted() == Array(0..<600).filter { !own.contains($0) })
        #expect(!own.isEmpty && readingCount(bench) == 2)
        slow.addCredit(1 << 20)
        for number in 600..<640 {
            try append(number..<number + 1, bench)
            try take(fast + [slow], into: &seen)
            bench.advance(.milliseconds(50))
        }
        bench.advance(.milliseconds(50))
        try take(fast + [slow], into: &seen)
        #expect(seen.sorted() == Array(0..<640), "each once")
        #expect(readingCount(bench) == 1, "it has come as far as the others")
    }

    @Test func whatWasReadUnderOtherUpcastersIsReadAgain() throws {
        let bench = try makeBench()
        let put = { (steps: String) in
            _ = try bench.answer(
                .putSettings(
                    PutSettingsRequest(tenant: bench.tenant, kind: .upcasters, document: ByteBuffer(string: steps))))
        }
        // Its payload is a number.
        let operation = #"{"rename":{"path":"/none","to":"other"}}"#
        try put(#"{"upcasters":[{"event":"Happened","from":1,"operations":[\#(operation)]}]}"#)
        try append(0..<4, bench)
        for name in ["a", "b"] { try bench.put(ConsumerDefinition(slotCount: 1), named: name) }
        // It holds the page, with events that cannot be upcast.
        let holding = try bench.worker("w", of: "a", creditBytes: 0)
        bench.advance(.milliseconds(100))
        #expect(readingCount(bench) == 1)
        try put(#"{"upcasters":[{"event":"Happened","from":1,"operations":[{"type":"Mended"}]}]}"#)
        let worker = try bench.worker("w", of: "b")
        bench.advance(.milliseconds(100))
        let got = try worker.take()
        #expect(got.map(\.event.event.type.text) == Array(repeating: "Mended", count: 4))
        holding.leave()
    }

    @Test func whatWasReadOfAnotherPastIsReadAgain() throws {
        let bench = try makeBench()
        try append(0..<80, bench)
        for name in ["a", "b", "c"] { try bench.put(ConsumerDefinition(slotCount: 1), named: name) }
        // All pages that they may hold are there, so that nobody looks at the tenant any more.
        let holding = try ["a", "b"].map { try bench.worker("w", of: $0, creditBytes: 0) }
        bench.advance(.milliseconds(100))
        #expect(readingCount(bench) == 1)
        bench.engine.restore([bench.tenant: 3])
        bench.service.take(.reconnected)
        bench.run()
        try append(100..<140, bench)
        #expect(!holding[0].isOver && readingCount(bench) == 1, "it has not noticed")
        let worker = try bench.worker("w", of: "c")
        bench.advance(.milliseconds(100))
        #expect(try worker.take().compactMap { Int($0.payload) } == Array(0..<3) + Array(100..<140))
        holding[0].addCredit(1 << 20)
        bench.advance(.milliseconds(100))
        #expect(try 1..<30 ~= holding[0].take().count, "the page that it was on, and none after it")
        for worker in holding { #expect(worker.error?.reason == .historyChanged) }
    }
}
