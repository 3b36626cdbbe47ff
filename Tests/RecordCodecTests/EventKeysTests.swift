import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletTesting
import NIOCore
import Testing

/// The keys that consumers divide stored events by, found without decoding them.
@Suite struct EventKeysTests {
    private static func entry(
        _ aggregate: AggregateName, tags: [ExactText: String] = [:], at position: UInt64 = 1
    ) throws -> (ByteBuffer, UUID) {
        var metadata = EventMetadata.empty
        metadata.tags = tags
        metadata.source = "test"
        let event = NewEvent(
            type: EventType("Opened"), metadata: metadata, payload: ByteBuffer(string: "{}"))
        var entries = ByteBuffer()
        _ = RecordedEntries.write(
            position: Position(position), version: Version(1), recordedAt: Timestamp(microseconds: 5),
            aggregate: aggregate, event: try EncodedEvent(event), tenant: TenantID(UUID()), to: &entries)
        return (entries, event.id)
    }

    private static func key(
        _ rule: KeyRule, _ aggregate: AggregateName, tags: [ExactText: String] = [:]
    ) throws -> ConsumerKey {
        let (entries, id) = try entry(aggregate, tags: tags)
        let keyed = try RecordedEntries.keyed(entries, by: rule)
        #expect(keyed.map(\.id) == [id] && keyed.map(\.entry) == [0..<entries.readableBytes])
        return try #require(keyed.first).key
    }

    @Test func aKeyIsTheSameAsThatOfTheDecodedEvent() throws {
        let aggregate = AggregateName.new("order")
        let tags: [ExactText: String] = ["région": "Île", "other": "x"]
        for rule in [KeyRule.aggregate, .aggregateType, .tag("région"), .tag("missing")] {
            let expected = ConsumerKey(rule, aggregate: aggregate) { tags[ExactText($0)] }
            #expect(try Self.key(rule, aggregate, tags: tags) == expected, "\(rule)")
        }
    }

    @Test func keysAreWhatTheirPageSays() throws {
        let id = try #require(UUID(uuidString: "0A1B2C3D-0000-4000-8000-00000000ABCD"))
        let aggregate = AggregateName(type: AggregateType("account"), id: id)
        #expect(
            try Self.key(.aggregate, aggregate).description == "a:account/0a1b2c3d-0000-4000-8000-00000000abcd")
        #expect(try Self.key(.aggregateType, aggregate).description == "t:account")
        #expect(try Self.key(.tag("t"), aggregate, tags: ["t": ""]).description == "g:")
        let long = String(repeating: "x", count: 300)
        #expect(try Self.key(.tag("t"), aggregate, tags: ["t": long]).bytes.count == ConsumerKey.bytesMax)
    }

    @Test func tagsOfOtherBytesAreOthers() throws {
        let aggregate = AggregateName.new("order")
        let key = try Self.key(.tag("Cafe\u{301}"), aggregate, tags: ["Caf\u{E9}": "x"])
        #expect(key.description.hasPrefix("a:"), "the same to Swift, and another tag")
    }

    @Test func severalEventsComeInOrder() throws {
        var (entries, _) = try Self.entry(.new("order"), at: 1)
        var (second, _) = try Self.entry(.new("order"), at: 2)
        entries.writeBuffer(&second)
        let keyed = try RecordedEntries.keyed(entries, by: .aggregate)
        #expect(keyed.map(\.position) == [Position(1), Position(2)])
        #expect(keyed[0].entry.upperBound == keyed[1].entry.lowerBound)
        #expect(throws: RecordFault.self) {
            try RecordedEntries.keyed(ByteBuffer(bytes: [0x0A, 0x7F, 0x01]), by: .aggregate)
        }
    }

    /// Whatever slots are asked for, what is found is what all keys say.
    @Test(arguments: [KeyRule.aggregate, .aggregateType, .tag("t")])
    func theEventsOfSlotsAreFoundWithoutTheKeysOfOthers(_ rule: KeyRule) throws {
        var random = SeededGenerator.fromEnvironment()
        let seed = random.seed
        var entries = ByteBuffer()
        for position in 1...200 {
            let length = [0, 1, 40, 253, 254, 255, 300][Int.random(in: 0..<7, using: &random)]
            let value = String(repeating: "v\(Int.random(in: 0..<9, using: &random))", count: length / 2)
            let tags: [ExactText: String] = Bool.random(using: &random) ? ["t": value] : [:]
            let type = "type\(Int.random(in: 0..<20, using: &random))"
            var (entry, _) = try Self.entry(.new(type), tags: tags, at: UInt64(position))
            entries.writeBuffer(&entry)
        }
        let all = try RecordedEntries.keyed(entries, by: rule)
        for count in [1, 2, 7, 64, 1_024] {
            let chosen = (0..<count).filter { _ in Int.random(in: 0..<3, using: &random) == 0 }
            let slotted = try SlottedEntries(entries, by: rule, slotCount: count)
            #expect(slotted.count == all.count)
            #expect(slotted.last == all.last.map { Checkpoint(position: $0.position, eventID: $0.id) })
            let choice = SlotChoice(chosen, of: count)
            var events: [KeyedEntry] = []
            var index = slotted.index(from: 0, in: choice)
            while index < slotted.count {
                let event = try slotted.event(index)
                #expect(slotted.slot(of: index) == event.key.slot(of: count), "seed \(seed), \(count) slots")
                #expect(slotted.position(of: index) == event.position)
                #expect(slotted.index(after: event.position) == index + 1)
                #expect(slotted.bytes(of: index) == event.entry.count)
                #expect(slotted.entry(index) == entries.getSlice(at: event.entry.lowerBound, length: event.entry.count))
                events.append(event)
                index = slotted.index(from: index + 1, in: choice)
            }
            #expect(
                events == all.filter { Set(chosen).contains($0.key.slot(of: count)) }, "seed \(seed), \(count) slots")
        }
        #expect(try SlottedEntries(ByteBuffer(), by: rule, slotCount: 1).last == nil)
        #expect(throws: RecordFault.self) {
            try SlottedEntries(ByteBuffer(bytes: [0x0A, 0x01, 0x00]), by: rule, slotCount: 1)
        }
    }
}
