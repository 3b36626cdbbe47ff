import FoundationEssentials
import MartletModel
import MartletStorage
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// What workers' calls hold is on the account of their tenant.
@Suite struct ConsumerMemoryTests {
    private static let account = AggregateName.new()

    private func held(_ bench: ConsumerBench) -> Int { bench.service.pools.calls.bytes(of: .tenant(bench.tenant)) }

    @Test func aPageCountsAsTheBufferThatItKeeps() throws {
        let bench = try ConsumerBench()
        var definition = ConsumerDefinition(slotCount: 1)
        definition.filter.eventTypes = [EventType("Wanted")]
        try bench.put(definition)
        let worker = try bench.worker("a")
        _ = try worker.take()
        worker.connection.isWritable = false
        let before = held(bench)
        let text = { (count: Int) in "\"" + String(repeating: "x", count: count) + "\"" }
        let events = try [
            EncodedEvent.sample(text(300_000), kind: "Wanted"), EncodedEvent.sample(text(100_000), kind: "Unwanted"),
        ]
        _ = try bench.answer(.append(.of(events, to: Self.account, tenant: bench.tenant)))
        bench.run()
        #expect(held(bench) - before >= 400_000, "the slice keeps both events")
        worker.connection.isWritable = true
        worker.connection.pump()
        bench.run()
        worker.acknowledge(try worker.take())
        worker.leave()
        bench.run()
        #expect(bench.service.pools.calls.bytes == 0)
    }

    @Test func aSmallPartOfABufferDoesNotKeepIt() {
        var buffer = ByteBuffer()
        buffer.writeRepeatingByte(7, count: 1 << 20)
        let small = buffer.getSlice(at: 1_000, length: 1_000)
        let large = buffer.getSlice(at: 0, length: 600_000)
        #expect(small?.storageCapacity == 1 << 20, "a slice does")
        #expect(small?.withoutLooseMemory() == small && small?.withoutLooseMemory().storageCapacity ?? 0 <= 2_000)
        #expect(large?.withoutLooseMemory().storageCapacity == 1 << 20)
    }

    @Test func progressThatWaitsToBeStoredIsOnTheAccount() throws {
        let bench = try ConsumerBench()
        try bench.put(ConsumerDefinition(slotCount: 1))
        for number in 0..<41 { try bench.append("\(number)", to: .new()) }
        let worker = try bench.worker("a")
        let got = try worker.take()
        // Stored at once; what comes next waits for a while.
        worker.acknowledge(Array(got.prefix(1)))
        bench.run()
        let before = held(bench)
        let reason = String(repeating: "r", count: 1_000)
        worker.say(got.dropFirst().map { .reject($0.delivery.number, .park, reason: reason) })
        #expect(held(bench) - before > 20_000, "the reasons, less what the events' places took")
        bench.advance(.milliseconds(200))
        #expect(held(bench) < before + 10_000)
        #expect(try bench.describe().blockedKeyCount == 40)
        worker.leave()
        bench.run()
        #expect(bench.service.pools.calls.bytes == 0)
    }

    @Test func progressThatFindsNoRoomIsStoredLater() throws {
        let bench = try ConsumerBench()
        try bench.put(ConsumerDefinition(slotCount: 1))
        for number in 0..<4 { try bench.append("\(number)", to: .new()) }
        let worker = try bench.worker("a")
        let got = try worker.take()
        let pool = bench.service.pools.calls
        let other = FairPool.Holder.tenant(TenantID(UUID(high: 9, low: 9)))
        _ = pool.takeAlways(pool.bytesMax, for: other)
        worker.acknowledge(got)
        bench.advance(.seconds(1))
        _ = try worker.take()
        #expect(worker.committed.isEmpty)
        pool.give(pool.bytesMax, for: other)
        worker.say(.alive)
        bench.advance(.seconds(1))
        _ = try worker.take()
        #expect(worker.committed[0]?.position == Position(4))
    }
}
