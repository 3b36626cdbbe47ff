import FoundationEssentials
import MartletModel
package import NIOCore

/// How values become payloads: JSON with sorted keys; moments as RFC 3339 in UTC to the microsecond.
package enum EventJSON {
    package static func encode(_ value: some Encodable) throws -> ByteBuffer {
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

    package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: ByteBuffer) throws -> Value {
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
}
