import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletTesting
import NIOCore
import Testing

/// Random frames about consumers.
extension RandomFrames {
    private static func number(using random: inout SeededGenerator) -> UInt64 {
        random.next() >> UInt64.random(in: 0..<64, using: &random)
    }

    private static func text(using random: inout SeededGenerator) -> String {
        ["", "x", "größe", "a\u{0}b", String(repeating: "ü", count: 500)].randomElement(using: &random) ?? ""
    }

    private static func consumer(using random: inout SeededGenerator) throws -> ConsumerID {
        let name = ["c", "Z.9_:-", String(repeating: "n", count: 128)].randomElement(using: &random) ?? "c"
        return ConsumerID(
            tenant: TenantID(UUID(high: random.next(), low: random.next())), name: try #require(ConsumerName(name)))
    }

    private static func checkpoint(using random: inout SeededGenerator) -> Checkpoint {
        guard Int.random(in: 0..<4, using: &random) > 0 else { return .start }
        return Checkpoint(
            position: Position(number(using: &random)), eventID: UUID(high: random.next(), low: random.next()))
    }

    private static func time(using random: inout SeededGenerator) -> Timestamp {
        Timestamp(microseconds: Int64(bitPattern: number(using: &random)))
    }

    private static func place(using random: inout SeededGenerator) -> KeyPlace {
        // Cut at 256 bytes, in the middle of a character.
        let bytes = [UInt8](repeating: 0xC3, count: [1, 40, 256].randomElement(using: &random) ?? 1)
        return KeyPlace(
            slot: Int.random(in: 0..<ConsumerDefinition.slotsMax, using: &random), key: ConsumerKey(bytes: bytes))
    }

    private static func start(using random: inout SeededGenerator) -> SubscriptionStart {
        [.head, .after(.start), .after(Position(number(using: &random))), .time(time(using: &random))]
            .randomElement(using: &random) ?? .head
    }

    private static func definition(using random: inout SeededGenerator) throws -> ConsumerDefinition {
        var definition = ConsumerDefinition()
        if Bool.random(using: &random) {
            definition.filter = EventFilter(
                aggregateTypes: [try aggregate(using: &random).type], eventTypes: [try event(using: &random).type],
                aggregateIDs: [UUID(high: random.next(), low: random.next())])
        }
        let tag = ["t", "größe", String(repeating: "t", count: 256)].randomElement(using: &random) ?? "t"
        definition.keyRule = [.aggregate, .aggregateType, .tag(tag)].randomElement(using: &random) ?? .aggregate
        definition.slotCount = Int.random(in: 1...ConsumerDefinition.slotsMax, using: &random)
        definition.isRaw = Bool.random(using: &random)
        definition.isPaused = Bool.random(using: &random)
        definition.delivery.windowEventsMax = Int.random(in: 1...65_536, using: &random)
        definition.delivery.inFlightMax = Int.random(in: 1...definition.delivery.windowEventsMax, using: &random)
        definition.delivery.blockedKeysMax = [0, 1, 10_000].randomElement(using: &random) ?? 0
        definition.delivery.retriedKeysMax = Int.random(in: 1...256, using: &random)
        definition.delivery.triesMax = UInt32.random(in: 1...1_000_000, using: &random)
        let day = Int64(86_400_000)
        definition.delivery.acknowledgementTimeout = .milliseconds(Int64.random(in: 100...day, using: &random))
        let backoff = Int64.random(in: 1...day, using: &random)
        definition.delivery.backoffMin = .milliseconds(backoff)
        definition.delivery.backoffMax = .milliseconds(Int64.random(in: backoff...7 * day, using: &random))
        return definition
    }

    /// A request about a consumer, or a worker's replies.
    static func consumerRequest(using random: inout SeededGenerator) throws -> ClientFrame {
        let consumer = try consumer(using: &random)
        let request: CallRequest
        switch Int.random(in: 0..<11, using: &random) {
        case 0:
            let expected: [ExpectedDefinition] = [.none, .any, .revision(number(using: &random) | 1)]
            request = .putConsumer(
                PutConsumerRequest(
                    consumer, try definition(using: &random), start: start(using: &random),
                    expected: expected.randomElement(using: &random) ?? .none))
        case 1: request = .getConsumer(consumer)
        case 2:
            request = .listConsumers(
                ListConsumersRequest(
                    tenant: consumer.tenant, after: Bool.random(using: &random) ? consumer.name : nil))
        case 3: request = .deleteConsumer(consumer)
        case 4:
            request = .resetConsumer(
                ResetConsumerRequest(
                    consumer, start: start(using: &random), isPreview: Bool.random(using: &random)))
        case 5:
            request = .listBlockedKeys(
                ListBlockedKeysRequest(consumer, after: Bool.random(using: &random) ? place(using: &random) : nil))
        case 6:
            let keys = (0..<Int.random(in: 1...UnblockKeysRequest.keysMax, using: &random)).map { _ in
                UnblockKeysRequest.Key(
                    place(using: &random),
                    skipping: Bool.random(using: &random) ? Position(number(using: &random) | 1) : nil)
            }
            request = .unblockKeys(UnblockKeysRequest(consumer, keys: keys))
        case 7:
            request = .awaitConsumer(AwaitConsumerRequest(consumer, position: Position(number(using: &random))))
        case 8:
            request = .consume(
                ConsumeRequest(
                    consumer, worker: try #require(WorkerName(consumer.name.text)),
                    epochAbove: min(number(using: &random), ConsumeRequest.epochMax),
                    keepsTime: Bool.random(using: &random)))
        case 9:
            let tenants = (0..<([0, 1, 3, 1_000].randomElement(using: &random) ?? 0)).map { _ in
                TenantID(UUID(high: random.next(), low: random.next()))
            }
            request = .consumeTenants(
                ConsumeTenantsRequest(
                    consumer.name, of: Set(tenants), worker: try #require(WorkerName(consumer.name.text)),
                    epochAbove: min(number(using: &random), ConsumeRequest.epochMax),
                    keepsTime: Bool.random(using: &random)))
        default: return ClientFrame(CallID(number(using: &random)), .replies(replies(using: &random)))
        }
        return ClientFrame(CallID(number(using: &random)), .request(request), creditBytes: number(using: &random))
    }

    private static func replies(using random: inout SeededGenerator) -> [WorkerReply] {
        let count = [1, 2, 3, 50, WorkerReply.countMax].randomElement(using: &random) ?? 1
        return (0..<count).map { _ in
            let failures: [WorkerReply.Failure] = [
                .retry(afterMillis: nil), .retry(afterMillis: 0),
                .retry(afterMillis: UInt32(truncatingIfNeeded: number(using: &random))), .park, .stop,
            ]
            let number = number(using: &random) | 1
            return [
                .acknowledge(number, upTo: false), .acknowledge(number, upTo: true), .alive,
                .reject(number, failures.randomElement(using: &random) ?? .park, reason: text(using: &random)),
            ].randomElement(using: &random) ?? .alive
        }
    }

    /// An answer about a consumer, or a message to a worker.
    static func consumerAnswer(using random: inout SeededGenerator) throws -> ServerFrame {
        let consumer = try consumer(using: &random)
        let message: CallMessage
        switch Int.random(in: 0..<11, using: &random) {
        case 0:
            message = .consumerPut(
                PutConsumerReceipt(revision: number(using: &random), isNew: Bool.random(using: &random)))
        case 1: message = .consumer(try description(using: &random))
        case 2:
            message = .consumers(
                try (0..<Int.random(in: 0...3, using: &random)).map { _ in
                    ListedConsumer(
                        name: consumer.name, revision: number(using: &random),
                        definition: try definition(using: &random))
                })
        case 3: message = .consumerDeleted
        case 4:
            message = .consumerReset(
                ResetConsumerReceipt(
                    after: Position(number(using: &random)), before: Position(number(using: &random))))
        case 5:
            message = .blockedKeys((0..<Int.random(in: 0...3, using: &random)).map { _ in listed(using: &random) })
        case 6: message = .keysUnblocked(number(using: &random))
        case 7: message = .consumerReached(Position(number(using: &random)))
        case 8: message = .consumeOf(consumer.tenant, try consumeMessage(using: &random))
        case 9: message = try tenantsMessage(of: consumer.tenant, using: &random)
        default: message = .consume(try consumeMessage(using: &random))
        }
        return ServerFrame(CallID(number(using: &random)), message)
    }

    private static func listed(using random: inout SeededGenerator) -> ListedKey {
        var blocked = BlockedKey(
            first: checkpoint(using: &random),
            until: Bool.random(using: &random) ? .asked : .retry(at: time(using: &random)),
            reason: text(using: &random), tries: UInt32(truncatingIfNeeded: number(using: &random)),
            since: time(using: &random))
        blocked.isFirstHandled = Bool.random(using: &random)
        return ListedKey(place: place(using: &random), blocked: blocked)
    }

    private static func description(using random: inout SeededGenerator) throws -> ConsumerDescription {
        let name = try consumer(using: &random).name
        let worker = try #require(WorkerName(name.text))
        return ConsumerDescription(
            name: name, definition: try definition(using: &random), revision: number(using: &random),
            head: TenantHead(position: Position(number(using: &random)), recordedAt: time(using: &random)),
            checkpoint: checkpoint(using: &random),
            slots: (0..<Int.random(in: 0...3, using: &random)).map { slot in
                .init(
                    number: slot, epoch: number(using: &random), checkpoint: checkpoint(using: &random),
                    worker: Bool.random(using: &random) ? worker : nil)
            }, workers: Array(repeating: worker, count: Int.random(in: 0...3, using: &random)),
            blockedKeyCount: Int.random(in: 0...1_000, using: &random), settledTo: Position(number(using: &random)),
            oldest: Bool.random(using: &random)
                ? .init(position: Position(number(using: &random)), recordedAt: time(using: &random)) : nil,
            lastFailure: Bool.random(using: &random) ? listed(using: &random) : nil,
            stoppedSlots: (0..<Int.random(in: 0...3, using: &random)).map { slot in
                .init(number: slot, reason: text(using: &random))
            })
    }

    /// A message that only comes on a stream over many tenants.
    private static func tenantsMessage(
        of tenant: TenantID, using random: inout SeededGenerator
    ) throws -> CallMessage {
        guard Bool.random(using: &random) else {
            return .consume(.joined(Array(repeating: tenant, count: Int.random(in: 0...3, using: &random))))
        }
        let error = MartletError(
            .notFound, reason: .consumerNotFound, message: text(using: &random),
            isRetryable: Bool.random(using: &random),
            limit: Bool.random(using: &random) ? .init(name: "n", limit: number(using: &random), actual: 1) : nil)
        return .consumeOf(tenant, .left(error))
    }

    static func consumeMessage(using random: inout SeededGenerator) throws -> ConsumeMessage {
        let slot = Int.random(in: 0..<ConsumerDefinition.slotsMax, using: &random)
        let count = Int.random(in: 0...4, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0:
            return .assigned(
                (0..<count).map {
                    .init(number: $0, epoch: number(using: &random), checkpoint: checkpoint(using: &random))
                })
        case 1: return .revoked((0..<count).map { slot + $0 })
        case 2: return .committed(slot: slot, checkpoint(using: &random))
        case 3: return .stopped(slot: slot, reason: text(using: &random))
        case 4: return .paused(Bool.random(using: &random))
        case 5: return .waits(creditBytes: number(using: &random))
        default:
            var entries = ByteBuffer()
            let deliveries = try (0..<count).map { _ in
                RecordedEntries.write(
                    position: Position(number(using: &random)), version: Version(number(using: &random)),
                    recordedAt: time(using: &random), aggregate: try aggregate(using: &random),
                    body: try EncodedEvent(event(using: &random)).body, to: &entries)
                return ConsumeMessage.Delivery(
                    number: number(using: &random), slot: [0, slot].randomElement(using: &random) ?? 0,
                    attempt: UInt32(truncatingIfNeeded: number(using: &random)),
                    mayBeRepeated: Bool.random(using: &random),
                    key: ConsumerKey(bytes: [0x67, 0, 0xFF]), isKeyBlocked: Bool.random(using: &random))
            }
            return .events(entries, deliveries)
        }
    }
}
