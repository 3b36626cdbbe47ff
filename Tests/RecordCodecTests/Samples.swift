import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletTesting
import NIOCore
import Testing

/// Bytes in protobuf's wire format, put together by hand: an encoder that shares nothing with the one under test.
struct Wire: Hashable {
    var bytes: [UInt8] = []

    init() {}

    private mutating func varint(_ value: UInt64) {
        var rest = value
        repeat {
            bytes.append(UInt8(rest % 128) + (rest >= 128 ? 128 : 0))
            rest /= 128
        } while rest > 0
    }

    func field(_ number: UInt64, _ value: UInt64) -> Wire {
        var wire = self
        wire.varint(number * 8)
        wire.varint(value)
        return wire
    }

    func field(_ number: UInt64, bytes: [UInt8]) -> Wire {
        var wire = self
        wire.varint(number * 8 + 2)
        wire.varint(UInt64(bytes.count))
        wire.bytes += bytes
        return wire
    }

    func field(_ number: UInt64, _ text: String) -> Wire { field(number, bytes: Array(text.utf8)) }

    func field(_ number: UInt64, _ message: Wire) -> Wire { field(number, bytes: message.bytes) }

    static func tag(_ key: String, _ value: String) -> Wire { Wire().field(1, key).field(2, value) }
}

enum Sample {
    static let id = UUID(high: 0x0102_0304_0506_0708, low: 0x090A_0B0C_0D0E_0F10)

    static func type(_ text: String = "Made") throws -> EventType { try #require(EventType(text)) }

    static func aggregate(_ number: UInt64 = 1) throws -> AggregateName {
        AggregateName(type: AggregateType("order"), id: UUID(high: 0, low: number))
    }

    static func event(
        contentType: String = "text/plain", schemaVersion: UInt32 = 1, metadata: EventMetadata = .empty,
        payload: String = "x"
    ) throws -> NewEvent {
        NewEvent(
            id: id, type: try type(), contentType: contentType, schemaVersion: schemaVersion, metadata: metadata,
            payload: ByteBuffer(string: payload))
    }

    /// The required fields of an event, as bytes.
    static let bare = Wire().field(1, bytes: Array(1...16)).field(2, "Made")

    /// What a peer's bytes come to: unpacked, checked and encoded. Nil where they are no message at all.
    static func encode(_ message: Wire, limits: Limits = Limits()) throws -> EncodedEvent? {
        var encoder = EventEncoder(limits: limits)
        guard try add(message, to: &encoder, name: "events[3]") else { return nil }
        return encoder.finish().first
    }

    /// Adds the event that a peer's bytes are; false where they are no message at all.
    static func add(_ message: Wire, to encoder: inout EventEncoder, name: String) throws -> Bool {
        let arena = DecodingArena(budget: 64 << 20)
        let result: Result<Bool, MartletError> = unsafe message.bytes.withUnsafeBytes { bytes in
            unsafe arena.withAllocator { allocator -> Result<Bool, MartletError> in
                guard
                    let event = unsafe martlet__v1__event__unpack(
                        allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
                else { return .success(false) }
                do throws(MartletError) {
                    try unsafe encoder.add(event, name: name)
                    return .success(true)
                } catch { return .failure(error) }
            }
        }
        return try result.get()
    }

    /// The error that a peer's bytes come to.
    static func error(_ message: Wire, limits: Limits = Limits()) -> MartletError? {
        #expect(throws: MartletError.self) { try encode(message, limits: limits) }
    }

    static func metadata(using random: inout SeededGenerator) -> EventMetadata {
        func text() -> String {
            ["", "", "a", "größe", "🙂", "e\u{301}", "x y", "\n\0"].randomElement(using: &random) ?? ""
        }
        var metadata = EventMetadata()
        metadata.userID = text()
        metadata.role = text()
        metadata.correlationID = text()
        metadata.causationID = text()
        metadata.requestID = text()
        metadata.source = text()
        metadata.traceparent = text()
        metadata.tracestate = text()
        if Bool.random(using: &random) {
            // The very microsecond of 1970 stands for nil on the wire.
            metadata.occurredAt = Timestamp(microseconds: Int64.random(in: .min ... .max, using: &random) | 1)
        }
        for _ in 0..<Int.random(in: 0...4, using: &random) { metadata.tags[ExactText(text())] = text() }
        return metadata
    }

    static func event(using random: inout SeededGenerator) throws -> NewEvent {
        let isJSON = Bool.random(using: &random)
        let count = Int.random(in: 0...300, using: &random)
        let payload =
            isJSON
            ? Array(" {\"n\":[\(count)]} ".utf8)
            : (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        return NewEvent(
            id: UUID(high: random.next(), low: random.next()),
            type: try type(
                ["Made", "größer", "a b", String(repeating: "x", count: 256)].randomElement(using: &random) ?? "M"),
            contentType: isJSON ? "application/json" : "application/octet-stream",
            schemaVersion: UInt32.random(in: 1...UInt32(Int32.max), using: &random),
            metadata: metadata(using: &random), payload: ByteBuffer(bytes: payload))
    }
}

extension ByteBuffer {
    var array: [UInt8] { Array(readableBytesView) }
}
