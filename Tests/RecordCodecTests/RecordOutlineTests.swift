import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletRecordCodec

@Suite("Outlines of records")
struct RecordOutlineTests {
    /// Records as servers write them are read by a short way: it must read what the lenient reader reads, and nothing else.
    @Test func theShortWaySaysWhatTheLongWaySays() throws {
        var random = SeededGenerator.fromEnvironment()
        var (read, refused) = (0, 0)
        for _ in 0..<2_000 {
            let written = try ChecksumTests.record(
                Sample.event(using: &random), position: random.next() >> (1 + random.next() % 63),
                aggregate: Sample.aggregate(random.next())
            ).array
            for _ in 0..<20 {
                var bytes = written
                for _ in 0..<random.next() % 3 {
                    let at = Int(random.next() % UInt64(bytes.count))
                    switch random.next() % 4 {
                    case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
                    // Where the numbers, keys and lengths are.
                    case 1: bytes[at % 24] ^= 1 << UInt8(random.next() % 8)
                    case 2: bytes.remove(at: at)
                    default: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: at)
                    }
                }
                let (short, long) = (
                    RecordOutline(bytes.span, record: 0..<bytes.count),
                    RecordOutline(lenient: bytes.span, record: 0..<bytes.count)
                )
                #expect(short == long, "seed \(random.seed), \(bytes)")
                if short == nil { refused += 1 } else { read += 1 }
            }
        }
        #expect(read > 5_000 && refused > 5_000)
    }

    /// Every byte before and after the record is left alone, whatever the record's end cuts off.
    @Test(arguments: [1, 2, 40, 60]) func aRecordEndsWhereItEnds(cut: Int) throws {
        let written = try ChecksumTests.record(Sample.event(), aggregate: Sample.aggregate()).array
        let bytes = [0x0A] + written + written
        for end in [written.count + 1, written.count + 1 - cut] where end > 1 {
            let short = RecordOutline(bytes.span, record: 1..<end)
            #expect(short == RecordOutline(lenient: bytes.span, record: 1..<end))
            #expect((short != nil) == (end == written.count + 1))
        }
    }

    /// Entries of a foreign server may have longer lengths than they need.
    @Test func aWalkReadsEntriesOfAnyForm() throws {
        let record = try ChecksumTests.record(Sample.event(), aggregate: Sample.aggregate()).array
        let length = UInt8(record.count & 0x7F)
        let short: [UInt8] = record.count < 128 ? [length] : [length | 0x80, UInt8(record.count >> 7)]
        let long: [UInt8] = [length | 0x80, UInt8(record.count >> 7) | 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]
        let bytes = [0x0A] + short + record + [0x0A] + long + record + [0x8A, 0x00] + short + record
        var found: [Range<Int>] = []
        unsafe bytes.withUnsafeBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            while let next = walk.next() { found.append(next.record) }
            #expect(!walk.isBroken && walk.offset == bytes.count)
        }
        #expect(found.map(\.count) == [record.count, record.count, record.count])
        #expect(found.allSatisfy { Array(bytes[$0]) == record })
    }
}
