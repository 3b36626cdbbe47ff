import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletFrameCodec

/// A welcome is from a server that the client has not yet any reason to trust.
@Suite struct HostileWelcomeTests {
    /// What clients compute from a server's limits does not overflow, whatever these are.
    @Test func limitsWithoutReasonAreTakenWithin() throws {
        var limits = Limits()
        for path in [\Limits.frameBytesMax, \.payloadBytesMax, \.metadataBytesMax, \.snapshotBytesMax] {
            limits[keyPath: path] = 1 << 57
        }
        var encoded = ByteBuffer()
        ServerFrameCodec.encode(
            ServerFrame(
                .connection,
                .welcome(
                    Welcome(
                        protocolVersion: 1, serverVersion: "", scope: .all, identity: "", limits: limits,
                        serverTime: Timestamp(microseconds: 0)))), to: &encoded)
        encoded.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
        let frame = try ServerFrameCodec.decode(encoded, limits: Limits())
        guard case .welcome(let welcome) = frame.body else {
            Issue.record("\(frame)")
            return
        }
        let taken = welcome.limits
        #expect(taken.payloadBytesMax == 1 << 40)
        #expect(taken.upcastPayloadBytesMax >= taken.payloadBytesMax)
        #expect(taken.decodeBytesMax(frameBytes: taken.frameBytesMax) > 0)
        #expect(taken.snapshotBytesMax + taken.pageBytesMax + taken.metadataBytesMax > 0)
    }
}
