import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletTesting
import NIOCore
import Testing

@testable import MartletFrameCodec

/// Requests and answers about consumers, and what workers say and are sent.
@Suite struct ConsumerFrameTests {
    private func decode(_ frame: ClientFrame, limits: Limits = Limits()) throws -> ClientFrame {
        try ClientFrameCodec.decode(
            RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }, limits: limits)
    }

    @Test func requestsComeBackAsTheyWere() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<1_000 {
            let frame = try RandomFrames.consumerRequest(using: &random)
            #expect(try decode(frame) == frame, "seed \(random.seed)")
        }
    }

    @Test func answersComeBackAsTheyWere() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<1_000 {
            let frame = try RandomFrames.consumerAnswer(using: &random)
            let message = RandomFrames.message { ServerFrameCodec.encode(frame, to: &$0) }
            #expect(try ServerFrameCodec.decode(message, limits: Limits()) == frame, "seed \(random.seed)")
        }
    }

    /// Whatever is read of a damaged frame is written and read again unchanged.
    @Test func damagedFramesNeverTrap() throws {
        var random = SeededGenerator.fromEnvironment()
        var read = 0
        for _ in 0..<3_000 {
            let request = try RandomFrames.consumerRequest(using: &random)
            let answer = try RandomFrames.consumerAnswer(using: &random)
            if case .replies(let replies) = request.body, replies.count > 50 { continue }
            let bytes = RandomFrames.damage(
                Array(RandomFrames.message { ClientFrameCodec.encode(request, to: &$0) }.readableBytesView),
                using: &random)
            if let frame = try? ClientFrameCodec.decode(ByteBuffer(bytes: bytes), limits: Limits()) {
                switch frame.body {
                // An append may be refused and read all the same.
                case .malformed, .malformedReplies, .malformedHello, .request(.append): break
                default: #expect(try decode(frame) == frame, "seed \(random.seed)")
                }
                read += 1
            }
            let damaged = RandomFrames.damage(
                Array(RandomFrames.message { ServerFrameCodec.encode(answer, to: &$0) }.readableBytesView),
                using: &random)
            if let frame = try? ServerFrameCodec.decode(ByteBuffer(bytes: damaged), limits: Limits()) {
                let again = RandomFrames.message { ServerFrameCodec.encode(frame, to: &$0) }
                #expect(try ServerFrameCodec.decode(again, limits: Limits()) == frame, "seed \(random.seed)")
                read += 1
            }
        }
        #expect(read > 500, "seed \(random.seed): \(read) frames say little")
    }

    // MARK: Events

    /// Deliveries are written by hand: protobuf-c writes the same bytes.
    @Test func deliveriesAreWrittenAsProtobufWritesThem() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<300 {
            let message = try RandomFrames.consumeMessage(using: &random)
            guard case .events(_, let deliveries) = message, !deliveries.isEmpty else { continue }
            var expected = ByteBuffer()
            for delivery in deliveries {
                unsafe withMessage(Martlet__V1__Delivery(), martlet__v1__delivery__init) { part in
                    unsafe part.pointee.delivery = delivery.number
                    unsafe part.pointee.slot = UInt32(delivery.slot)
                    unsafe part.pointee.attempt = delivery.attempt
                    unsafe part.pointee.may_be_repeated = delivery.mayBeRepeated ? 1 : 0
                    unsafe delivery.key.bytes.withUnsafeBytes { key in
                        unsafe part.pointee.key = unsafe ProtobufCBinaryData(key)
                        unsafe part.pointee.key_blocked = delivery.isKeyBlocked ? 1 : 0
                        unsafe expected.writeField(2, &part.pointee.base)
                    }
                }
            }
            let frame = RandomFrames.message {
                ServerFrameCodec.encode(ServerFrame(.connection, .consume(message)), to: &$0)
            }
            let bytes = Array(frame.readableBytesView)
            #expect(bytes.firstRange(of: Array(expected.readableBytesView)) != nil, "seed \(random.seed)")
        }
    }

    @Test func aFrameIsTheSameWithItsEntriesApart() throws {
        var random = SeededGenerator.fromEnvironment()
        var apart = 0
        for _ in 0..<500 {
            let frame = ServerFrame(CallID(3), .consume(try RandomFrames.consumeMessage(using: &random)))
            var (whole, parts) = (ByteBuffer(string: "before"), ByteBuffer(string: "before"))
            ServerFrameCodec.encode(frame, to: &whole)
            if let entries = ServerFrameCodec.encode(frame, to: &parts, detachedBytesMin: 64) {
                parts.writeImmutableBuffer(entries)
                apart += 1
            }
            #expect(parts == whole, "seed \(random.seed)")
        }
        #expect(apart > 50)
    }

    /// Another encoder may put events and deliveries in any order.
    @Test func eventsInSeveralPiecesAreGathered() throws {
        let entry = Array(try GoldenFrames.entries().readableBytesView)
        let deliveries: [[UInt8]] = [[0x12, 0x02, 0x08, 0x01], [0x12, 0x02, 0x08, 0x02]]
        var message = ByteBuffer(bytes: [0x08, 0x17])
        let events = entry + deliveries[0] + entry + deliveries[1]
        var part = ByteBuffer()
        part.writeField(3, length: events.count)
        part.writeBytes(events)
        message.writeField(36, length: part.readableBytes)
        message.writeImmutableBuffer(part)
        let frame = try ServerFrameCodec.decode(message, limits: Limits())
        let expected = ConsumeMessage.events(
            ByteBuffer(bytes: entry + entry),
            [1, 2].map {
                .init(number: $0, slot: 0, attempt: 0, mayBeRepeated: false, key: ConsumerKey(bytes: []))
            })
        #expect(frame == ServerFrame(CallID(23), .consume(expected)))
    }

    @Test func eachEventHasItsDelivery() throws {
        let entries = try GoldenFrames.entries()
        let delivery = ConsumeMessage.Delivery(
            number: 1, slot: 0, attempt: 1, mayBeRepeated: false, key: ConsumerKey(bytes: [7]))
        for wrong: ConsumeMessage in [
            .events(entries, []), .events(entries, [delivery, delivery]), .events(ByteBuffer(), [delivery]),
        ] {
            let message = RandomFrames.message {
                ServerFrameCodec.encode(ServerFrame(CallID(3), .consume(wrong)), to: &$0)
            }
            let error = #expect(throws: MartletError.self) {
                try ServerFrameCodec.decode(message, limits: Limits())
            }
            #expect(error?.reason == .badFrame)
        }
    }

    // MARK: What is refused

    private func refusal(
        _ number: UInt32, _ body: [UInt8], limits: Limits = Limits()
    ) throws -> MartletError? {
        var message = ByteBuffer(bytes: [0x08, 0x05])
        message.writeField(number, length: body.count)
        message.writeBytes(body)
        switch try ClientFrameCodec.decode(message, limits: limits).body {
        case .malformed(let error), .malformedReplies(let error): return error
        default: return nil
        }
    }

    /// Tenant and name of a consumer.
    private static let consumer: [UInt8] =
        [0x0A, 0x10] + GoldenFrames.tenant.uuid.bytes + [0x12, 0x01, UInt8(ascii: "c")]

    @Test func namesAreChecked() throws {
        let tenant = [0x0A, 0x10] + GoldenFrames.tenant.uuid.bytes
        for number: UInt32 in [28, 29, 31, 32, 33, 34, 35, 36] {
            for name: [UInt8] in [[], [0x12, 0x00], [0x12, 0x01, 0x20], [0x12, 0x01, 0xFF]] {
                let error = try #require(try refusal(number, tenant + name), "\(number) \(name)")
                #expect(error.reason == .invalidField && error.message.hasPrefix("consumer has "), "\(error)")
            }
            let error = try #require(try refusal(number, [0x0A, 0x01, 0x00, 0x12, 0x01, 0x63]))
            #expect(error.message.hasPrefix("tenant has 1 bytes"), "\(error)")
        }
        #expect(try refusal(30, tenant + [0x12, 0x01, 0x20])?.message.hasPrefix("after has 1 bytes") == true)
        #expect(try refusal(36, Self.consumer)?.message.hasPrefix("worker has 0 bytes") == true)
    }

    @Test func whatIsMissingOrFalseIsNamed() throws {
        let key: [UInt8] = [0x0A, 0x03, 0x12, 0x01, 0x61]
        let definition: [UInt8] = [0x1A, 0x00]
        for (number, more, message): (UInt32, [UInt8], String) in [
            (28, [], "definition is missing"),
            (28, [0x1A, 0x02, 0x10, 0x00], "definition.aggregate is false"),
            (28, [0x1A, 0x02, 0x18, 0x00], "definition.aggregate_type is false"),
            (28, [0x1A, 0x03, 0x22, 0x01, 0xFF], "definition.tag is not UTF-8"),
            (28, [0x1A, 0x02, 0x22, 0x00], "the length of the key's tag must be from 1 to 256, and is 0"),
            (28, [0x1A, 0x03, 0x28, 0x81, 0x08], "slots must be from 1 to 1024, and is 1025"),
            (28, definition + [0x22, 0x02, 0x18, 0x00], "start.from_head is false"),
            (28, definition + [0x28, 0x00], "none is false"), (28, definition + [0x30, 0x00], "any is false"),
            (28, definition + [0x38, 0x00], "revision is 0"), (32, [], "start is missing"),
            (32, [0x1A, 0x00], "start is missing"), (32, [0x1A, 0x02, 0x18, 0x00], "start.from_head is false"),
            (33, [0x1A, 0x00], "after.key has 0 bytes"),
            (
                33, [0x1A, 0x06, 0x08, 0x80, 0x08, 0x12, 0x01, 0x61],
                "after.slot is 1024: slots are numbered from 0 to 1023"
            ),
            (34, [], "keys is empty"), (34, [0x1A, 0x00], "keys[0].place is missing"),
            (34, [0x1A, 0x05] + key + [0x1A, 0x02, 0x0A, 0x00], "keys[1].place.key has 0 bytes"),
            (
                36, [0x1A, 0x01, 0x77, 0x20, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40],
                "epoch_above is 4611686018427387905: at most 4611686018427387904"
            ),
        ] {
            let error = try #require(try refusal(number, Self.consumer + more), "\(message)")
            #expect(error.reason == .invalidField && error.message.hasPrefix(message), "\(error), not \(message)")
        }
    }

    @Test func repliesAreChecked() throws {
        for (body, message): ([UInt8], String) in [
            ([], "replies is empty"), ([0x0A, 0x00], "replies[0] says nothing"),
            ([0x0A, 0x02, 0x1A, 0x00, 0x0A, 0x02, 0x0A, 0x00], "replies[1].acknowledge.delivery is 0"),
            ([0x0A, 0x02, 0x12, 0x00], "replies[0].reject.delivery is 0"),
            ([0x0A, 0x04, 0x12, 0x02, 0x08, 0x01], "replies[0].reject does not say"),
            ([0x0A, 0x06, 0x12, 0x04, 0x08, 0x01, 0x10, 0x00], "replies[0].reject.retry is false"),
            ([0x0A, 0x06, 0x12, 0x04, 0x08, 0x01, 0x20, 0x00], "replies[0].reject.park is false"),
            ([0x0A, 0x06, 0x12, 0x04, 0x08, 0x01, 0x28, 0x00], "replies[0].reject.stop is false"),
            ([0x0A, 0x07, 0x12, 0x05, 0x08, 0x01, 0x32, 0x01, 0xFF], "replies[0].reject.reason is not UTF-8"),
        ] {
            let error = try #require(try refusal(9, body), "\(message)")
            #expect(error.reason == .invalidField && error.message.hasPrefix(message), "\(error), not \(message)")
        }
    }

    @Test func boundsAreNamedWithTheirValues() throws {
        func limit(_ body: ClientFrame.Body, _ limits: Limits = Limits()) throws -> MartletError.LimitViolation? {
            switch try decode(ClientFrame(CallID(5), body), limits: limits).body {
            case .malformed(let error), .malformedReplies(let error):
                #expect(error.reason == .limitExceeded && error.code == .invalidArgument)
                return error.limit
            default: return nil
            }
        }
        func keys(_ count: Int) -> ClientFrame.Body {
            .request(
                .unblockKeys(
                    UnblockKeysRequest(
                        GoldenFrames.consumer, keys: Array(repeating: .init(GoldenFrames.blockedPlace), count: count))))
        }
        #expect(try limit(keys(100)) == nil)
        #expect(try limit(keys(101)) == .init(name: "unblocked_keys_max", limit: 100, actual: 101))
        #expect(try limit(.replies(Array(repeating: .alive, count: 1_000))) == nil)
        #expect(
            try limit(.replies(Array(repeating: .alive, count: 1_001)))
                == .init(name: "replies_max", limit: 1_000, actual: 1_001))
        func reject(_ bytes: Int) -> ClientFrame.Body {
            .replies([.reject(1, .park, reason: String(repeating: "x", count: bytes))])
        }
        #expect(try limit(reject(16_384)) == nil)
        #expect(try limit(reject(16_385)) == .init(name: "reject_reason_bytes_max", limit: 16_384, actual: 16_385))
        var limits = Limits()
        limits.filterValuesMax = 1
        let ids = EventFilter(aggregateIDs: [UUID(high: 1, low: 1), UUID(high: 1, low: 2)])
        let put = ClientFrame.Body.request(
            .putConsumer(PutConsumerRequest(GoldenFrames.consumer, ConsumerDefinition(filter: ids))))
        #expect(try limit(put) == nil)
        #expect(try limit(put, limits) == .init(name: "filter_values_max", limit: 1, actual: 2))
    }

    @Test func aFilterOfADefinitionIsNamedAsSuch() throws {
        // definition.filter.event_types = [""]
        let error = try #require(try refusal(28, Self.consumer + [0x1A, 0x04, 0x0A, 0x02, 0x12, 0x00]))
        #expect(error.message.hasPrefix("definition.filter.event_types[0] must be"), "\(error)")
    }

    /// What a client leaves out is the default, or what the default allows beside what it sets.
    @Test func whatIsLeftOutIsTheDefault() throws {
        func definition(_ body: [UInt8]) throws -> ConsumerDefinition? {
            var message = ByteBuffer(bytes: [0x08, 0x05])
            let request = Self.consumer + [0x1A, UInt8(body.count)] + body
            message.writeField(28, length: request.count)
            message.writeBytes(request)
            guard case .request(.putConsumer(let put)) = try ClientFrameCodec.decode(message, limits: Limits()).body
            else { return nil }
            #expect(put.start == .after(.start) && put.expected == .none)
            return put.definition
        }
        #expect(try definition([]) == ConsumerDefinition())
        #expect(try definition([0x42, 0x00]) == ConsumerDefinition())
        var expected = ConsumerDefinition()
        expected.delivery.windowEventsMax = 100
        expected.delivery.inFlightMax = 100
        expected.delivery.blockedKeysMax = 0
        expected.delivery.backoffMin = .seconds(120)
        expected.delivery.backoffMax = .seconds(120)
        #expect(try definition([0x42, 0x08, 0x08, 0x64, 0x18, 0x00, 0x38, 0xC0, 0xA9, 0x07]) == expected)
    }
}
