import FoundationEssentials
import MartletFrameCodec
import MartletModel
import MartletSession
import NIOCore
import Testing

/// What a subscriber says of the last event that it saw, and what it is told of another past.
@Suite struct HistoryFrameTests {
    private static let tenant = TenantID(UUID())
    private static let id = UUID()

    private func request(_ start: SubscriptionStart, lastSeen: UInt64) -> ClientFrame {
        ClientFrame(
            CallID(1),
            .request(
                .subscribe(
                    SubscribeRequest(
                        tenant: Self.tenant, start: start,
                        lastSeen: EventMark(position: Position(lastSeen), eventID: Self.id)))), creditBytes: 1)
    }

    private func decoded(_ frame: ClientFrame) throws -> ClientFrame {
        var bytes = ByteBuffer()
        ClientFrameCodec.encode(frame, to: &bytes)
        var decoder = FrameDecoder(limits: Limits())
        decoder.feed(bytes)
        return try ClientFrameCodec.decode(try #require(try decoder.next()), limits: Limits())
    }

    @Test(arguments: [(UInt64(5), UInt64(5)), (5, 1), (.max, 7)]) func theLastEventSeenComesThrough(
        _ after: UInt64, _ seen: UInt64
    ) throws {
        let frame = request(.after(Position(after)), lastSeen: seen)
        #expect(try decoded(frame) == frame)
    }

    @Test func itGoesWithAPositionAndIsNotBeyondIt() throws {
        let starts: [(SubscriptionStart, UInt64)] = [
            (.after(Position(5)), 6), (.after(Position(5)), 0), (.after(.start), 1), (.head, 1),
            (.time(Timestamp(microseconds: 1)), 1),
        ]
        for (start, seen) in starts {
            let answer = try decoded(request(start, lastSeen: seen)).body
            guard case .malformed(let error) = answer else {
                Issue.record("\(start), \(seen): \(answer)")
                continue
            }
            #expect(error.reason == .invalidField && error.message.contains("last_seen.position is \(seen)"))
        }
    }

    @Test(arguments: [nil, 0, 3, UInt64.max]) func theComparablePositionComesThrough(_ position: UInt64?) throws {
        let error = MartletError(
            .failedPrecondition, reason: .historyChanged, message: "changed",
            comparablePosition: position.map { Position($0) })
        let frame = ServerFrame(CallID(1), .status(error))
        var bytes = ByteBuffer()
        ServerFrameCodec.encode(frame, to: &bytes)
        var decoder = FrameDecoder(limits: Limits())
        decoder.feed(bytes)
        #expect(try ServerFrameCodec.decode(try #require(try decoder.next()), limits: Limits()) == frame)
    }
}
