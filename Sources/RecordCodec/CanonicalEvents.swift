import CMartletChecksum
import FoundationEssentials
public import MartletModel
public import NIOCore

/// Recognises events that came in their canonical encoding and keep to the limits, in one pass over their bytes, so that
/// they need not be taken apart and put together again.
///
/// It accepts a part of what ``EventEncoder`` accepts, and answers the same there. What it declines may be valid in
/// another form, or wrong: ``EventEncoder`` says which.
public struct CanonicalEvents {
    private let metadataBytesMax: Int
    private let payloadBytesMax: Int
    /// Events that come together are mostly of few types, whose text is then made once.
    private var lastType: EventType?

    /// Recognises events that keep to those limits.
    public init(limits: Limits) {
        metadataBytesMax = limits.metadataBytesMax
        payloadBytesMax = limits.payloadBytesMax
    }

    /// The event in that range of a message; nil where it is declined.
    ///
    /// - Parameters:
    ///   - bytes: the message's readable bytes.
    ///   - range: counts from the first of them.
    /// - Returns: the event, whose body is a slice of the message.
    @unsafe public mutating func event(
        in range: Range<Int>, of bytes: UnsafeRawBufferPointer, message: ByteBuffer
    ) -> EncodedEvent? {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(1 << 3 | 2), let idRange = fields.content(), let id = unsafe UUID(bytes: bytes.part(idRange)),
            fields.take(2 << 3 | 2), let typeRange = fields.content(),
            let type = unsafe eventType(bytes.part(typeRange)),
            fields.take(3 << 3 | 2), let contentTypeRange = fields.content(),
            let contentType = unsafe Self.contentType(bytes.part(contentTypeRange)),
            fields.take(4 << 3), let schemaVersion = fields.varint(), (1...UInt64(Int32.max)).contains(schemaVersion),
            let metadata = fields.optional(5 << 3 | 2), metadata.count <= metadataBytesMax,
            unsafe Self.isCanonicalMetadata(bytes, metadata),
            let payload = fields.optional(15 << 3 | 2), payload.count <= payloadBytesMax, fields.isAtEnd
        else { return nil }
        if JSONText.isJSON(contentType: contentType), unsafe PayloadChecks.fault(ofJSON: bytes.part(payload)) != nil {
            return nil
        }
        guard let body = message.getSlice(at: message.readerIndex + range.lowerBound, length: range.count) else {
            return nil
        }
        return EncodedEvent(
            id: id, type: type, contentType: contentType, schemaVersion: UInt32(truncatingIfNeeded: schemaVersion),
            payloadBytes: payload.count, body: body,
            bodyChecksum: unsafe CRC32C.checksum(of: bytes.part(range)))
    }

    @unsafe private mutating func eventType(_ bytes: UnsafeRawBufferPointer) -> EventType? {
        if let lastType, unsafe lastType.text.hasBytes(bytes) { return lastType }
        guard let type = unsafe EventType(utf8: bytes) else { return nil }
        lastType = type
        return type
    }

    @unsafe private static func contentType(_ bytes: UnsafeRawBufferPointer) -> String? {
        if unsafe PayloadChecks.isPlainJSON(bytes) { return NewEvent.json }
        guard unsafe (1...128).contains(bytes.count) && ByteText.isPrintableASCII(bytes) else { return nil }
        return unsafe String(decoding: bytes, as: UTF8.self)
    }

    private static func isAdmitted(_ occurredAt: UInt64) -> Bool {
        let micros = Int64(bitPattern: occurredAt)
        return micros >= Timestamp.earliest.microseconds && micros <= Timestamp.latest.microseconds
    }

    /// Whether the fields are in order, none is a default, every text is UTF-8, and tags are sorted and unique.
    @unsafe private static func isCanonicalMetadata(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> Bool {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.takeText(1 << 3 | 2), fields.takeText(2 << 3 | 2) else { return false }
        if fields.take(3 << 3) {
            guard let occurredAt = fields.varint(), occurredAt != 0, isAdmitted(occurredAt) else { return false }
        }
        for number: UInt8 in 4...8 where !fields.takeText(number << 3 | 2) { return false }
        var lastKey: Range<Int>?
        while fields.take(9 << 3 | 2) {
            guard let range = fields.content() else { return false }
            var tag = unsafe StrictFields(bytes, range)
            guard let key = tag.optional(1 << 3 | 2), let value = tag.optional(2 << 3 | 2), tag.isAtEnd,
                unsafe ByteText.isUTF8(bytes.part(key)), unsafe ByteText.isUTF8(bytes.part(value))
            else { return false }
            if let lastKey, unsafe !bytes.part(lastKey).lexicographicallyPrecedes(bytes.part(key)) { return false }
            lastKey = key
        }
        return fields.takeText(10 << 3 | 2) && fields.isAtEnd
    }
}

extension StrictFields {
    /// Takes a text field if it comes next. False where it is empty or no UTF-8.
    fileprivate mutating func takeText(_ key: UInt8) -> Bool {
        guard let range = optional(key) else { return false }
        return unsafe ByteText.isUTF8(bytes.part(range))
    }
}

extension UnsafeRawBufferPointer {
    /// The bytes in that range, which must lie within.
    @unsafe func part(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: self[range])
    }
}

extension UnsafeRawBufferPointer {
    /// Whether the bytes are those, in the time of a copy.
    @unsafe func isSame(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count, let start = baseAddress, let otherStart = other.baseAddress else {
            return count == other.count
        }
        return unsafe martlet_is_same(start, otherStart, count)
    }
}

extension String {
    /// Whether these are the bytes of the text.
    @unsafe func hasBytes(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard utf8.count == bytes.count else { return false }
        let isSame = unsafe utf8.withContiguousStorageIfAvailable { utf8 in
            unsafe UnsafeRawBufferPointer(utf8).isSame(as: bytes)
        }
        return unsafe isSame ?? utf8.elementsEqual(bytes)
    }
}
