import FoundationEssentials
import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletHTTP2Transport

/// The small formats of gRPC.
@Suite struct FormatTests {
    @Test(
        arguments: [
            ("1H", 3_600_000_000_000), ("1M", 60_000_000_000), ("1S", 1_000_000_000), ("1m", 1_000_000), ("1u", 1_000),
            ("1n", 1), ("99999999S", 99_999_999_000_000_000), ("00000001n", 1), ("0S", 0),
        ] as [(String, Int64)])
    func timeouts(_ text: String, _ nanoseconds: Int64) { #expect(GRPCTimeout.nanoseconds(text) == nanoseconds) }

    @Test func aTimeBeyondAllClocksIsTheLongest() { #expect(GRPCTimeout.nanoseconds("99999999H") == .max) }

    @Test(arguments: ["", "S", "1", "1x", "-1S", "+1S", "1.5S", "123456789S", "1 S", "1S ", "١S"])
    func noTimeouts(_ text: String) { #expect(GRPCTimeout.nanoseconds(text) == nil) }

    @Test func messagesAreEscaped() {
        #expect(GRPCStatus.escape("a b~%\n\u{7F}é") == "a b~%25%0A%7F%C3%A9")
        let long = String(repeating: "é", count: 2_000)
        #expect(GRPCStatus.escape(long).utf8.count == 1_024 * 3, "cut at 1,024 bytes, and between characters")
    }

    @Test func base64IsThatOfFoundation() {
        var random = SeededGenerator.fromEnvironment()
        for count in 0..<70 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            let expected = Data(bytes).base64EncodedString().prefix { $0 != "=" }
            #expect(Base64.encode(bytes) == String(expected))
        }
    }

    @Test func whatIsCompressedIsReadBack() throws {
        for count in [0, 1, 100, 300_000] {
            let bytes = ByteBuffer(bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) })
            #expect(try Gzip.inflate(Gzip.deflate(bytes), messageBytesMax: 8 << 20) == bytes)
        }
    }

    @Test func aBombIsRefused() throws {
        let bomb = Gzip.deflate(ByteBuffer(repeating: 0, count: 6 << 20))
        #expect(bomb.readableBytes < 64 << 10)
        let error = #expect(throws: MartletError.self) { try Gzip.inflate(bomb, messageBytesMax: 8 << 20) }
        #expect(error?.reason == .frameTooLarge)
        #expect(throws: MartletError.self) {
            try Gzip.inflate(Gzip.deflate(ByteBuffer(repeating: 1, count: 100_000)), messageBytesMax: 50_000)
        }
    }

    @Test func whatIsNoGzipIsRefused() throws {
        var cut = Gzip.deflate(ByteBuffer(string: String(repeating: "martlet", count: 1_000)))
        cut.moveWriterIndex(to: cut.writerIndex - 4)
        var longer = Gzip.deflate(ByteBuffer(string: "x"))
        longer.writeString("more")
        for bytes in [ByteBuffer(), ByteBuffer(string: "no gzip"), cut, longer] {
            #expect(throws: MartletError.self) { try Gzip.inflate(bytes, messageBytesMax: 8 << 20) }
        }
    }
}
