import FoundationEssentials
import MartletModel
import NIOCore

/// How values become payloads: JSON with sorted keys; moments as RFC 3339 in UTC to the microsecond.
enum EventJSON {
    static func encode(_ value: some Encodable) throws -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            let microseconds = (date.timeIntervalSince1970 * 1_000_000).rounded()
            guard let exact = Int64(exactly: microseconds) else {
                throw EncodingError.invalidValue(
                    date, .init(codingPath: encoder.codingPath, debugDescription: "not a time that RFC 3339 can write"))
            }
            try container.encode(Timestamp(microseconds: exact).description)
        }
        return ByteBuffer(bytes: try encoder.encode(value))
    }

    static func decode<Value: Decodable>(_ type: Value.Type, from bytes: ByteBuffer) throws -> Value {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom { decoder in
            let container = try decoder.singleValueContainer()
            guard let time = Timestamp(rfc3339: try container.decode(String.self)) else {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a time in RFC 3339")
            }
            return Date(timeIntervalSince1970: Double(time.microseconds) / 1_000_000)
        }
        return try decoder.decode(type, from: Data(bytes.readableBytesView))
    }

    /// The members of an object: keys with their quotes, values as they stand; nil if it is not an object.
    static func members(_ bytes: ByteBuffer) -> [(key: ByteBuffer, value: ByteBuffer)]? {
        let ranges = unsafe bytes.withUnsafeReadableBytes { bytes in unsafe try? JSONText.members(bytes) }
        guard let ranges else { return nil }
        func slice(_ range: Range<Int>) -> ByteBuffer {
            bytes.getSlice(at: bytes.readerIndex + range.lowerBound, length: range.count) ?? ByteBuffer()
        }
        return ranges.map { (slice($0.key), slice($0.value)) }
    }

    /// `{key:value}`; the key has its quotes.
    static func object(_ key: ByteBuffer, _ value: ByteBuffer) -> ByteBuffer {
        var object = ByteBuffer()
        object.reserveCapacity(key.readableBytes + value.readableBytes + 3)
        object.writeStaticString("{")
        object.writeImmutableBuffer(key)
        object.writeStaticString(":")
        object.writeImmutableBuffer(value)
        object.writeStaticString("}")
        return object
    }
}
