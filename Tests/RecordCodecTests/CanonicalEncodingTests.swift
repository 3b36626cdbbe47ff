import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletTesting
import NIOCore
import Testing

@Suite struct CanonicalEncodingTests {
    @Test func goldenBytes() throws {
        var metadata = EventMetadata()
        metadata.userID = "u"
        metadata.role = "r"
        metadata.occurredAt = Timestamp(microseconds: 300)
        metadata.correlationID = "c"
        metadata.causationID = "d"
        metadata.requestID = "q"
        metadata.source = "s"
        metadata.traceparent = "t"
        metadata.tags = ["k": "v", "b": ""]
        let encoded = try EncodedEvent(
            Sample.event(contentType: "text/plain", schemaVersion: 130, metadata: metadata, payload: "hi"))
        let golden: [UInt8] =
            [0x0A, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
            + [0x12, 4, 0x4D, 0x61, 0x64, 0x65]
            + [0x1A, 10, 0x74, 0x65, 0x78, 0x74, 0x2F, 0x70, 0x6C, 0x61, 0x69, 0x6E]
            + [0x20, 0x82, 0x01]
            + [0x2A, 37, 0x0A, 1, 0x75, 0x12, 1, 0x72, 0x18, 0xAC, 0x02, 0x22, 1, 0x63, 0x2A, 1, 0x64]
            + [0x32, 1, 0x71, 0x3A, 1, 0x73, 0x42, 1, 0x74]
            + [0x4A, 3, 0x0A, 1, 0x62, 0x4A, 6, 0x0A, 1, 0x6B, 0x12, 1, 0x76]
            + [0x7A, 2, 0x68, 0x69]
        #expect(encoded.body.array == golden)
        #expect(encoded.id == Sample.id && encoded.type.text == "Made" && encoded.contentType == "text/plain")
        #expect(encoded.schemaVersion == 130 && encoded.payloadBytes == 2)
        // It has a higher number than the tags, and follows them.
        metadata.tracestate = "x"
        let traced = try EncodedEvent(
            Sample.event(contentType: "text/plain", schemaVersion: 130, metadata: metadata, payload: "hi"))
        let head = Array(golden[..<39]) + [0x2A, 40] + Array(golden[41..<78])
        #expect(traced.body.array == head + [0x52, 1, 0x78] + Array(golden[78...]))
    }

    @Test func defaultsAreFilledInOrLeftOut() throws {
        let given = Sample.bare.field(3, "application/json").field(4, 1).field(15, "{}")
        for message in [
            Sample.bare.field(15, "{}"),
            Sample.bare.field(3, "").field(4, 0).field(15, "{}"),
            Sample.bare.field(5, Wire()).field(15, "{}"),
            Sample.bare.field(5, Wire().field(1, "").field(3, 0).field(8, "")).field(15, "{}"),
            given,
        ] {
            let encoded = try #require(try Sample.encode(message))
            #expect(encoded.body.array == given.bytes)
            #expect(encoded.contentType == "application/json" && encoded.schemaVersion == 1)
        }
        let empty = try #require(try Sample.encode(Sample.bare.field(3, "a/b")))
        #expect(empty.body.array == Sample.bare.field(3, "a/b").field(4, 1).bytes, "an empty payload is left out")
        #expect(empty.payloadBytes == 0)
    }

    @Test func tagsAreSortedByTheirBytesAndEachKeyOnce() throws {
        func body(_ tags: [(String, String)]) throws -> [UInt8] {
            let metadata = tags.reduce(Wire()) { $0.field(9, .tag($1.0, $1.1)) }
            return try #require(try Sample.encode(Sample.bare.field(5, metadata).field(15, "{}"))).body.array
        }
        func plain(_ tags: [(String, String)]) -> [UInt8] {
            let metadata = tags.reduce(Wire()) { wire, tag in
                var message = Wire()
                if !tag.0.isEmpty { message = message.field(1, tag.0) }
                if !tag.1.isEmpty { message = message.field(2, tag.1) }
                return wire.field(9, message)
            }
            return Sample.bare.field(3, "application/json").field(4, 1).field(5, metadata).field(15, "{}").bytes
        }
        #expect(try body([("b", "1"), ("a", "2")]) == plain([("a", "2"), ("b", "1")]))
        #expect(try body([("a", "1"), ("a", "2"), ("a", "3")]) == plain([("a", "3")]), "the last one counts")
        #expect(try body([("a", "1"), ("b", "2"), ("a", "3")]) == plain([("a", "3"), ("b", "2")]))
        #expect(try body([("ab", "1"), ("a", "2"), ("", "3")]) == plain([("", "3"), ("a", "2"), ("ab", "1")]))
        #expect(
            try body([("🙂", "1"), ("é", "2"), ("z", "3"), ("Z", "4")])
                == plain([("Z", "4"), ("z", "3"), ("é", "2"), ("🙂", "1")]))
        #expect(
            try body([("\u{E9}", "1"), ("e\u{301}", "2")]) == plain([("e\u{301}", "2"), ("\u{E9}", "1")]),
            "keys are the same when their bytes are")
    }

    @Test func unknownFieldsAreDropped() throws {
        let tag = Wire.tag("k", "v")
        let metadata = Wire().field(1, "u").field(9, tag)
        let known = Sample.bare.field(3, "a/b").field(4, 2).field(5, metadata).field(15, "p")
        let unknownTag = Wire().field(7, 5).field(1, "k").field(8, "new").field(2, "v")
        let unknownMetadata = Wire().field(1, "u").field(99, "new").field(9, unknownTag).field(98, 1)
        let unknown = Wire().field(1_000, 7).field(1, bytes: Array(1...16)).field(2, "Made").field(3, "a/b")
            .field(4, 2).field(5, unknownMetadata).field(6, "new").field(15, "p").field(16, "after")
        #expect(try Sample.encode(unknown)?.body.array == known.bytes)
        let onlyUnknown = Sample.bare.field(5, Wire().field(99, "new")).field(3, "a/b").field(15, "p")
        #expect(
            try Sample.encode(onlyUnknown)?.body.array == Sample.bare.field(3, "a/b").field(4, 1).field(15, "p").bytes)
    }

    @Test func fieldsComeInTheOrderOfTheirNumbers() throws {
        let canonical = Sample.bare.field(3, "a/b").field(4, 7).field(5, Wire().field(1, "u").field(3, 9)).field(
            15, "p")
        let shuffled = Wire().field(15, "p").field(5, Wire().field(3, 9).field(1, "u")).field(4, 7).field(3, "a/b")
            .field(2, "Made").field(1, bytes: Array(1...16))
        #expect(try Sample.encode(shuffled)?.body.array == canonical.bytes)
        let repeated = Wire().field(2, "Old").field(15, "older").field(4, 1)
        let twice = Wire(repeated, then: shuffled)
        #expect(try Sample.encode(twice)?.body.array == canonical.bytes, "of a repeated field the last one counts")
    }

    @Test func thePayloadIsTheTailAsItCameIn() throws {
        for payload in [" {\"a\" : 1 }\r\n", "\t[]", "1.0", "{\"b\":1,\"a\":1,\"a\":2}"] {
            let encoded = try #require(try Sample.encode(Sample.bare.field(15, payload)))
            #expect(Array(encoded.body.array.suffix(encoded.payloadBytes)) == Array(payload.utf8))
        }
    }

    @Test func bothWaysInGiveTheSameBytes() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<500 {
            let event = try Sample.event(using: &random)
            let first = try EncodedEvent(event)
            let again = try #require(try Sample.encode(Wire(first.body.array)))
            #expect(again == first, "seed \(random.seed): canonical bytes are their own canonical form")
            var changed = event
            changed.payload.writeString(" ")
            #expect(try EncodedEvent(changed).body != first.body, "seed \(random.seed)")
        }
    }

    @Test func oneEncoderHoldsManyEvents() throws {
        var random = SeededGenerator.fromEnvironment()
        let events = try (0..<50).map { _ in try Sample.event(using: &random) }
        var encoder = EventEncoder(limits: Limits())
        for event in events {
            try encoder.add(event)
            #expect(throws: MartletError.self) { try encoder.add(Sample.event(contentType: "a/json\n")) }
        }
        let alone = try events.map { try EncodedEvent($0) }
        #expect(encoder.finish() == alone, "seed \(random.seed): a refused event leaves the others alone")
        #expect(encoder.finish().isEmpty, "the encoder is empty afterwards")
        try encoder.add(events[0])
        #expect(encoder.finish() == [alone[0]])
    }
}

extension Wire {
    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// One message after the other: fields of the second count.
    init(_ first: Wire, then second: Wire) { bytes = first.bytes + second.bytes }
}
