import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore
import Testing

@Suite struct EventValidationTests {
    @Test(arguments: [0, 1, 15, 17, 32])
    func anIDHas16Bytes(count: Int) {
        let error = Sample.error(Wire().field(1, bytes: [UInt8](repeating: 7, count: count)).field(2, "Made"))
        #expect(error?.reason == .invalidField && error?.code == .invalidArgument)
        #expect(error?.message == "events[3].id has \(count) bytes: a UUID has 16")
    }

    @Test func anIDIsRequired() { #expect(Sample.error(Wire().field(2, "Made"))?.reason == .invalidField) }

    @Test func aTypeIsAllowedText() {
        let refused: [[UInt8]] = [
            [], [0xFF], [0x41, 0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0x00], [0x41, 0x0A], [0x7F], [0xC2, 0x85],
            [UInt8](repeating: 0x41, count: 257),
        ]
        for type in refused {
            let error = Sample.error(Wire().field(1, bytes: Array(1...16)).field(2, bytes: type))
            #expect(
                error?.reason == .invalidField && error?.message.hasPrefix("events[3].type has \(type.count)") == true)
        }
        #expect(Sample.error(Wire().field(1, bytes: Array(1...16)))?.reason == .invalidField)
    }

    @Test func aContentTypeIsAtMost128BytesOfText() throws {
        let refused: [[UInt8]] = [
            [0xFF], [0x61, 0xC3], [0x61, 0x0A], [0x00], [0x7F], [UInt8](repeating: 0x61, count: 129),
        ]
        for contentType in refused {
            let error = Sample.error(Sample.bare.field(3, bytes: contentType))
            #expect(error?.reason == .invalidField && error?.message.hasPrefix("events[3].content_type") == true)
        }
        for contentType in ["a", String(repeating: "a", count: 128), "text/größe", "a/b; c=\"d\""] {
            #expect(try Sample.encode(Sample.bare.field(3, contentType))?.contentType == contentType)
        }
    }

    @Test func aSchemaVersionFitsIn31Bits() throws {
        #expect(try Sample.encode(Sample.bare.field(3, "a/b").field(4, 0x7FFF_FFFF))?.schemaVersion == 0x7FFF_FFFF)
        for version: UInt64 in [0x8000_0000, 0xFFFF_FFFF] {
            let error = Sample.error(Sample.bare.field(3, "a/b").field(4, version))
            #expect(error?.reason == .invalidField)
            #expect(error?.message == "events[3].schema_version must be at most 2147483647")
        }
    }

    @Test func aPayloadKeepsToItsLimit() throws {
        var limits = Limits()
        limits.payloadBytesMax = 100
        let message = Sample.bare.field(3, "a/b")
        #expect(
            try Sample.encode(message.field(15, bytes: .init(repeating: 1, count: 100)), limits: limits)?.payloadBytes
                == 100)
        let error = Sample.error(message.field(15, bytes: .init(repeating: 1, count: 101)), limits: limits)
        #expect(error?.reason == .limitExceeded)
        #expect(error?.limit == .init(name: "payload_bytes_max", limit: 100, actual: 101))
        #expect(error?.message.contains("events[3]") == true)
    }

    @Test func metadataKeepsToItsLimitInItsCanonicalForm() throws {
        var limits = Limits()
        limits.metadataBytesMax = 50
        let message = Sample.bare.field(3, "a/b")
        func user(_ bytes: Int) -> Wire { Wire().field(1, String(repeating: "u", count: bytes - 2)) }
        #expect(try Sample.encode(message.field(5, user(50)), limits: limits) != nil)
        let error = Sample.error(message.field(5, user(51)), limits: limits)
        #expect(error?.reason == .limitExceeded)
        #expect(error?.limit == .init(name: "metadata_bytes_max", limit: 50, actual: 51))
        let unknown = user(50).field(99, String(repeating: "x", count: 500))
        #expect(try Sample.encode(message.field(5, unknown), limits: limits) != nil, "what is dropped does not count")
        let repeated = (0..<100).reduce(Wire()) { wire, _ in wire.field(9, .tag("k", "v")) }
        #expect(try Sample.encode(message.field(5, repeated), limits: limits) != nil)
        let many = (0..<20).reduce(Wire()) { $0.field(9, .tag("k\($1)", "v")) }
        #expect(Sample.error(message.field(5, many), limits: limits)?.limit?.name == "metadata_bytes_max")
    }

    @Test func aPayloadOfAJSONTypeIsJSON() throws {
        for contentType in ["", "application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
            let message = contentType.isEmpty ? Sample.bare : Sample.bare.field(3, contentType)
            #expect(try Sample.encode(message.field(15, "{\"a\":1}")) != nil)
            for (payload, offset) in [("", 0), ("{\"a\":}", 5), ("{} x", 3), ("\u{FEFF}{}", 0)] {
                let error = Sample.error(message.field(15, payload))
                #expect(error?.reason == .invalidJSON && error?.code == .invalidArgument)
                #expect(error?.message.hasPrefix("events[3].payload is not JSON at byte \(offset): ") == true)
            }
            #expect(Sample.error(message.field(15, bytes: [0x22, 0xFF, 0x22]))?.reason == .invalidJSON)
        }
        #expect(try Sample.encode(Sample.bare.field(3, "text/plain").field(15, "{")) != nil)
    }

    @Test func anErrorHoldsNothingOfThePayload() {
        let error = Sample.error(Sample.bare.field(15, "{\"password\":\"hunter2\","))
        #expect(error?.description.contains("hunter2") == false && error?.description.contains("password") == false)
    }

    @Test func metadataIsText() throws {
        for field: UInt64 in [1, 2, 4, 5, 6, 7, 8] {
            let error = Sample.error(Sample.bare.field(3, "a/b").field(5, Wire().field(field, bytes: [0x61, 0xFF])))
            #expect(error?.reason == .invalidField && error?.message.hasPrefix("events[3].metadata ") == true)
        }
        for tag in [
            Wire().field(1, bytes: [0xFF]).field(2, "v"), Wire().field(1, "k").field(2, bytes: [0xC3]),
            Wire().field(1, bytes: [0xED, 0xA0, 0x80]),
        ] {
            let metadata = Wire().field(9, .tag("a", "b")).field(9, tag)
            let error = Sample.error(Sample.bare.field(3, "a/b").field(5, metadata))
            #expect(error?.reason == .invalidField && error?.message.hasPrefix("events[3].metadata.tags ") == true)
        }
    }

    @Test func anEventOfTheClientIsHeldToTheSame() throws {
        func error(_ event: NewEvent, _ limits: Limits = Limits()) -> MartletError? {
            #expect(throws: MartletError.self) { try EncodedEvent(event, limits: limits) }
        }
        var limits = Limits()
        limits.payloadBytesMax = 3
        limits.metadataBytesMax = 3
        var metadata = EventMetadata()
        metadata.userID = "uu"
        #expect(error(try Sample.event(contentType: "application/json", payload: "{"))?.reason == .invalidJSON)
        #expect(error(try Sample.event(contentType: "\n"))?.reason == .invalidField)
        #expect(error(try Sample.event(schemaVersion: .max))?.reason == .invalidField)
        #expect(error(try Sample.event(payload: "xxxx"), limits)?.limit?.name == "payload_bytes_max")
        #expect(error(try Sample.event(metadata: metadata), limits)?.limit?.name == "metadata_bytes_max")
        #expect(
            try EncodedEvent(Sample.event(contentType: "", schemaVersion: 0, payload: "1")).contentType == NewEvent.json
        )
    }
}
