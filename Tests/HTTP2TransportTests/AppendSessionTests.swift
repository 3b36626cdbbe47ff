import FoundationEssentials
import MartletFrameCodec
import MartletModel
import MartletTesting
import NIOCore
import NIOHTTP2
import Testing

/// Appends that go through one stream.
@Suite struct AppendSessionTests {
    private static let path = "/martlet.v1.AppendService/AppendSession"
    private let tenant = TenantID(UUID())
    private let order = AggregateName.new()

    private func message(
        _ requestID: UInt8, expecting expected: ExpectedVersion, conflicts: Bool = false, bytes: Int = 2
    ) throws -> ByteBuffer {
        let event = try EncodedEvent.sample(String(repeating: "1", count: bytes))
        var request = AppendRequest(
            tenant: tenant, aggregates: [AggregateAppend(aggregate: order, expected: expected, events: [event])])
        request.includeConflictingEvents = conflicts
        let append = BareMessages.encode(.append(request)).message
        var message = ByteBuffer(bytes: [1 << 3, requestID, 2 << 3 | 2])
        // A length of three bytes, whatever it is.
        let length = append.readableBytes
        message.writeBytes([UInt8(length & 0x7F) | 0x80, UInt8(length >> 7 & 0x7F) | 0x80, UInt8(length >> 14)])
        message.writeImmutableBuffer(append)
        return message
    }

    /// What came: request ids, and whether they are receipts.
    private func outcomes(_ peer: HTTP2Peer, _ stream: UInt64) -> [String] {
        peer.answer(stream).messages.map { message in
            let bytes = Array(message.readableBytesView)
            return "\(bytes[1]):\(bytes[2] >> 3 == 2 ? "stored" : "refused")"
        }
    }

    @Test func appendsAreDecidedInOrderAndAConflictEndsNothing() throws {
        let peer = try HTTP2Peer()
        let stream = try peer.begin(Self.path)
        var all = ByteBuffer()
        for (id, version) in [(1, 0), (2, 1), (3, 1), (7, 2)] as [(UInt8, UInt64)] {
            all.writeImmutableBuffer(
                HTTP2Peer.prefixed(try message(id, expecting: .exact(Version(version)), conflicts: true)))
        }
        try peer.send(all, on: stream)
        #expect(outcomes(peer, stream).sorted() == ["1:stored", "2:stored", "3:refused", "7:stored"])
        #expect(peer.answer(stream).code == nil)
        let refusal = try #require(
            peer.answer(stream).messages.first { $0.getInteger(at: $0.readerIndex + 1) == UInt8(3) })
        #expect(refusal.readableBytes > 200, "the event that came in between travels")
        try peer.send(ByteBuffer(), on: stream, isLast: true)
        #expect(peer.answer(stream).code == .ok)
    }

    @Test func numbersThatDoNotRiseEndIt() throws {
        let peer = try HTTP2Peer()
        for ids in [[0], [5, 5], [5, 4]] as [[UInt8]] {
            let stream = try peer.begin(Self.path)
            for id in ids { try peer.send(message: try message(id, expecting: .any), on: stream) }
            #expect(peer.answer(stream).code == .invalidArgument)
        }
    }

    @Test func aRequestThatCannotBeReadIsAnsweredForItself() throws {
        let peer = try HTTP2Peer()
        let stream = try peer.begin(Self.path)
        // An append without a tenant.
        try peer.send(message: ByteBuffer(bytes: [1 << 3, 1, 2 << 3 | 2, 0]), on: stream)
        try peer.send(message: try message(2, expecting: .any), on: stream)
        #expect(outcomes(peer, stream) == ["1:refused", "2:stored"])
    }

    /// A client that sends without end and reads nothing is not read any further.
    @Test func whoReadsNoAnswersWaits() throws {
        let peer = try HTTP2Peer(window: 0)
        let stream = try peer.begin(Self.path)
        try peer.giveWindow(200, on: stream)
        var sent = 0
        for id in 1...100 {
            try peer.send(message: try message(UInt8(id), expecting: .any), on: stream)
            sent += 1
        }
        let stored = try head(peer)
        #expect(stored < 20, "\(stored) of \(sent) were taken while no answer was")
        try peer.giveWindow(100_000, on: stream)
        #expect(outcomes(peer, stream) == (1...100).map { "\($0):stored" })
    }

    /// Sessions whose answers nobody reads do not hold up other calls of the connection.
    @Test func whoReadsNoAnswersHoldsUpNobody() throws {
        let peer = try HTTP2Peer(window: 0)
        for _ in 0..<8 {
            let stream = try peer.begin(Self.path)
            // Those that are not taken fill the stream's window.
            for id in 1...120 {
                try peer.send(message: try message(UInt8(id), expecting: .any, bytes: 2_000), on: stream)
            }
        }
        let before = try head(peer)
        let other = try peer.begin("/martlet.v1.AppendService/Append")
        try peer.giveWindow(10_000, on: other)
        var request = ByteBuffer()
        var whole = try message(1, expecting: .any, bytes: 60_000)
        // The append alone: behind the number, a key and a length of three bytes.
        whole.moveReaderIndex(forwardBy: 6)
        request.writeImmutableBuffer(whole)
        try peer.send(message: request, on: other, isLast: true)
        #expect(peer.answer(other).code == .ok)
        #expect(try head(peer) == before + 1)
    }

    private func head(_ peer: HTTP2Peer) throws -> UInt64 {
        let stream = try peer.call("/martlet.v1.QueryService/GetHead", BareMessages.encode(.getHead(tenant)).message)
        try peer.giveWindow(1_000, on: stream)
        let message = try #require(peer.answer(stream).messages.first)
        guard case .head(let head) = try BareMessages.answer(message, to: .getHead, limits: Limits()) else { return 0 }
        return head.position.rawValue
    }
}
