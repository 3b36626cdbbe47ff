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

    /// What comes out of parts, with the lengths of the heads that were seen.
    private func cut(_ parts: [ByteBuffer], framesMax: Int = .max) -> (pieces: [ByteBuffer], lengths: [Int]) {
        var cutter = HTTP2FrameCutter()
        var pieces: [ByteBuffer] = []
        var lengths: [Int] = []
        for part in parts {
            cutter.feed(part)
            repeat {
                var left = framesMax
                let piece = cutter.next { head in
                    guard left > 0 else { return .wait }
                    left -= 1
                    lengths.append(head.length)
                    return .pass
                }
                if let piece { pieces.append(piece) }
            } while cutter.rest == .waiting
        }
        return (pieces, lengths)
    }

    @Test func whatIsDroppedIsNotHandedOnAndTheLastEndsItsPiece() {
        var read = Self.preface
        for type in [4, 6, 2, 2, 6] as [UInt8] { read.writeImmutableBuffer(frame(type, 8)) }
        var cutter = HTTP2FrameCutter()
        cutter.feed(read)
        var pieces: [ByteBuffer?] = []
        repeat {
            pieces.append(cutter.next { $0.type == 2 ? .drop : $0.type == 4 ? .passAsLast : .pass })
        } while cutter.rest == .more
        var first = Self.preface
        first.writeImmutableBuffer(frame(4, 8))
        #expect(pieces == [first, frame(6, 8), nil, frame(6, 8)])
    }

    @Test func theHeadHasTheStreamAndTheFirstWord() {
        var cutter = HTTP2FrameCutter()
        cutter.feed(Self.preface)
        cutter.feed(frame(2, 5))
        var heads: [HTTP2FrameCutter.Head] = []
        _ = cutter.next {
            heads.append($0)
            return .pass
        }
        #expect(heads.map(\.stream) == [1] && heads.map(\.firstWord) == [0x0202_0202])
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
            for framesMax in [1, 3, Int.max] {
                let (pieces, lengths) = cut(parts, framesMax: framesMax)
                var joined = ByteBuffer()
                for piece in pieces { joined.writeImmutableBuffer(piece) }
                #expect(joined == whole, "\(size) bytes at once")
                #expect(lengths == [6, 30, 0, 40, 8, 3, 5, 4], "\(size) bytes at once")
            }
        }
    }

    @Test func aFrameIsHandedOnWhenItIsWholeAndDataAsItComes() {
        var ping = frame(6, 8)
        let begun = ping.readSlice(length: 12) ?? ByteBuffer()
        #expect(cut([Self.preface, begun]).pieces.count == 1, "the preface")
        #expect(cut([Self.preface, begun, ping]).pieces.last == frame(6, 8))
        var data = frame(0, 100)
        let first = data.readSlice(length: 50) ?? ByteBuffer()
        #expect(cut([Self.preface, first]).pieces.last == first)
    }

    @Test func theRestOfAReadDoesNotKeepIt() {
        var cutter = HTTP2FrameCutter()
        var read = ByteBuffer()
        read.writeImmutableBuffer(Self.preface)
        read.writeImmutableBuffer(frame(0, 100_000 % 16_000))
        read.writeImmutableBuffer(frame(0xFA, 16_000))
        read.writeInteger(UInt8(0))
        let storage = read.storageCapacity
        cutter.feed(read)
        _ = cutter.next { _ in .pass }
        #expect(cutter.storageBytes < 1_024 && storage > 16_000)
    }

    @Test func aFrameThatIsTooLongIsHandedOnByItsHead() {
        var long = frame(1, 20_000)
        let head = long.readSlice(length: 9) ?? ByteBuffer()
        #expect(cut([Self.preface, head]).pieces.last == head, "so that it is refused before it is all there")
    }

    @Test func whatIsRefusedIsNotHandedOnAndNothingAfterIt() {
        var cutter = HTTP2FrameCutter()
        cutter.feed(Self.preface)
        _ = cutter.next { _ in .pass }
        var read = frame(6, 8)
        read.writeImmutableBuffer(frame(6, 8))
        read.writeImmutableBuffer(frame(6, 8))
        cutter.feed(read)
        var count = 0
        let piece = cutter.next { _ in
            count += 1
            return count < 2 ? .pass : .refuse
        }
        #expect(piece == frame(6, 8) && count == 2 && cutter.storageBytes == 0)
    }
}
