import MartletFrameCodec
import MartletModel
import MartletSession
import NIOCore
import Testing

@Suite struct FrameDecodingTests {
    @Test func framesComeOutWholeHoweverTheBytesComeIn() throws {
        var stream = ByteBuffer()
        let frames = try GoldenFrames.client().map(\.1)
        for frame in frames { ClientFrameCodec.encode(frame, to: &stream) }
        for piece in [1, 2, 3, 7, 64, 1000] {
            var decoder = FrameDecoder(limits: Limits())
            var rest = stream
            var decoded: [ClientFrame] = []
            while let bytes = rest.readSlice(length: min(piece, rest.readableBytes)), bytes.readableBytes > 0 {
                decoder.feed(bytes)
                while let message = try decoder.next() {
                    decoded.append(try ClientFrameCodec.decode(message, limits: Limits()))
                }
            }
            #expect(decoded == frames, "in pieces of \(piece)")
        }
    }

    @Test func pagesComeOutWholeHoweverTheBytesComeIn() throws {
        // Below and above the length for which memory is taken at once.
        let frames = [100, 20_000, 262_144, 1, 327_675, 400_000, 5, 262_144].enumerated().map { index, count in
            ServerFrame(
                CallID(UInt64(index + 1)),
                .settings(SettingsDocument(document: ByteBuffer(repeating: UInt8(index), count: count), revision: 1)))
        }
        var stream = ByteBuffer()
        for frame in frames { ServerFrameCodec.encode(frame, to: &stream) }
        for piece in [1_000, 16_384, 20_001, 65_536, 300_000, 2_000_000] {
            var decoder = FrameDecoder(limits: Limits())
            var rest = stream
            var messages: [ByteBuffer] = []
            while let bytes = rest.readSlice(length: min(piece, rest.readableBytes)), bytes.readableBytes > 0 {
                decoder.feed(bytes)
                while let message = try decoder.next() { messages.append(message) }
            }
            let decoded = try messages.map { try ServerFrameCodec.decode($0, limits: Limits()) }
            #expect(decoded == frames, "in pieces of \(piece)")
        }
    }

    @Test func aDeclaredLengthIsCheckedBeforeTheBodyComes() {
        var decoder = FrameDecoder(limits: Limits())
        decoder.feed(ByteBuffer(bytes: [0, 0x00, 0x80, 0x00, 0x01]))
        let error = #expect(throws: MartletError.self) { try decoder.next() }
        #expect(error?.reason == .frameTooLarge)
        #expect(error?.limit == .init(name: "frame_bytes_max", limit: 8 << 20, actual: 8 << 20 + 1))
    }

    @Test func anUnknownFlagIsRefusedAtItsByte() {
        var decoder = FrameDecoder(limits: Limits())
        decoder.feed(ByteBuffer(string: "G"))
        #expect(throws: MartletError.self) { try decoder.next() }
    }

    @Test func randomBytesNeverTrap() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...64, using: &random)
            let bytes = ByteBuffer(bytes: (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) })
            _ = try? ClientFrameCodec.decode(bytes, limits: Limits())
            _ = try? ServerFrameCodec.decode(bytes, limits: Limits())
        }
    }

    @Test func damagedFramesNeverTrap() throws {
        var random = SystemRandomNumberGenerator()
        for (_, frame) in try GoldenFrames.client() {
            var bytes = ByteBuffer()
            ClientFrameCodec.encode(frame, to: &bytes)
            let message = Array(bytes.readableBytesView.dropFirst(FrameDecoder.prefixBytes))
            for _ in 0..<500 {
                var damaged = message
                for _ in 0..<Int.random(in: 1...3, using: &random) where !damaged.isEmpty {
                    damaged[Int.random(in: 0..<damaged.count, using: &random)] = UInt8.random(
                        in: 0...255, using: &random)
                }
                _ = try? ClientFrameCodec.decode(ByteBuffer(bytes: damaged), limits: Limits())
            }
        }
    }

    @Test func aMillionEmptyMessagesStayInsideTheBudget() {
        // Field 16 of the frame, an append, whose field 2 comes a million times with nothing in it.
        var body = ByteBuffer()
        for _ in 0..<1_000_000 { body.writeBytes([0x12, 0x00]) }
        var message = ByteBuffer(bytes: [0x08, 0x01, 0x82, 0x01, 0x80, 0x89, 0x7A])
        message.writeBuffer(&body)
        let error = #expect(throws: MartletError.self) { try ClientFrameCodec.decode(message, limits: Limits()) }
        #expect(error?.reason == .decodeBudgetExceeded)
    }

    @Test func aRequestThatIsWrongEndsItsCallOnly() throws {
        // A load whose tenant has 3 bytes.
        let message = ByteBuffer(bytes: [0x08, 0x05, 0x8A, 0x01, 0x05, 0x0A, 0x03, 1, 2, 3])
        let frame = try ClientFrameCodec.decode(message, limits: Limits())
        #expect(frame.callID == CallID(5))
        guard case .malformed(let error) = frame.body else {
            Issue.record("expected a malformed request, got \(frame.body)")
            return
        }
        #expect(error.reason == .invalidField)
    }

    @Test func anUnknownRequestIsToldByItsCall() throws {
        let frame = try ClientFrameCodec.decode(ByteBuffer(bytes: [0x08, 0x05, 0xFA, 0x07, 0x00]), limits: Limits())
        guard case .malformed(let error) = frame.body else {
            Issue.record("expected a malformed request, got \(frame.body)")
            return
        }
        #expect(error.reason == .unknownCall && error.code == .unimplemented)
    }

    @Test func eventsInSeveralPiecesAreGathered() throws {
        // Another encoder may put the view after or between the events: field 1, field 2, field 1.
        let entries = Array(try GoldenFrames.entries().readableBytesView)
        let view: [UInt8] = [0x12, 0x04, 0x08, 0x01, 0x10, 0x07]
        let body = entries + view + entries
        var message = ByteBuffer(bytes: [0x08, 0x02, 0x8A, 0x01])
        message.writeBytes([UInt8(body.count & 0x7F) | 0x80, UInt8(body.count >> 7)])
        message.writeBytes(body)
        let frame = try ServerFrameCodec.decode(message, limits: Limits())
        #expect(
            frame
                == ServerFrame(
                    frame.callID,
                    .load(ByteBuffer(bytes: entries + entries), LoadView(version: Version(1), position: Position(7)))))
    }
}
