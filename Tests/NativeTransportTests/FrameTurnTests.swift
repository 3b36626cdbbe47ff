import FoundationEssentials
import MartletFrameCodec
import MartletModel
import MartletSession
import NIOCore
import NIOEmbedded
import Testing

/// Reads that hold more frames than one turn of the event loop takes in.
@Suite struct FrameTurnTests {
    /// The loop comes to its sockets only when no task is due: what is left of a read must not be one at once.
    @Test func theLoopLooksAfterItsSocketsBetweenTwoTurns() throws {
        let served = try ServedPeer(Limits())
        var read = ByteBuffer()
        for call in 1...300 as ClosedRange<UInt64> {
            ClientFrameCodec.encode(
                ClientFrame(CallID(call), .request(.getHead(TenantID(UUID())))), to: &read)
        }
        try served.receive(read)
        #expect(try served.answered().count == 128)
        #expect(try served.answered().count == 128, "the rest waits for the loop's next turn")
        #expect(!served.isReading, "nor is more read")
        served.loop.advanceTime(by: .microseconds(50))
        #expect(try served.answered().count == 256)
        served.loop.advanceTime(by: .microseconds(50))
        #expect(try served.answered().count == 300)
        #expect(served.isReading)
    }
}
