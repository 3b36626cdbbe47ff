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
        let server = ServerInfo(
            serverVersion: "", scope: .all, identity: "", limits: limits, serverTime: Timestamp(microseconds: 0))
        let welcome = try decoded(ServerFrame(.connection, .welcome(Welcome(protocolVersion: 1, server: server))))
        guard case .welcome(let welcome) = welcome.body else {
            Issue.record("\(welcome)")
            return
        }
        requireReason(welcome.limits)
        guard case .message(.serverInfo(let info)) = try decoded(ServerFrame(CallID(1), .serverInfo(server))).body
        else {
            Issue.record("no answer to get_server_info")
            return
        }
        requireReason(info.limits)
    }

    private func decoded(_ frame: ServerFrame) throws -> ServerFrame {
        var encoded = ByteBuffer()
        ServerFrameCodec.encode(frame, to: &encoded)
        encoded.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
        return try ServerFrameCodec.decode(encoded, limits: Limits())
    }

    private func requireReason(_ taken: Limits) {
        #expect(taken.payloadBytesMax == 1 << 40)
        #expect(taken.upcastPayloadBytesMax >= taken.payloadBytesMax)
        #expect(taken.decodeBytesMax(frameBytes: taken.frameBytesMax) > 0)
        #expect(taken.snapshotBytesMax + taken.pageBytesMax + taken.metadataBytesMax > 0)
    }
}
