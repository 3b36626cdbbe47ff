public import FoundationEssentials

extension UUID {
    /// The UUID of a text: 32 hexadecimal digits of either case, in groups of 8, 4, 4, 4 and 12 with a dash between them;
    /// nil for any other text.
    ///
    /// `UUID(uuidString:)` takes more: of `111111-1-1111-4111-8111-111111111111` it reads `-1` as a byte, 0xFF.
    public init?(text: some StringProtocol) {
        let utf8 = Array(text.utf8)
        guard utf8.count == 36 else { return nil }
        var bytes: [UInt8] = []
        var high: UInt8?
        for (index, byte) in utf8.enumerated() {
            if [8, 13, 18, 23].contains(index) {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: return nil
            }
            if let first = high {
                bytes.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        self.init(bytes: bytes)
    }

    /// The UUID of these bytes; nil unless there are exactly 16.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        self = unsafe bytes.withUnsafeBytes { unsafe UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }

    /// The UUID of these bytes; nil unless there are exactly 16. The bytes are not kept.
    @unsafe public init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 16 else { return nil }
        self.init(uuid: unsafe bytes.loadUnaligned(as: uuid_t.self))
    }

    /// The UUID whose first 8 bytes are `high` and whose last 8 are `low`, both big-endian.
    public init(high: UInt64, low: UInt64) {
        func byte(_ word: UInt64, _ index: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: word >> (56 - 8 * index)) }
        self.init(
            uuid: (
                byte(high, 0), byte(high, 1), byte(high, 2), byte(high, 3),
                byte(high, 4), byte(high, 5), byte(high, 6), byte(high, 7),
                byte(low, 0), byte(low, 1), byte(low, 2), byte(low, 3),
                byte(low, 4), byte(low, 5), byte(low, 6), byte(low, 7)
            ))
    }

    /// The 16 bytes, in the order in which they travel and sort.
    public var bytes: [UInt8] {
        let u = uuid
        return [
            u.0, u.1, u.2, u.3, u.4, u.5, u.6, u.7, u.8, u.9, u.10, u.11, u.12, u.13, u.14, u.15,
        ]
    }

    /// A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, 74 random bits.
    ///
    /// Ids made in one millisecond are in no particular order among themselves.
    public static func v7(at now: Timestamp, using random: inout some RandomNumberGenerator) -> UUID {
        let millis = UInt64(clamping: now.microseconds / 1000) & 0xFFFF_FFFF_FFFF
        let high = millis << 16 | 0x7000 | (random.next() & 0x0FFF)
        let low = 0x8000_0000_0000_0000 | (random.next() & 0x3FFF_FFFF_FFFF_FFFF)
        return UUID(high: high, low: low)
    }

    /// A time-ordered UUID of now, from the system's clock and generator.
    public static func v7() -> UUID {
        var random = SystemRandomNumberGenerator()
        return v7(at: .now(), using: &random)
    }
}

/// The owner of a closed set of events. It comes into being with its first event.
public struct TenantID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The tenant's UUID.
    public let uuid: UUID

    /// The tenant of that UUID.
    public init(_ uuid: UUID) { self.uuid = uuid }

    /// Lower-case text of the UUID.
    public var description: String { uuid.uuidString.lowercased() }

    /// Tenants sort by the bytes of their UUID: engines lock head rows in this order.
    public static func < (a: TenantID, b: TenantID) -> Bool { a.uuid < b.uuid }
}
