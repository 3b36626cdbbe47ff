import MartletModel
import MartletTesting
import FoundationEssentials
import NIOCore
import Testing

@testable import MartletRecordCodec

/// Records are read by the one lenient reader, with the same result as by protobuf-c.
@Suite struct RecordDecoderTests {
    private func record(using random: inout SeededGenerator) throws -> ByteBuffer {
        var entries = ByteBuffer()
        let start = RecordedEntries.write(
            position: Position(random.next() >> UInt64.random(in: 0..<64, using: &random)),
            version: Version(random.next() >> UInt64.random(in: 0..<64, using: &random)),
            recordedAt: Timestamp(microseconds: Int64(bitPattern: random.next())),
            aggregate: try Sample.aggregate(random.next()), body: try EncodedEvent(Sample.event(using: &random)).body,
            to: &entries)
        var record = Wire(entries.array.suffix(from: start).map { $0 })
        if Bool.random(using: &random) { record = record.field(7, UInt64.random(in: 0...3, using: &random)) }
        if Bool.random(using: &random) {
            record = record.field(8, ["", "Old", "größer"].randomElement(using: &random) ?? "")
        }
        if Bool.random(using: &random) {
            record = record.field(9, ["", "no path"].randomElement(using: &random) ?? "")
        }
        return ByteBuffer(bytes: record.bytes)
    }

    @Test func bothWaysGiveTheSameEvent() throws {
        var random = SeededGenerator.fromEnvironment()
        var decoder = RecordDecoder()
        for _ in 0..<2_000 {
            let record = try record(using: &random)
            #expect(try decoder.decode(record) == ProtobufOracle.decode(record), "seed \(random.seed)")
        }
    }

    @Test func damagedRecordsGiveTheSameBothWays() throws {
        var random = SeededGenerator.fromEnvironment()
        var decoder = RecordDecoder()
        var decoded = 0
        for _ in 0..<TestRounds.count(5_000, long: 50_000) {
            var bytes = try record(using: &random).array
            for _ in 0..<Int.random(in: 1...2, using: &random) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: at)
                default: bytes[at] = [0, 1, 0x0A, 0x80].randomElement(using: &random) ?? 0
                }
            }
            let record = ByteBuffer(bytes: bytes)
            let event = try? decoder.decode(record)
            #expect(ProtobufOracle.allows(event, of: record), "seed \(random.seed): \(bytes)")
            decoded += event == nil ? 0 : 1
        }
        #expect(decoded > 300, "seed \(random.seed): \(decoded) comparisons say little")
    }

    @Test func whatIsNotKnownIsSteppedOver() throws {
        let event = Sample.bare.field(3, "a/b").field(4, 1).field(77, 1).field(78, "new")
        let plain = Wire().field(1, 5).field(4, "order").field(5, bytes: Array(1...16))
        let whole = ByteBuffer(bytes: plain.field(6, event).bytes)
        let expected = try #require(ProtobufOracle.decode(whole))
        // Groups 11 and, inside it, 12; eight bytes; four bytes; a number above 15.
        let unknown: [UInt8] = [0x5B, 0x63, 0x08, 1, 0x64, 0x12, 1, 0x7A, 0x5C, 0x61, 1, 2, 3, 4, 5, 6, 7, 8, 0x6D]
        let other = ByteBuffer(bytes: unknown + [1, 2, 3, 4] + plain.field(900, 1).field(6, event).bytes)
        #expect(try RecordedEntries.decode(record: other) == expected)
        for broken: [UInt8] in [
            [0x5B], [0x5B, 0x64], [0x5C], [0x5B, 0x63, 0x5C, 0x64], [0x5F],
            [UInt8](repeating: 0x5B, count: 101) + [UInt8](repeating: 0x5C, count: 101),
        ] {
            let record = ByteBuffer(bytes: broken + plain.field(6, event).bytes)
            #expect(throws: RecordFault.self, "\(broken)") { try RecordedEntries.decode(record: record) }
        }
        for cut: [UInt8] in [[0x61, 1, 2, 3, 4, 5, 6, 7], [0x6D, 1, 2, 3], [0x7A, 2, 1], [0x78], [0x80]] {
            let record = ByteBuffer(bytes: plain.field(6, event).bytes + cut)
            #expect(throws: RecordFault.self, "\(cut)") { try RecordedEntries.decode(record: record) }
        }
    }

    @Test func bytesAreTextExactlyWhenTheStandardLibrarySaysSo() {
        var random = SeededGenerator.fromEnvironment()
        let pieces: [[UInt8]] = [
            Array("plain text".utf8), Array("größe".utf8), Array("🙂".utf8), [0x7F], [0x1F], [0x00], [0x80],
            [0xC0, 0x80],
            [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xEF, 0xBF, 0xBF], [0xF0, 0x80, 0x80, 0x80],
            [0xF4, 0x90, 0x80, 0x80],
            [0xF4, 0x8F, 0xBF, 0xBF], [0xF5], [0xC2], [0xE1, 0x80], [0xF1, 0x80, 0x80], Array("12345678".utf8),
        ]
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...4, using: &random)).flatMap { _ in
                pieces.randomElement(using: &random) ?? []
            }
            let isText = String(validating: bytes, as: UTF8.self) != nil
            let isPlain = bytes.allSatisfy { (0x20..<0x7F).contains($0) }
            unsafe bytes.withUnsafeBytes { raw in
                #expect(unsafe ByteText.isUTF8(raw) == isText, "seed \(random.seed): \(bytes)")
                #expect(unsafe ByteText.isPrintableASCII(raw) == isPlain, "seed \(random.seed): \(bytes)")
                let type = String(validating: bytes, as: UTF8.self).flatMap { EventType($0) }
                #expect(unsafe EventType(utf8: raw) == type, "seed \(random.seed): \(bytes)")
            }
        }
    }
}
