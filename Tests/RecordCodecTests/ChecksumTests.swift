import Foundation
import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletRecordCodec

/// The checksum of a record: as PROTOCOL.md describes it, and sure to find a changed bit.
@Suite struct ChecksumTests {
    private static let tenant = TenantID(UUID(high: 0x0000_0000_0000_4000, low: 0x8000_0000_0000_0001))

    static func record(
        _ event: NewEvent, position: UInt64 = 7, aggregate: AggregateName
    ) throws -> ByteBuffer {
        var entries = ByteBuffer()
        let start = RecordedEntries.write(
            position: Position(position), version: Version(1),
            recordedAt: Timestamp(microseconds: 1_767_225_600_000_000), aggregate: aggregate,
            event: try EncodedEvent(event),
            tenant: tenant, to: &entries)
        entries.moveReaderIndex(to: start)
        return entries.slice()
    }

    private static func verdict(_ bytes: [UInt8], tenant: TenantID = tenant) -> ChecksumVerdict? {
        let record = ByteBuffer(bytes: bytes)
        return RecordOutline(record)?.storedVerdict(in: record.readableBytesUInt8Span, tenant: tenant)
    }

    @Test func checksumsAreThoseOfTheStandard() {
        // RFC 3720, appendix B.4; the nine digits are everybody's example.
        let table: [([UInt8], UInt32)] = [
            (Array("123456789".utf8), 0xE306_9283), ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
            ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43), (Array(0..<32), 0x46DD_794E), ([], 0),
        ]
        for (bytes, sum) in table { #expect(CRC32C.checksum(of: ByteBuffer(bytes: bytes)) == sum) }
    }

    /// Bit by bit, as the standard has it: what the instructions and the tables are held against.
    private func slowly(_ bytes: some Sequence<UInt8>, after sum: UInt32) -> UInt32 {
        var value = ~sum
        for byte in bytes {
            value ^= UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
        }
        return ~value
    }

    @Test func instructionsAndTablesGiveTheSameFromAnyPlaceOn() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<500 {
            let bytes = (0..<Int.random(in: 0...100, using: &random)).map { _ in UInt8(random.next() & 0xFF) }
            let begun = UInt32(truncatingIfNeeded: random.next())
            let cut = Int.random(in: 0...bytes.count, using: &random)
            let expected = slowly(bytes, after: begun)
            unsafe bytes.withUnsafeBytes { bytes in
                let first = unsafe CRC32C.extend(begun, by: bytes.part(0..<cut))
                let whole = unsafe CRC32C.extend(first, by: bytes.part(cut..<bytes.count))
                #expect(whole == expected, "seed \(random.seed)")
                #expect(unsafe CRC32C.extendByTable(begun, by: bytes) == expected, "seed \(random.seed)")
            }
        }
    }

    @Test func theRecordIsAsThePageShows() throws {
        let page = try ManualPage("PROTOCOL").text
        let block = try #require(page.components(separatedBy: "```record\n").last?.components(separatedBy: "```").first)
        let shown = block.split(separator: "\n").flatMap { line in
            line.prefix { $0 != "#" }.split(separator: " ").compactMap { UInt8($0, radix: 16) }
        }
        var metadata = EventMetadata()
        metadata.userID = "u1"
        metadata.tags = ["a": "b"]
        let event = NewEvent(
            id: UUID(high: 0x0196_f3a0_7c5e_7c5e, low: 0x8c5e_7c5e_0196_f3a0), type: try Sample.type("Placed"),
            metadata: metadata, payload: ByteBuffer(string: #"{"n":1}"#))
        let aggregate = AggregateName(
            type: AggregateType("order"),
            id: UUID(high: 0x1111_1111_1111_4111, low: 0x8111_1111_1111_1111))
        let record = try Self.record(event, aggregate: aggregate)
        #expect(record.array == shown)
        #expect(Self.verdict(shown) == .intact)
        #expect(page.contains("`\(String(CRC32C.checksum(of: try EncodedEvent(event).body), radix: 16))`"))
        #expect(page.contains("`\(String(try #require(RecordOutline(record)?.checksum), radix: 16))`"))
    }

    @Test func eachChangedBitIsFound() throws {
        var random = SeededGenerator.fromEnvironment()
        var found = 0
        for _ in 0..<20 {
            let bytes = try Self.record(
                Sample.event(using: &random), position: random.next() >> 20, aggregate: Sample.aggregate(random.next())
            ).array
            #expect(Self.verdict(bytes) == .intact)
            #expect(Self.verdict(bytes, tenant: TenantID(UUID())) == .damaged)
            for bit in 0..<bytes.count * 8 {
                var flipped = bytes
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                let verdict = Self.verdict(flipped)
                #expect(verdict == nil || verdict == .damaged, "seed \(random.seed), bit \(bit) of \(bytes)")
                found += 1
            }
        }
        #expect(found > 10_000)
    }

    @Test func whatAnUpcasterChangedHasNoneAndWhatItFailedOnKeepsIt() throws {
        var random = SeededGenerator.fromEnvironment()
        let record = try Self.record(Sample.event(using: &random), aggregate: Sample.aggregate())
        let layout = try #require(RecordLayout(record))
        var entries = ByteBuffer()
        layout.writeEntry(of: record, type: "New", schemaVersion: 9, payload: ByteBuffer(string: "{}"), to: &entries)
        RecordedEntries.writeEntry(of: record, failure: "no path", to: &entries)
        let upcast = try #require(try RecordedEntries.nextRecord(of: &entries))
        let raw = try #require(try RecordedEntries.nextRecord(of: &entries))
        let upcastLayout = try #require(RecordOutline(upcast))
        #expect(upcastLayout.verdict(in: upcast.readableBytesUInt8Span, tenant: Self.tenant) == .missing)
        #expect(try RecordedEntries.decode(record: upcast).event.schemaVersion == 9)
        let rawLayout = try #require(RecordOutline(raw))
        #expect(rawLayout.verdict(in: raw.readableBytesUInt8Span, tenant: Self.tenant) == .intact)
        #expect(try RecordedEntries.decode(record: raw).upcastFailure == "no path")
    }

    /// protobuf puts fields in the order of their numbers: the checksum then stands last, and fits all the same.
    @Test func theChecksumFitsWhereverItStands() throws {
        let record = try Self.record(Sample.event(), aggregate: Sample.aggregate())
        let layout = try #require(RecordOutline(record))
        let bytes = record.array
        let moved = ByteBuffer(
            bytes: bytes[..<layout.checksumField.lowerBound] + bytes[layout.eventField] + bytes[layout.checksumField])
        #expect(RecordOutline(moved)?.verdict(in: moved.readableBytesUInt8Span, tenant: Self.tenant) == .intact)
    }
}
