import MartletRecordCodec
import MartletModel
import MartletSession
import MartletTesting
import FoundationEssentials
import NIOCore
import Testing

@testable import MartletFrameCodec

/// Frames in the form that this code's own ends write are read in one pass. Whatever that pass accepts, protobuf-c reads
/// the same.
@Suite struct CanonicalFormTests {
    @Test func appendsOfThisClientAreReadInOnePass() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<300 {
            let frame = try RandomFrames.append(using: &random)
            let message = RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }
            #expect(AppendFastPath.decode(message, limits: Limits()) == frame, "seed \(random.seed)")
            #expect(try ClientFrameCodec.unpack(message, limits: Limits()) == frame, "seed \(random.seed)")
        }
    }

    /// The checksum of an event's bytes is a server's to compute, before the event is queued, whichever way it was read.
    @Test func eventsAreSummedWhereTheyAreAdmitted() throws {
        var random = SeededGenerator.fromEnvironment()
        var summed = 0
        for _ in 0..<100 {
            let frame = try RandomFrames.append(using: &random)
            #expect(events(of: frame).allSatisfy { $0.bodyChecksum == nil })
            let message = RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }
            let short = try #require(AppendFastPath.decode(message, limits: Limits()))
            for event in events(of: short) + events(of: try ClientFrameCodec.unpack(message, limits: Limits())) {
                #expect(event.bodyChecksum == CRC32C.checksum(of: event.body))
                summed += 1
            }
        }
        #expect(summed > 200, "seed \(random.seed)")
    }

    private func events(of frame: ClientFrame) -> [EncodedEvent] {
        guard case .request(.append(let request)) = frame.body else { return [] }
        return request.aggregates.flatMap(\.events)
            + request.schedules.compactMap { if case .set(let schedule) = $0 { schedule.event } else { nil } }
    }

    @Test func damagedAppendsAreDeclinedOrReadAsProtobufReadsThem() throws {
        var random = SeededGenerator.fromEnvironment()
        var accepted = 0
        for _ in 0..<TestRounds.count(6_000, long: 50_000) {
            let frame = try RandomFrames.append(using: &random)
            let message = RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }
            let damaged = RandomFrames.damage(Array(message.readableBytesView), using: &random)
            guard let read = AppendFastPath.decode(ByteBuffer(bytes: damaged), limits: Limits()) else { continue }
            accepted += 1
            let unpacked = try ClientFrameCodec.unpack(ByteBuffer(bytes: damaged), limits: Limits())
            #expect(read == unpacked, "seed \(random.seed): \(damaged)")
        }
        #expect(accepted > 300, "seed \(random.seed): \(accepted) comparisons say little")
    }

    @Test func whatIsWrongIsFoundTheLongWay() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<200 {
            let frame = try RandomFrames.append(using: &random)
            guard case .request(.append(let request)) = frame.body else { continue }
            var limits = Limits()
            switch Int.random(in: 0..<4, using: &random) {
            case 0: limits.eventsPerAppendMax = request.eventCount - 1
            case 1: limits.aggregatesPerAppendMax = request.aggregates.count - 1
            case 2: limits.payloadBytesMax = (request.aggregates[0].events.map(\.payloadBytes).max() ?? 0) - 1
            default: limits.metadataBytesMax = 1
            }
            let message = RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }
            let read = try ClientFrameCodec.decode(message, limits: limits)
            #expect(try ClientFrameCodec.unpack(message, limits: limits) == read, "seed \(random.seed)")
        }
    }

    @Test func twoOfOneAggregateOrEventAreDeclined() throws {
        var random = SeededGenerator.fromEnvironment()
        let event = try EncodedEvent(RandomFrames.event(using: &random))
        let aggregate = try RandomFrames.aggregate(using: &random)
        let other = try RandomFrames.aggregate(using: &random)
        for parts in [
            [AggregateAppend(aggregate: aggregate, expected: .any, events: [event, event])],
            [
                AggregateAppend(aggregate: aggregate, expected: .any, events: [event]),
                AggregateAppend(aggregate: other, expected: .any, events: [event]),
            ],
            [
                AggregateAppend(aggregate: aggregate, expected: .any, events: [event]),
                AggregateAppend(
                    aggregate: aggregate, expected: .any,
                    events: [try EncodedEvent(RandomFrames.event(using: &random))]),
            ],
        ] {
            let request = AppendRequest(tenant: TenantID(UUID()), aggregates: parts)
            let message = RandomFrames.message {
                ClientFrameCodec.encode(ClientFrame(CallID(1), .request(.append(request))), to: &$0)
            }
            #expect(AppendFastPath.decode(message, limits: Limits()) == nil)
            guard case .malformed = try ClientFrameCodec.decode(message, limits: Limits()).body else {
                Issue.record("an append that names something twice is malformed")
                continue
            }
        }
    }

    @Test func answersOfThisServerAreReadInOnePass() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<500 {
            let frame = try RandomFrames.answer(using: &random)
            let message = RandomFrames.message { ServerFrameCodec.encode(frame, to: &$0) }
            #expect(ServerFrameFastPath.decode(message) == frame, "seed \(random.seed)")
            #expect(try ServerFrameCodec.unpack(message, limits: Limits()) == frame, "seed \(random.seed)")
        }
    }

    /// Entries that are left out of a frame to be sent as they lie make, after its other bytes, the same frame.
    @Test func aFrameIsTheSameWithItsEntriesApart() throws {
        var random = SeededGenerator.fromEnvironment()
        var apart = 0
        for _ in 0..<500 {
            let frame = try RandomFrames.answer(using: &random)
            var (whole, parts) = (ByteBuffer(string: "before"), ByteBuffer(string: "before"))
            ServerFrameCodec.encode(frame, to: &whole)
            if let entries = ServerFrameCodec.encode(frame, to: &parts, detachedBytesMin: 64) {
                #expect(entries.readableBytes >= 64)
                parts.writeImmutableBuffer(entries)
                apart += 1
            }
            #expect(parts == whole, "seed \(random.seed)")
        }
        #expect(apart > 50)
    }

    @Test func damagedAnswersAreDeclinedOrReadAsProtobufReadsThem() throws {
        var random = SeededGenerator.fromEnvironment()
        var accepted = 0
        for _ in 0..<TestRounds.count(6_000, long: 50_000) {
            let frame = try RandomFrames.answer(using: &random)
            let message = RandomFrames.message { ServerFrameCodec.encode(frame, to: &$0) }
            let damaged = RandomFrames.damage(Array(message.readableBytesView), using: &random)
            guard let read = ServerFrameFastPath.decode(ByteBuffer(bytes: damaged)) else { continue }
            accepted += 1
            let unpacked = try ServerFrameCodec.unpack(ByteBuffer(bytes: damaged), limits: Limits())
            #expect(read == unpacked, "seed \(random.seed): \(damaged)")
        }
        #expect(accepted > 300, "seed \(random.seed): \(accepted) comparisons say little")
    }
}

/// Frames as appends and their answers make them.
enum RandomFrames {
    static func message(_ write: (inout ByteBuffer) -> Void) -> ByteBuffer {
        var buffer = ByteBuffer()
        write(&buffer)
        buffer.moveReaderIndex(forwardBy: FrameDecoder.prefixBytes)
        return buffer
    }

    /// Some bytes changed, taken out, put in or repeated.
    static func damage(_ bytes: [UInt8], using random: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...2, using: &random) where !bytes.isEmpty {
            let at = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes.removeLast(bytes.count - at)
            case 1: bytes.remove(at: at)
            case 2: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: at)
            case 3: bytes[at] = [0, 1, 0x0A, 0x12, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
            case 4:
                let end = min(bytes.count, at + Int.random(in: 1...40, using: &random))
                bytes.insert(contentsOf: bytes[at..<end], at: at)
            default: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            }
        }
        return bytes
    }

    static func aggregate(using random: inout SeededGenerator) throws -> AggregateName {
        let text = ["order", "a", "Z.9_:-", String(repeating: "t", count: 128)].randomElement(using: &random) ?? "x"
        return AggregateName(
            type: try #require(AggregateType(text)), id: UUID(high: random.next(), low: random.next()))
    }

    static func event(using random: inout SeededGenerator) throws -> NewEvent {
        func text() -> String {
            ["", "", "u", "größe", "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"].randomElement(using: &random) ?? ""
        }
        var metadata = EventMetadata()
        metadata.userID = text()
        metadata.role = text()
        metadata.correlationID = text()
        metadata.traceparent = text()
        metadata.tracestate = text()
        if Bool.random(using: &random) {
            // The very microsecond of 1970 stands for nil on the wire.
            metadata.occurredAt = Timestamp(
                microseconds: Int64.random(
                    in: Timestamp.earliest.microseconds...Timestamp.latest.microseconds, using: &random) | 1)
        }
        for _ in 0..<Int.random(in: 0...2, using: &random) { metadata.tags[ExactText(text())] = text() }
        let isJSON = Bool.random(using: &random)
        return NewEvent(
            id: UUID(high: random.next(), low: random.next()),
            type: try #require(
                EventType(["Made", "größer", "a b c d e f g h i"].randomElement(using: &random) ?? "M")),
            contentType: isJSON ? NewEvent.json : "text/plain",
            schemaVersion: UInt32.random(in: 1...200, using: &random),
            metadata: metadata,
            payload: ByteBuffer(string: isJSON ? #"{"text":"größe","n":[1,2.5e3,true]}"# : text()))
    }

    static func append(using random: inout SeededGenerator) throws -> ClientFrame {
        let parts = try (0..<Int.random(in: 1...3, using: &random)).map { _ in
            let expected: [ExpectedVersion] = [
                .any, .none, .exists, .exact(.none), .exact(Version(random.next() >> 1)),
            ]
            var part = AggregateAppend(
                aggregate: try aggregate(using: &random), expected: expected.randomElement(using: &random) ?? .any,
                events: try (0..<Int.random(in: 1...3, using: &random)).map { _ in
                    try EncodedEvent(event(using: &random))
                })
            if Int.random(in: 0..<20, using: &random) == 0 {
                part.snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
            }
            return part
        }
        let request = AppendRequest(
            tenant: TenantID(UUID(high: random.next(), low: random.next())), aggregates: parts,
            includeConflictingEvents: Bool.random(using: &random),
            checkpoint: Int.random(in: 0..<4, using: &random) == 0 ? try checkpoint(using: &random) : nil,
            schedules: Int.random(in: 0..<3, using: &random) == 0 ? try changes(1...3, using: &random) : [])
        return ClientFrame(
            CallID(random.next() >> UInt64.random(in: 0..<64, using: &random)), .request(.append(request)),
            timeoutMillis: [0, 30_000, .max].randomElement(using: &random) ?? 0,
            creditBytes: [0, 1 << 20].randomElement(using: &random) ?? 0)
    }

    private static func checkpoint(using random: inout SeededGenerator) throws -> AppendCheckpoint {
        AppendCheckpoint(
            consumer: try #require(ConsumerName("transfers")),
            slot: [0, 1_023].randomElement(using: &random) ?? 0, epoch: random.next() | 1,
            event: Checkpoint(
                position: Position(random.next() | 1), eventID: UUID(high: random.next(), low: random.next())),
            key: ConsumerKey(bytes: [0x67, 0, 0xFF]), isKeyBlocked: Bool.random(using: &random))
    }

    static func answer(using random: inout SeededGenerator) throws -> ServerFrame {
        func number() -> UInt64 { random.next() >> UInt64.random(in: 0..<64, using: &random) }
        let id = CallID(number())
        var entries = ByteBuffer()
        let count = Int.random(in: 0...3, using: &random)
        for _ in 0..<count {
            RecordedEntries.write(
                position: Position(number()), version: Version(number()),
                recordedAt: Timestamp(microseconds: Int64(bitPattern: number())),
                aggregate: try aggregate(using: &random), body: try EncodedEvent(event(using: &random)).body,
                to: &entries)
        }
        switch Int.random(in: 0..<5, using: &random) {
        case 4:
            let deliveries = (0..<count).map { _ in
                let key = [[0x67], [0x61, 0x3A, 0xFF], Array(repeating: 0x74, count: 255)] as [[UInt8]]
                return ConsumeMessage.Delivery(
                    number: number(), slot: [0, 7, 1_023].randomElement(using: &random) ?? 0,
                    attempt: [1, 2, .max].randomElement(using: &random) ?? 1,
                    mayBeRepeated: Bool.random(using: &random),
                    key: ConsumerKey(bytes: key.randomElement(using: &random) ?? []),
                    isKeyBlocked: Bool.random(using: &random))
            }
            return ServerFrame(id, .consume(.events(entries, deliveries)))
        case 0:
            let aggregates = try (0..<Int.random(in: 0...3, using: &random)).map { _ in
                AppendedAggregate(
                    aggregate: try aggregate(using: &random), firstVersion: Version(number()),
                    lastVersion: Version(number()), snapshotDue: Bool.random(using: &random))
            }
            return ServerFrame(
                id,
                .append(
                    AppendReceipt(
                        aggregates: aggregates, firstPosition: Position(number()), lastPosition: Position(number()),
                        recordedAt: Timestamp(microseconds: Int64(bitPattern: number())),
                        replayed: Bool.random(using: &random), checkpointStored: Bool.random(using: &random))))
        case 1: return ServerFrame(id, .load(entries, nil))
        case 2: return ServerFrame(id, .read(entries, nil))
        default:
            let head = TenantHead(
                position: Position(number()), recordedAt: Timestamp(microseconds: Int64(number() >> 1)))
            return ServerFrame(id, .subscribe(SubscriptionMessage(entries: entries, head: head)))
        }
    }
}
