import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletTesting
import NIOCore
import Testing

@Suite struct RecordedEntriesTests {
    private func recorded(using random: inout SeededGenerator) throws -> RecordedEvent {
        RecordedEvent(
            position: Position(random.next() >> UInt64.random(in: 1..<64, using: &random)),
            version: Version(random.next() >> UInt64.random(in: 1..<64, using: &random)),
            recordedAt: Timestamp(microseconds: Int64.random(in: .min ... .max, using: &random)),
            aggregate: try Sample.aggregate(random.next()), event: try Sample.event(using: &random))
    }

    @discardableResult
    private func write(_ event: RecordedEvent, to entries: inout ByteBuffer) throws -> Int {
        RecordedEntries.write(
            position: event.position, version: event.version, recordedAt: event.recordedAt, aggregate: event.aggregate,
            body: try EncodedEvent(event.event).body, to: &entries)
    }

    @Test func goldenBytes() throws {
        var entries = ByteBuffer()
        let body = ByteBuffer(bytes: Sample.bare.bytes)
        let start = RecordedEntries.write(
            position: Position(300), version: Version(2), recordedAt: Timestamp(microseconds: 5),
            aggregate: try Sample.aggregate(9), body: body, to: &entries)
        let record = Wire().field(1, 300).field(2, 2).field(3, 5).field(4, "order")
            .field(5, bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]).field(6, Sample.bare)
        #expect(entries.array == Wire().field(1, record).bytes)
        #expect(Array(entries.array[start...]) == record.bytes)
    }

    @Test func whatIsWrittenReadsBack() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<50 {
            let events = try (0..<Int.random(in: 0...8, using: &random)).map { _ in try recorded(using: &random) }
            var entries = ByteBuffer()
            var ends: [Int] = []
            for event in events {
                let start = try write(event, to: &entries)
                let record = try #require(entries.getSlice(at: start, length: entries.writerIndex - start))
                #expect(try RecordedEntries.decode(record: record) == event, "seed \(random.seed)")
                let before = ends.last ?? 0
                let entryBytes = RecordedEntries.entryBytes(recordBytes: record.readableBytes)
                #expect(entryBytes == entries.writerIndex - before, "seed \(random.seed)")
                ends.append(entries.writerIndex)
            }
            #expect(try RecordedEntries.decode(entries) == events, "seed \(random.seed)")
        }
    }

    @Test func aRecordGoesIntoEntriesAsItIs() throws {
        var random = SeededGenerator.fromEnvironment()
        let events = try (0..<20).map { _ in try recorded(using: &random) }
        var entries = ByteBuffer()
        for event in events { try write(event, to: &entries) }
        var rest = entries
        var copy = ByteBuffer()
        var copyOfBytes = ByteBuffer()
        var count = 0
        while let record = try RecordedEntries.nextRecord(of: &rest) {
            RecordedEntries.write(record: record, to: &copy)
            unsafe record.withUnsafeReadableBytes { unsafe RecordedEntries.write(record: $0, to: &copyOfBytes) }
            count += 1
        }
        #expect(count == 20 && copy == entries && copyOfBytes == entries, "seed \(random.seed)")
    }

    @Test func bytesThatAreNoEntriesAreAFault() throws {
        let tooLong: [UInt8] = [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]
        let longest: [UInt8] = [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
        for bytes in [[0x0A], [0x0B, 0], [0x0A, 0x80], [0x0A, 5, 1, 2, 3, 4], [0, 0], tooLong, longest] as [[UInt8]] {
            var buffer = ByteBuffer(bytes: bytes)
            #expect(throws: RecordFault.self) { try RecordedEntries.nextRecord(of: &buffer) }
            #expect(throws: RecordFault.self) { try RecordedEntries.decode(ByteBuffer(bytes: bytes)) }
        }
        var empty = ByteBuffer()
        #expect(try RecordedEntries.nextRecord(of: &empty) == nil)
    }

    @Test func aRecordWithoutItsPartsIsAFault() throws {
        let aggregate = Wire().field(4, "order").field(5, bytes: Array(1...16))
        let event = Sample.bare.field(3, "a/b").field(4, 1)
        let whole = aggregate.field(6, event)
        #expect(try RecordedEntries.decode(record: ByteBuffer(bytes: whole.bytes)).version == .none)
        for record in [
            Wire(), aggregate, Wire().field(4, "order").field(6, event),
            Wire().field(4, "no such type").field(5, bytes: Array(1...16)).field(6, event),
            Wire().field(4, "order").field(5, bytes: Array(1...15)).field(6, event),
            aggregate.field(6, Wire()), aggregate.field(6, Wire().field(1, bytes: Array(1...15)).field(2, "Made")),
            aggregate.field(6, Wire().field(1, bytes: Array(1...16))),
            aggregate.field(6, event.field(3, bytes: [0xFF])),
            aggregate.field(6, event.field(5, Wire().field(2, bytes: [0xFF]))),
            aggregate.field(6, event.field(5, Wire().field(9, Wire().field(1, bytes: [0xFF])))),
        ] {
            #expect(throws: RecordFault.self) { try RecordedEntries.decode(record: ByteBuffer(bytes: record.bytes)) }
        }
    }

    @Test func aHostileRecordCostsNoMoreThanWhatItHolds() throws {
        var tags = Wire()
        tags.bytes = Array([[UInt8]](repeating: [0x4A, 0x00], count: 1 << 19).joined())
        let event = Sample.bare.field(3, "a/b").field(5, tags)
        let record = Wire().field(4, "order").field(5, bytes: Array(1...16)).field(6, event)
        let decoded = try RecordedEntries.decode(record: ByteBuffer(bytes: record.bytes))
        #expect(decoded.event.metadata.tags == ["": ""])
    }

    @Test func damagedBytesAreReadOrRefusedAndNothingElse() throws {
        var random = SeededGenerator.fromEnvironment()
        var faults = 0
        for _ in 0..<5_000 {
            var entries = ByteBuffer()
            for _ in 0..<Int.random(in: 1...2, using: &random) { try write(recorded(using: &random), to: &entries) }
            var bytes = entries.array
            for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes.removeLast(bytes.count - at)
                case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes.remove(at: at)
                default: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: at)
                }
            }
            do throws(RecordFault) {
                let events = try RecordedEntries.decode(ByteBuffer(bytes: bytes))
                for event in events { _ = event.recordedAt.description }
            } catch { faults += 1 }
        }
        #expect(faults > 500, "seed \(random.seed): \(faults) faults say little")
    }

    @Test func damagedEventsAreEncodedOrRefusedAndNothingElse() throws {
        var random = SeededGenerator.fromEnvironment()
        var refused = 0
        for _ in 0..<5_000 {
            var bytes = try EncodedEvent(Sample.event(using: &random)).body.array
            for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                if Bool.random(using: &random) {
                    bytes[at] = UInt8.random(in: .min ... .max, using: &random)
                } else {
                    bytes.removeLast(bytes.count - at)
                }
            }
            do {
                guard let encoded = try Sample.encode(Wire(bytes)) else {
                    refused += 1
                    continue
                }
                let again = try Sample.encode(Wire(encoded.body.array))
                #expect(again == encoded, "seed \(random.seed): what was accepted is canonical")
            } catch is MartletError {
                refused += 1
            }
        }
        #expect(refused > 500, "seed \(random.seed): \(refused) refusals say little")
    }
}
