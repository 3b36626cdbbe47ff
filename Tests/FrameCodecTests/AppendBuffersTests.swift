import MartletModel
import MartletRecordCodec
import MartletSession
import MartletTesting
import FoundationEssentials
import NIOCore
import Testing

@testable import MartletFrameCodec

/// A slice keeps the whole buffer that it is one of: an append knows what it keeps, and keeps no buffer that is much larger
/// than its events are.
@Suite struct AppendBuffersTests {
    private let tenant = TenantID(UUID())

    private func frame(_ events: [EncodedEvent], snapshotBytes: Int? = nil) -> ClientFrame {
        var request = AppendRequest.of(events, tenant: tenant)
        request.aggregates[0].snapshot = snapshotBytes.map {
            NewSnapshot(contentType: "text/plain", payload: ByteBuffer(repeating: UInt8(ascii: "s"), count: $0))
        }
        return ClientFrame(CallID(1), .request(.append(request)))
    }

    private func text(_ bytes: Int) throws -> EncodedEvent {
        try .sample(String(repeating: "x", count: bytes), contentType: "text/plain")
    }

    private func append(in frame: ClientFrame) throws -> AppendRequest {
        guard case .request(.append(let request)) = frame.body else { throw NoAppend() }
        return request
    }

    private struct NoAppend: Error {}

    /// The append that a connection decodes of a read in which the frame is all there is.
    private func receive(_ frame: ClientFrame, readBytes: Int = 0) throws -> AppendRequest {
        var bytes = ByteBuffer()
        bytes.reserveCapacity(readBytes)
        ClientFrameCodec.encode(frame, to: &bytes)
        var decoder = FrameDecoder(limits: Limits())
        decoder.feed(bytes)
        let message = try #require(try decoder.next())
        let unpacked = try ClientFrameCodec.unpack(message, limits: Limits())
        let received = try ClientFrameCodec.decode(message, limits: Limits())
        #expect(received == frame && unpacked == frame)
        let longWay = try append(in: unpacked)
        #expect((longWay.contentBytes...4 * longWay.contentBytes + 1_024).contains(longWay.heldBytes), "unpacked")
        return try append(in: received)
    }

    @Test func anAppendCountsTheWholeReadThatItCameIn() throws {
        let received = try receive(frame([try text(33 << 10)]), readBytes: 128 << 10)
        #expect(received.contentBytes < 34 << 10)
        #expect(received.heldBytes == 128 << 10)
    }

    @Test func aSmallAppendStaysWhereItCame() throws {
        let received = try receive(frame([try text(100), try text(200)]), readBytes: 2 << 10)
        #expect(received.aggregates[0].events.map(\.body.storageCapacity) == [2 << 10, 2 << 10])
        #expect(received.heldBytes == 2 << 10)
    }

    @Test func bodiesLeaveAFrameThatASnapshotMadeLarge() throws {
        let received = try receive(frame([try text(10), try text(20)], snapshotBytes: 2 << 20))
        let events = received.aggregates[0].events
        for event in events {
            #expect(event.body.storageCapacity < 4 << 10, "it keeps the frame")
            #expect(event.bodyChecksum == CRC32C.checksum(of: event.body))
        }
        #expect(received.heldBytes == 2 << 20 + events[0].body.storageCapacity)
    }

    /// The events of schedules lie in the same buffer, and leave it together with the others.
    @Test func schedulesLeaveAFrameThatASnapshotMadeLarge() throws {
        var frame = frame([try text(10)], snapshotBytes: 2 << 20)
        var request = try append(in: frame)
        let schedule = NewSchedule(
            GoldenFrames.dunning, due: Timestamp(microseconds: 1), aggregate: GoldenFrames.order,
            event: try text(1_000))
        request.schedules = [.cancel(GoldenFrames.reminder), .set(schedule)]
        frame.body = .request(.append(request))
        let received = try receive(frame)
        guard case .set(let read) = received.schedules.last else {
            Issue.record("\(received.schedules)")
            return
        }
        #expect(read.event.body.storageCapacity < 4 << 10, "it keeps the frame")
        #expect(read.event.body.storageCapacity == received.aggregates[0].events[0].body.storageCapacity)
        #expect(read.event.bodyChecksum == CRC32C.checksum(of: read.event.body))
        #expect(received.heldBytes == 2 << 20 + read.event.body.storageCapacity)
    }

    @Test func bodiesStayInAFrameThatIsNotMuchLarger() throws {
        let received = try receive(frame([try text(40 << 10)], snapshotBytes: 20 << 10), readBytes: 64 << 10)
        #expect(received.aggregates[0].events[0].body.storageCapacity == 64 << 10)
        #expect(received.heldBytes == 64 << 10 + 32 << 10)
    }
}
