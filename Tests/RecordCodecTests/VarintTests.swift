import MartletRecordCodec
import MartletTesting
import NIOCore
import Testing

@Suite struct VarintTests {
    private func encoded(_ value: UInt64) -> [UInt8] {
        var buffer = ByteBuffer()
        buffer.writeVarint(value)
        return buffer.array
    }

    private func read(_ bytes: [UInt8]) -> UInt64? {
        let buffer = ByteBuffer(bytes: bytes)
        var fields = LenientFields(0..<buffer.readableBytes)
        return fields.varint(in: buffer.readableBytesUInt8Span)
    }

    @Test func edges() {
        let table: [(UInt64, [UInt8])] = [
            (0, [0]), (1, [1]), (127, [0x7F]), (128, [0x80, 1]), (300, [0xAC, 2]), (16_383, [0xFF, 0x7F]),
            (16_384, [0x80, 0x80, 1]),
            (UInt64(Int64.max), [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
            (1 << 63, [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]),
            (.max, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ]
        for (value, bytes) in table {
            #expect(encoded(value) == bytes)
            #expect(read(bytes) == value)
            #expect(Varint.byteCount(value) == bytes.count)
            for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == nil, "cut off at \(count)") }
        }
    }

    @Test func eachLengthBeginsAtItsPowerOfTwo() {
        for bits in 1..<64 {
            let power: UInt64 = 1 << UInt64(bits)
            #expect(Varint.byteCount(power) == bits / 7 + 1 && encoded(power).count == bits / 7 + 1)
            #expect(Varint.byteCount(power - 1) == (bits - 1) / 7 + 1 && encoded(power - 1).count == (bits - 1) / 7 + 1)
        }
    }

    @Test func ofMoreThan64BitsTheLowerOnesCountAndElevenBytesAreNone() {
        let nine = [UInt8](repeating: 0xFF, count: 9)
        #expect(read(nine + [1]) == .max)
        for last: UInt8 in [3, 0x7F] { #expect(read(nine + [last]) == .max) }
        for last: UInt8 in [2, 0x7E] { #expect(read(nine + [last]) == .max >> 1) }
        for last: UInt8 in [0x80, 0x81, 0xFF] { #expect(read(nine + [last]) == nil) }
        #expect(read(nine + [0x80, 0]) == nil && read([UInt8](repeating: 0x80, count: 20)) == nil)
    }

    @Test func whatFollowsIsLeftAlone() {
        let buffer = ByteBuffer(bytes: [0x80, 1, 9, 9])
        var fields = LenientFields(0..<4)
        #expect(fields.varint(in: buffer.readableBytesUInt8Span) == 128 && fields.offset == 2)
        #expect(read([0x80, 0x00]) == 0, "a longer form than need be is one, too")
    }

    @Test func aFieldHasItsKeyAndLengthInFront() {
        var buffer = ByteBuffer()
        buffer.writeField(1, length: 3)
        buffer.writeField(16, length: 200)
        #expect(buffer.array == [0x0A, 3, 0x82, 0x01, 0xC8, 0x01])
    }

    @Test func randomValuesReadBack() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<2_000 {
            let value = random.next() >> UInt64.random(in: 0..<64, using: &random)
            #expect(read(encoded(value)) == value, "seed \(random.seed)")
            #expect(encoded(value).count == Varint.byteCount(value), "seed \(random.seed)")
        }
    }
}
