import FoundationEssentials
import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletFrameCodec

/// What fails a call lists as much as its transport holds, and says how much there is.
@Suite struct CutListTests {
    private static func error() throws -> MartletError {
        let aggregate = AggregateName(type: AggregateType("order"), id: UUID(high: 2, low: 1))
        return MartletError(
            .aborted, reason: .versionConflict, message: "lost",
            conflicts: (1...3).map {
                VersionConflict(aggregate: aggregate, expected: .none, actual: Version($0), events: ByteBuffer())
            },
            reusedEventIDs: (1...4).map {
                ReusedEventID(
                    id: UUID(high: 3, low: $0), aggregate: aggregate, version: Version($0), position: Position($0))
            })
    }

    private static func sent(_ error: MartletError) throws -> (bytes: Int, MartletError) {
        var encoded = ByteBuffer()
        ServerFrameCodec.encode(ServerFrame(CallID(1), .status(error)), to: &encoded)
        encoded.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
        guard case .status(let received?) = try ServerFrameCodec.decode(encoded, limits: Limits()).body else {
            throw error
        }
        return (encoded.readableBytes, received)
    }

    @Test func aCutListSaysHowManyThereAre() throws {
        let cut = try Self.error().listing(conflictsMax: 1, reusedEventIDsMax: 0)
        #expect(cut.conflicts.count == 1 && cut.reusedEventIDs.isEmpty)
        let received = try Self.sent(cut).1
        #expect(received == cut)
        #expect(received.conflictsCount == 3 && received.reusedEventIDsCount == 4)
    }

    @Test func aWholeListTravelsWithoutItsCount() throws {
        let error = try Self.error()
        let (bytes, received) = try Self.sent(error)
        #expect(received == error && error.listing(conflictsMax: 3, reusedEventIDsMax: 9) == error)
        #expect(received.conflictsCount == 3 && received.reusedEventIDsCount == 4)
        // Each count takes two bytes.
        let counted = MartletError(
            error.code, reason: error.reason, message: error.message, conflicts: error.conflicts,
            reusedEventIDs: error.reusedEventIDs, conflictsCount: 4, reusedEventIDsCount: 5)
        #expect(try Self.sent(counted).bytes == bytes + 4)
    }

    /// The events that came in between are added later; the count stays.
    @Test func theCountStaysWhenTheListIsReplaced() throws {
        var cut = try Self.error().listing(conflictsMax: 2, reusedEventIDsMax: 1)
        cut.conflicts = Array(cut.conflicts.prefix(1))
        #expect(cut.conflictsCount == 3 && cut.reusedEventIDsCount == 4)
    }
}
