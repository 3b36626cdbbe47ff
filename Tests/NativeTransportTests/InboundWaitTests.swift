import FoundationEssentials
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletTenants
import MartletTesting
import NIOCore
import NIOEmbedded
import Testing

/// A connection that finds no room for a frame stops reading. What the socket had delivered by then still comes in, and
/// may be the rest of that frame.
@Suite struct InboundWaitTests {
    private let rival = FairPool.Holder.tenant(TenantID(UUID()))

    private func append(_ call: UInt64, payloadBytes: Int) throws -> ByteBuffer {
        let event = try EncodedEvent.sample(String(repeating: "x", count: payloadBytes), contentType: "text/plain")
        let request = CallRequest.append(.of([event], tenant: TenantID(UUID())))
        var frame = ByteBuffer()
        ClientFrameCodec.encode(ClientFrame(CallID(call), .request(request)), to: &frame)
        return frame
    }

    private func cut(_ bytes: Int, from frame: inout ByteBuffer) throws -> ByteBuffer {
        let part = frame.readSlice(length: bytes)
        return try #require(part)
    }

    @Test func aFrameThatBecameWholeIsNotWaitedFor() throws {
        var limits = Limits()
        limits.writeStallMillis = 1_000
        let served = try ServedPeer(limits)
        let pool = served.pool
        _ = pool.takeAlways(pool.bytesMax, for: rival)
        var frame = try append(1, payloadBytes: 100_000)
        try served.receive(try cut(70_000, from: &frame))
        #expect(!served.isReading)
        try served.receive(frame)
        #expect(served.isReading, "it waits for a frame that it has")
        #expect(try served.answered() == [CallID(1)])
        served.loop.advanceTime(by: .seconds(10))
        #expect(try served.faults() == [], "it waited too long for nothing")
        pool.give(pool.bytesMax, for: rival)
        served.loop.run()
        #expect(pool.bytes == 0, "room is held for no frame")
    }

    @Test func aFrameThatIsNotWholeIsWaitedFor() throws {
        var limits = Limits()
        limits.writeStallMillis = 1_000
        let served = try ServedPeer(limits)
        _ = served.pool.takeAlways(served.pool.bytesMax, for: rival)
        var frame = try append(1, payloadBytes: 100_000)
        for length in [70_000, 10_000, 10_000] {
            try served.receive(try cut(length, from: &frame))
            #expect(!served.isReading)
        }
        served.loop.advanceTime(by: .seconds(10))
        #expect(try served.faults() == [.limitExceeded])
    }

    /// The grant for the first frame is on its way when the second one is waited for.
    @Test func aLateGrantIsNotTakenForTheNextFrame() throws {
        let served = try ServedPeer(Limits())
        let (pool, holder) = (served.pool, served.holder)
        _ = pool.takeAlways(pool.bytesMax, for: rival)
        var first = try append(1, payloadBytes: 100_000)
        var second = try append(2, payloadBytes: 150_000)
        let secondBytes = second.readableBytes
        try served.receive(try cut(70_000, from: &first))
        pool.give(pool.bytesMax, for: rival)
        #expect(pool.bytes(of: holder) > 100_000 && !served.isReading, "granted, and not known yet")
        _ = pool.takeAlways(pool.bytesMax, for: rival)
        first.writeImmutableBuffer(try cut(70_000, from: &second))
        try served.receive(first)
        #expect(pool.bytes(of: holder) == 0 && !served.isReading)
        served.loop.run()
        #expect(pool.bytes(of: holder) == 0 && !served.isReading, "the grant was for another frame")
        pool.give(pool.bytesMax, for: rival)
        served.loop.run()
        #expect(pool.bytes(of: holder) == secondBytes && served.isReading)
        try served.receive(second)
        #expect(pool.bytes == 0)
        #expect(try served.answered() == [CallID(1), CallID(2)])
    }
}
