import FoundationEssentials
import MartletModel
import Testing

@Suite struct NamesTests {
    @Test func anAggregateTypeIsOneTo128BytesOfFewCharacters() {
        for text in ["a", "Z", "0", "_.:-", "Order.v2:line-item_3", String(repeating: "x", count: 128)] {
            #expect(AggregateType(text)?.text == text)
            #expect(AggregateType(text)?.description == text)
        }
        let refused = [
            "", String(repeating: "x", count: 129), " ", "a b", "a/b", "a\n", "\0", "a\0", "ä", "a\u{301}", "*", "a,b",
            "@",
            "[", "`", "{", "/", ";",
        ]
        for text in refused { #expect(AggregateType(text) == nil, "\(text.debugDescription)") }
    }

    @Test func eachByteOfAnAggregateTypeIsJudgedAlone() {
        let allowed = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-".utf8)
        for byte in UInt8(0)..<0x80 {
            let text = "a" + String(UnicodeScalar(byte)) + "b"
            #expect((AggregateType(text) != nil) == allowed.contains(byte), "byte \(byte)")
        }
    }

    @Test func aggregateTypesSortByTheirBytes() throws {
        let texts = ["-", ".", "0", "9", ":", "A", "Z", "Zz", "_", "a", "a-", "aa", "z"]
        let sorted = texts.shuffled().compactMap { AggregateType($0) }.sorted()
        #expect(sorted.map(\.text) == texts)
    }

    @Test func anEventTypeIsOneTo256BytesWithoutControlCharacters() {
        let allowed = [
            "a", " ", "Order placed", "größer", "注文", "🙂", "a/b", "\u{A0}", "\u{7E}", "\u{200B}",
            String(repeating: "x", count: 256), String(repeating: "é", count: 128),
        ]
        for text in allowed {
            #expect(EventType(text)?.text == text)
            #expect(EventType(text)?.description == text)
        }
        for text in ["", String(repeating: "x", count: 257), String(repeating: "é", count: 128) + "x"] {
            #expect(EventType(text) == nil, "\(text.utf8.count) bytes")
        }
    }

    @Test func eachControlCharacterIsRefusedInAnEventType() {
        for value in UInt32(0)...0x100 {
            guard let scalar = UnicodeScalar(value) else { continue }
            let isControl = value < 0x20 || (0x7F...0x9F).contains(value)
            #expect((EventType.init("a" + String(scalar)) == nil) == isControl, "U+\(String(value, radix: 16))")
        }
        #expect(EventType.init("\r\n") == nil, "one Character of two controls")
    }

    /// Storage compares bytes; were memory to compare letters, a filter would let events through live that a read
    /// from storage leaves out.
    @Test func eventTypesThatLookAlikeAreNotTheSame() throws {
        let composed = EventType("caf\u{E9}")
        let decomposed = EventType("cafe\u{301}")
        let marks = EventType("a\u{301}\u{323}")
        let marksReordered = EventType("a\u{323}\u{301}")
        #expect(composed != decomposed)
        #expect(marks != marksReordered, "as many bytes, in another order")
        #expect(Set([composed, decomposed, marks, marksReordered]).count == 4)
        let again = EventType("cafe\u{301}")
        #expect(decomposed == again && decomposed.hashValue == again.hashValue)
        let name = AggregateName(type: AggregateType("shop"), id: UUID(high: 1, low: 1))
        #expect(EventFilter(eventTypes: [composed]).matches(name, composed))
        #expect(!EventFilter(eventTypes: [composed]).matches(name, decomposed))
    }

    @Test func anAggregateNameIsWrittenAsTypeAndLowerCaseID() throws {
        let name = AggregateName(type: AggregateType("Order"), id: UUID(high: 0xABCD << 48, low: 0xEF))
        #expect(name.description == "Order/abcd0000-0000-0000-0000-0000000000ef")
    }

    @Test func expectedVersionsHoldWhereTheySay() {
        let versions = [Version.none, Version(1), Version(2), Version(7), .max]
        let table: [(ExpectedVersion, [Bool])] = [
            (.any, [true, true, true, true, true]),
            (.none, [true, false, false, false, false]),
            (.exists, [false, true, true, true, true]),
            (.exact(.none), [true, false, false, false, false]),
            (.exact(Version(1)), [false, true, false, false, false]),
            (.exact(Version(2)), [false, false, true, false, false]),
            (.exact(.max), [false, false, false, false, true]),
            (.exact(Version(8)), [false, false, false, false, false]),
        ]
        for (expected, holds) in table {
            #expect(versions.map { expected.holds(at: $0) } == holds, "\(expected)")
        }
        let names = table.map(\.0.description)
        #expect(names == ["any", "none", "exists", "0", "1", "2", "9223372036854775807", "8"])
    }

    @Test func filtersCombineFieldsWithAndAndValuesWithOr() throws {
        let types = ["order", "cart"].compactMap { AggregateType($0) }
        let events = ["Made", "Closed"].compactMap { EventType($0) }
        let ids = [UUID(high: 1, low: 1), UUID(high: 1, low: 2)]
        // Every filter over two values a field, against every event over these values.
        for mask in 0..<64 {
            func chosen<Value: Hashable>(_ values: [Value], _ shift: Int) -> Set<Value> {
                Set(values.indices.filter { mask >> (shift + $0) & 1 == 1 }.map { values[$0] })
            }
            let filter = EventFilter(
                aggregateTypes: chosen(types, 0), eventTypes: chosen(events, 2), aggregateIDs: chosen(ids, 4))
            #expect(filter.isEmpty == (mask == 0))
            #expect(filter.valueCount == mask.nonzeroBitCount)
            for (t, type) in types.enumerated() {
                for (e, event) in events.enumerated() {
                    for (i, id) in ids.enumerated() {
                        func allows(_ shift: Int, _ index: Int) -> Bool {
                            let field = mask >> shift & 3
                            return field == 0 || field >> index & 1 == 1
                        }
                        let expected = allows(0, t) && allows(2, e) && allows(4, i)
                        let actual = filter.matches(AggregateName(type: type, id: id), event)
                        #expect(actual == expected, "filter \(mask), event \(t) \(e) \(i)")
                    }
                }
            }
        }
        #expect(EventFilter.all.isEmpty && EventFilter.all.valueCount == 0)
    }
}
