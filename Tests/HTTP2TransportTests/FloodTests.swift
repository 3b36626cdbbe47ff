import FoundationEssentials
import MartletFrameCodec
import MartletHTTP2Transport
import MartletModel
import MartletService
import MartletTenants
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOHPACK
import NIOHTTP2
import Testing

/// What a peer may send that carries nothing, and what is held for it.
@Suite struct FloodTests {
    private static let headPath = "/martlet.v1.QueryService/GetHead"
    private static let appendPath = "/martlet.v1.AppendService/Append"
    private let head = BareMessages.encode(.getHead(TenantID(UUID()))).message

    private func limits(controlFramesMax: Int) -> Limits {
        var limits = Limits()
        limits.controlFramesMax = controlFramesMax
        limits.controlFramesPerSecondMax = 1
        return limits
    }

    private func expectCalm(_ peer: HTTP2Peer, _ text: String = "too_many_pings") throws {
        let last = try #require(peer.goAways.last)
        #expect(last.code == .enhanceYourCalm && last.text.contains(text), "\(last)")
        #expect(!peer.isOpen)
    }

    @Test func framesThatCarryNothingArePaidFor() throws {
        let frames: [HTTP2Frame.FramePayload] = [
            .ping(HTTP2PingData(), ack: false), .ping(HTTP2PingData(), ack: true),
            .priority(.init(exclusive: false, dependency: .rootStream, weight: 1)),
            .windowUpdate(windowSizeIncrement: 1),
            .goAway(lastStreamID: .rootStream, errorCode: .noError, opaqueData: nil),
        ]
        for payload in frames {
            let peer = try HTTP2Peer(limits(controlFramesMax: 60))
            let stream = try peer.begin(Self.headPath)
            if case .goAway = payload { try peer.reset(stream) }
            let isOfStream = if case .priority = payload { true } else { false }
            for _ in 0..<60 where peer.isOpen {
                try peer.write(HTTP2Frame(streamID: isOfStream ? HTTP2StreamID(1) : .rootStream, payload: payload))
            }
            try expectCalm(peer)
        }
    }

    @Test func aSettingCountsForMany() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 100))
        let settings: HTTP2Settings = [HTTP2Setting(parameter: .initialWindowSize, value: 70_000)]
        for _ in 0..<7 where peer.isOpen {
            try peer.write(HTTP2Frame(streamID: .rootStream, payload: .settings(.settings(settings))))
        }
        try expectCalm(peer)
    }

    @Test func aFrameOfManySettingsIsRefused() throws {
        let peer = try HTTP2Peer()
        let settings = (0..<33).map { HTTP2Setting(parameter: .initialWindowSize, value: 70_000 + $0) }
        try peer.write(HTTP2Frame(streamID: .rootStream, payload: .settings(.settings(settings))))
        try expectCalm(peer, "at most 32")
    }

    @Test func resetsArePaidForAndCallsEarn() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 60))
        for _ in 0..<80 { #expect(try peer.answer(peer.call(Self.headPath, head)).code == .ok) }
        #expect(peer.isOpen)
        for _ in 0..<61 where peer.isOpen { try peer.reset(peer.begin(Self.headPath)) }
        try expectCalm(peer)
    }

    @Test func crumbsOfAMessageArePaidFor() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 60))
        let stream = try peer.begin(Self.appendPath)
        var bytes = HTTP2Peer.prefixed(ByteBuffer(repeating: 0, count: 1_000))
        while peer.isOpen, let crumb = bytes.readSlice(length: 1) { try peer.send(crumb, on: stream) }
        try expectCalm(peer)
        #expect(bytes.readableBytes > 900)
    }

    @Test func emptyDataIsPaidFor() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 60))
        let stream = try peer.begin(Self.appendPath)
        for _ in 0..<60 where peer.isOpen { try peer.send(ByteBuffer(), on: stream) }
        try expectCalm(peer)
    }

    @Test func aPrefixInAFrameOfItsOwnIsFree() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 60))
        for _ in 0..<80 {
            let stream = try peer.begin(Self.headPath)
            var bytes = HTTP2Peer.prefixed(head)
            try peer.send(bytes.readSlice(length: 5) ?? ByteBuffer(), on: stream)
            try peer.send(bytes, on: stream, isLast: true)
            #expect(peer.answer(stream).code == .ok)
        }
        #expect(peer.isOpen)
    }

    @Test func malformedRequestsArePaidForMoreThanOnce() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 100))
        let other = try peer.begin(Self.headPath)
        let stream = try peer.begin(Self.headPath, [("x-test", "ends with a blank ")])
        #expect(peer.answer(stream).reset == .protocolError)
        try peer.send(message: head, on: other, isLast: true)
        #expect(peer.answer(other).code == .ok, "others go on")
        for _ in 0..<11 where peer.isOpen { _ = try peer.begin(Self.headPath, [("x-test", "\tbegins with one")]) }
        try expectCalm(peer)
    }

    @Test func aMessageThatIsOneByteLongerThanTheWindowIsLetIn() throws {
        // With its prefix 65,534 bytes to 65,538.
        for length in 65_529...65_533 {
            let peer = try HTTP2Peer()
            let stream = try peer.begin(Self.appendPath)
            var bytes = HTTP2Peer.prefixed(ByteBuffer(repeating: 0, count: length))
            try peer.send(bytes.readSlice(length: min(65_535, bytes.readableBytes)) ?? ByteBuffer(), on: stream)
            #expect(peer.windowUpdates[stream, default: 0] >= bytes.readableBytes, "\(length)")
        }
    }

    @Test func crumbsBetweenMuchMoreAreFree() throws {
        let peer = try HTTP2Peer(limits(controlFramesMax: 60))
        let stream = try peer.begin(Self.appendPath)
        var bytes = HTTP2Peer.prefixed(ByteBuffer(repeating: 0, count: 400 * 4_100))
        // As records of TLS that end 9 bytes before a frame does.
        while peer.isOpen, let most = bytes.readSlice(length: 4_091), let crumb = bytes.readSlice(length: 9) {
            try peer.send(most, on: stream)
            try peer.send(crumb, on: stream)
        }
        #expect(peer.isOpen && bytes.readableBytes < 4_100)
    }

    /// Answers each message while it is being taken in.
    private final class Echo: GRPCHandler {
        func received(_ message: ByteBuffer, of call: GRPCCall) { call.send(ByteBuffer(string: "taken")) }
        func receivedEnd(of call: GRPCCall) { call.end(GRPCStatus(.ok, "")) }
    }

    @Test func windowsComeBackWhereAnswersAreWrittenWithinAFrame() throws {
        let peer = try HTTP2Peer()
        let junk = ByteBuffer(repeating: 255, count: 8_000)
        for _ in 0..<60 { #expect(try peer.answer(peer.call(Self.headPath, junk)).isEnded) }
        let echo = GRPCMethod(streamsRequests: true, streamsResponses: true) { _ in Echo() }
        let other = try HTTP2Peer(services: [GRPCService(name: "a.B", methods: ["C": echo])])
        let stream = try other.begin("/a.B/C")
        for _ in 0..<100 { try other.send(message: ByteBuffer(repeating: 1, count: 8_000), on: stream) }
        #expect(other.answer(stream).messages.count == 100)
    }

    /// A field of the static table is a byte, a long one of the client's table is two.
    @Test(arguments: [(70, 5, 0), (5, 240, 1), (5, 4, 3_600)])
    func aTurnTakesInFewBlocksOfManyFields(_ callsMax: Int, _ fields: Int, _ bytes: Int) throws {
        let begun = NIOLockedValueBox(0)
        let method = GRPCMethod(streamsRequests: true) { _ in
            begun.withLockedValue { $0 += 1 }
            return Echo()
        }
        let peer = try HTTP2Peer(services: [GRPCService(name: "a.B", methods: ["C": method])])
        let value = String(repeating: "x", count: bytes)
        let extra = (0..<fields).map { _ in bytes > 1 ? ("x-long", value) : ("accept-encoding", "gzip, deflate") }
        // The table is filled.
        _ = try peer.begin("/a.B/C", extra)
        try peer.beginTogether(300, "/a.B/C", extra)
        let inOneTurn = begun.withLockedValue { $0 } - 1
        #expect(inOneTurn > 0 && inOneTurn <= callsMax, "\(inOneTurn)")
        for _ in 0..<1_000 where begun.withLockedValue({ $0 }) < 301 { try peer.advance(.microseconds(50)) }
        #expect(begun.withLockedValue { $0 } == 301, "the others have their turns")
        #expect(peer.isOpen)
    }

    @Test func openCallsAreOnTheAccount() throws {
        var limits = Limits()
        limits.callBytesMax = 1 << 20
        let peer = try HTTP2Peer(limits)
        let pool = peer.service.pools.calls
        let few = try (0..<20).map { _ in try peer.begin(Self.headPath) }
        #expect(pool.bytes == 0, "a few are free")
        let many = try (0..<80).map { _ in
            try peer.begin(Self.headPath, [("x-test", String(repeating: "x", count: 10_000))])
        }
        #expect(pool.bytes > 400_000 && pool.bytes <= 512 << 10, "half of the pool is the most for one")
        let refused = many.filter { peer.answer($0).code == .resourceExhausted }
        #expect(refused.count > 10 && refused.count < 60)
        for stream in few + many where !peer.answer(stream).isEnded { try peer.reset(stream) }
        #expect(pool.bytes <= 64 << 10)
        #expect(try peer.answer(peer.call(Self.headPath, head)).code == .ok)
    }
}
