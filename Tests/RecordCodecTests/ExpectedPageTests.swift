import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletTesting
import NIOCore
import Testing

@Suite("Expected pages")
struct ExpectedPageTests {
    private static let tenant = TenantID(UUID(high: 0x0000_0000_0000_4000, low: 0x8000_0000_0000_0001))

    /// Versions and positions from 1 on, each entry by itself.
    private static func entries(
        _ count: Int, of aggregate: AggregateName, using random: inout SeededGenerator
    ) throws -> [[UInt8]] {
        try (1...count).map { number in
            var entry = ByteBuffer()
            RecordedEntries.write(
                position: Position(UInt64(number)), version: Version(UInt64(number)),
                recordedAt: Timestamp(microseconds: 1_700_000_000_000_000), aggregate: aggregate,
                event: try EncodedEvent(Sample.event(using: &random)), tenant: tenant, to: &entry)
            return entry.array
        }
    }

    private static func isSurely(
        _ entries: [[UInt8]], _ numbers: ExpectedPage.Numbers, after: UInt64 = 0, to: UInt64 = .max,
        _ direction: Direction = .forward, tenant: TenantID = tenant, count: Int? = nil
    ) -> Bool {
        let expected = ExpectedPage(tenant: tenant, numbers, after: after, to: to, direction)
        return unsafe Array(entries.joined()).withUnsafeBytes {
            unsafe expected.isSurely($0, count: count ?? entries.count)
        }
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6, 23, 24, 25, 26, 27, 28, 48, 49, 200])
    func pagesOfEachLengthAreTaken(count: Int) throws {
        var random = SeededGenerator.fromEnvironment()
        let aggregate = try Sample.aggregate()
        let entries = try Self.entries(count, of: aggregate, using: &random)
        for numbers in [ExpectedPage.Numbers.positions, .versions(aggregate)] {
            #expect(Self.isSurely(entries, numbers), "seed \(random.seed)")
            #expect(Self.isSurely(entries, numbers, to: UInt64(count)))
            #expect(Self.isSurely(entries.reversed(), numbers, .backward))
            #expect(!Self.isSurely(entries, numbers, to: UInt64(count) - 1))
            #expect(!Self.isSurely(entries, numbers, after: 1))
            #expect(!Self.isSurely(entries.reversed(), numbers, after: 1, .backward))
            #expect(!Self.isSurely(entries.reversed(), numbers, to: UInt64(count) - 1, .backward))
            #expect(!Self.isSurely(entries, numbers, count: count + 1))
            #expect(!Self.isSurely(entries, numbers, count: count - 1))
            #expect(!Self.isSurely(entries, numbers, tenant: TenantID(UUID())))
            if count > 1 {
                #expect(!Self.isSurely(entries, numbers, .backward))
                #expect(!Self.isSurely(entries.reversed(), numbers))
                #expect(!Self.isSurely(entries + [entries[0]], numbers))
            }
        }
        for other in [
            try Sample.aggregate(2), AggregateName(type: AggregateType("orders"), id: aggregate.id),
        ] { #expect(!Self.isSurely(entries, .versions(other))) }
    }

    /// The events have other lengths, so that sums that run side by side end one after the other.
    @Test func noChangedBitPasses() throws {
        var random = SeededGenerator.fromEnvironment()
        let aggregate = try Sample.aggregate()
        var tried = 0
        for count in [1, 2, 3, 4, 7, 50] {
            let entries = try Self.entries(count, of: aggregate, using: &random)
            let bits = entries.joined().count * 8
            for bit in (0..<(count == 50 ? 60 : 400)).map({ _ in Int(random.next() % UInt64(bits)) }) {
                var flipped = Array(entries.joined())
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                for numbers in [ExpectedPage.Numbers.positions, .versions(aggregate)] {
                    let passes = Self.isSurely([flipped], numbers, count: count)
                    #expect(!passes, "seed \(random.seed), bit \(bit) of \(count) entries")
                    tried += 1
                }
            }
        }
        #expect(tried == 4_120)
    }

    /// What cannot be proved by the short pass is looked at again.
    @Test func recordsOfBeforeChecksumsAreNotTaken() throws {
        var random = SeededGenerator.fromEnvironment()
        let aggregate = try Sample.aggregate()
        var entries = try Self.entries(4, of: aggregate, using: &random)
        var entry = ByteBuffer()
        RecordedEntries.write(
            position: Position(3), version: Version(3), recordedAt: Timestamp(microseconds: 1), aggregate: aggregate,
            body: try EncodedEvent(Sample.event(using: &random)).body, to: &entry)
        entries[2] = entry.array
        #expect(!Self.isSurely(entries, .positions))
        #expect(Self.isSurely(Array(entries[..<2]), .positions))
        #expect(!Self.isSurely([], .positions, count: 1))
    }
}
