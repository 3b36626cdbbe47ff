import MartletHTTP2Transport
import MartletModel
import MartletService
import MartletTenants
import MartletTesting
import NIOCore
import NIOHPACK
import NIOHTTP2
import Testing

/// Answers that are longer than the client's windows.
@Suite struct SendingTests {
    /// Sends more than there is room for, at once, and its end.
    private final class Pourer: GRPCHandler {
        static let sizes = [1, 40_000, 16_384, 5, 16_379, 70_000]
        func received(_ message: ByteBuffer, of call: GRPCCall) {}
        func receivedEnd(of call: GRPCCall) {
            for (number, size) in Self.sizes.enumerated() {
                call.send(ByteBuffer(repeating: UInt8(number), count: size))
            }
            call.end(GRPCStatus(.ok, "all"))
        }
    }

    private static let services = [
        GRPCService(
            name: "a.B", methods: ["C": GRPCMethod(streamsRequests: true, streamsResponses: true) { _ in Pourer() }])
    ]
    private static let bytes = Pourer.sizes.reduce(0) { $0 + $1 + 5 }

    private func expectWhole(_ peer: HTTP2Peer, _ stream: UInt64) {
        let answer = peer.answer(stream)
        #expect(answer.code == .ok && answer.message == "all" && answer.reset == nil)
        #expect(answer.messages.map(\.readableBytes) == Pourer.sizes)
        for (number, message) in answer.messages.enumerated() {
            #expect(message.readableBytesView.allSatisfy { $0 == UInt8(number) })
        }
    }

    @Test func streamsTakeTurnsInTheConnectionsWindow() throws {
        let peer = try HTTP2Peer(window: 1 << 20, services: Self.services)
        let streams = try (0..<4).map { _ in try peer.call("/a.B/C", ByteBuffer()) }
        while peer.answer(streams[3]).bytes.readableBytes == 0 { try peer.giveWindow(1 << 14, on: 0) }
        let counts = { streams.map { peer.answer($0).bytes.readableBytes } }
        for _ in 0..<5 {
            let before = counts()
            try peer.giveWindow(4 << 14, on: 0)
            let sent = zip(counts(), before).map { $0 - $1 }
            guard zip(counts(), sent).allSatisfy({ $0 < Self.bytes && $1 > 0 }) else { break }
            #expect((sent.max() ?? 0) <= 2 << 14, "\(sent)")
        }
        try peer.giveWindow(1 << 20, on: 0)
        for stream in streams { expectWhole(peer, stream) }
    }

    /// The library at the other end closes the connection if a window is not kept.
    @Test func whateverWindowsComeEachStreamIsWhole() throws {
        var random = SeededGenerator.fromEnvironment()
        print("MARTLET_TEST_SEED=\(random.seed)")
        for _ in 0..<3 {
            let peer = try HTTP2Peer(window: Int.random(in: 0...20_000, using: &random), services: Self.services)
            let streams = try (0..<5).map { _ in try peer.call("/a.B/C", ByteBuffer()) }
            var isReset = false
            for _ in 0..<200 {
                let size = 1 << Int.random(in: 0...14, using: &random)
                switch Int.random(in: 0..<12, using: &random) {
                case 0...4: try peer.giveWindow(size, on: 0)
                case 5...9: try giveWindow(size, peer, streams[Int.random(in: 0..<5, using: &random)])
                case 10:
                    let window = Int.random(in: 0...40_000, using: &random)
                    let settings: HTTP2Settings = [HTTP2Setting(parameter: .initialWindowSize, value: window)]
                    try peer.write(HTTP2Frame(streamID: .rootStream, payload: .settings(.settings(settings))))
                default:
                    guard !isReset, !peer.answer(streams[4]).isEnded else { continue }
                    isReset = true
                    try peer.reset(streams[4])
                }
            }
            try peer.giveWindow(1 << 22, on: 0)
            for stream in streams { try giveWindow(1 << 22, peer, stream) }
            #expect(peer.goAways.isEmpty && peer.isOpen)
            for stream in streams.prefix(isReset ? 4 : 5) { expectWhole(peer, stream) }
            #expect(peer.service.pools.outbound.bytes == 0)
        }
    }

    private func giveWindow(_ bytes: Int, _ peer: HTTP2Peer, _ stream: UInt64) throws {
        if !peer.answer(stream).isEnded { try peer.giveWindow(bytes, on: stream) }
    }
}
