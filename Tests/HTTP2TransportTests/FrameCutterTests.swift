import NIOCore
import Testing

@testable import MartletHTTP2Transport

/// Where the bytes of a connection are cut.
@Suite struct FrameCutterTests {
    private static let preface = ByteBuffer(string: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    private func frame(_ type: UInt8, _ length: Int, flags: UInt8 = 0) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeInteger(UInt32(length) << 8 | UInt32(type))
        bytes.writeInteger(flags)
        bytes.writeInteger(UInt32(1))
        bytes.writeRepeatingByte(type, count: length)
        return bytes
    }

    /// What comes out of parts, joined again, and the lengths of the heads.
    private func cut(_ parts: [ByteBuffer]) -> (joined: ByteBuffer, lengths: [Int]) {
        var cutter = HTTP2FrameCutter()
        var joined = ByteBuffer()
        var lengths: [Int] = []
        for part in parts {
            cutter.feed(part)
            while true {
                if let content = cutter.nextContent() {
                    joined.writeImmutableBuffer(content)
                } else if let head = cutter.nextHead {
                    lengths.append(head.length)
                    joined.writeMultipleIntegers(UInt32(head.length) << 8 | UInt32(head.type), head.flags, head.stream)
                    joined.writeImmutableBuffer(cutter.take(head))
                } else {
                    break
                }
            }
            cutter.keepRest()
        }
        return (joined, lengths)
    }

    @Test func theHeadHasTheStreamAndTheFirstWord() {
        var cutter = HTTP2FrameCutter()
        cutter.feed(Self.preface)
        cutter.feed(frame(2, 5))
        #expect(cutter.nextHead == nil, "the preface comes first")
        #expect(cutter.nextContent() == Self.preface)
        #expect(cutter.nextHead?.stream == 1 && cutter.nextHead?.firstWord == 0x0202_0202)
        #expect(cutter.nextContent() == nil)
    }

    @Test func nothingIsLostWhereverReadsEnd() {
        var whole = Self.preface
        for (type, length) in [(4, 6), (1, 30), (0, 0), (0, 40), (6, 8), (0xFA, 3), (0, 5), (8, 4)] as [(UInt8, Int)] {
            whole.writeImmutableBuffer(frame(type, length))
        }
        for size in 1...whole.readableBytes {
            var rest = whole
            var parts: [ByteBuffer] = []
            while rest.readableBytes > 0 {
                parts.append(rest.readSlice(length: min(size, rest.readableBytes)) ?? ByteBuffer())
            }
            let (joined, lengths) = cut(parts)
            #expect(joined == whole, "\(size) bytes at once")
            #expect(lengths == [6, 30, 0, 40, 8, 3, 5, 4], "\(size) bytes at once")
        }
    }

    @Test func aFrameIsHandedOnWhenItIsWholeAndDataAsItComes() {
        var ping = frame(6, 8)
        let begun = ping.readSlice(length: 12) ?? ByteBuffer()
        #expect(cut([Self.preface, begun]).joined == Self.preface)
        #expect(cut([Self.preface, begun, ping]).lengths == [8])
        var data = frame(0, 100)
        let first = data.readSlice(length: 50) ?? ByteBuffer()
        #expect(cut([Self.preface, first]).joined.readableBytes == Self.preface.readableBytes + 50)
    }

    @Test func theRestOfAReadDoesNotKeepIt() {
        var cutter = HTTP2FrameCutter()
        var read = ByteBuffer()
        read.writeImmutableBuffer(Self.preface)
        read.writeImmutableBuffer(frame(0xFA, 16_000))
        read.writeInteger(UInt8(0))
        let storage = read.storageCapacity
        cutter.feed(read)
        _ = cutter.nextContent()
        if let head = cutter.nextHead { _ = cutter.take(head) }
        #expect(cutter.nextHead == nil)
        cutter.keepRest()
        #expect(cutter.storageBytes < 1_024 && storage > 16_000)
    }

    @Test func aFrameThatIsTooLongIsHandedOnByItsHead() {
        var long = frame(1, 20_000)
        let head = long.readSlice(length: 9) ?? ByteBuffer()
        #expect(cut([Self.preface, head]).lengths == [20_000], "so that it is refused before it is all there")
    }
}
