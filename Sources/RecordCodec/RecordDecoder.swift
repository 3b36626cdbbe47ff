import FoundationEssentials
public import MartletModel
public import NIOCore

/// Decodes the records of a page. What stands in every one of them, like the types, is made once; payloads are slices of
/// the page.
///
/// Records in the form that servers write are read in one pass; others by protobuf-c, with the same result.
public struct RecordDecoder: Sendable {
    private var lastAggregateType: AggregateType?
    private var lastType: EventType?

    /// A decoder, for any number of pages.
    public init() {}

    /// Decodes one record.
    public mutating func decode(_ record: ByteBuffer) throws(RecordFault) -> RecordedEvent {
        let event = unsafe record.withUnsafeReadableBytes { unsafe strictly($0, record) }
        if let event { return event }
        return try RecordedEntries.unpack(record: record)
    }

    @unsafe private mutating func strictly(_ bytes: UnsafeRawBufferPointer, _ record: ByteBuffer) -> RecordedEvent? {
        var fields = unsafe StrictFields(bytes, 0..<bytes.count)
        guard let position = fields.number(1 << 3), let version = fields.number(2 << 3),
            let recordedAt = fields.number(3 << 3),
            fields.take(4 << 3 | 2), let typeRange = fields.content(),
            let aggregateType = unsafe aggregateType(bytes.part(typeRange)),
            fields.take(5 << 3 | 2), let idRange = fields.content(), let id = unsafe UUID(bytes: bytes.part(idRange)),
            fields.take(6 << 3 | 2), let content = fields.content(),
            let event = unsafe event(bytes, content, record),
            let storedVersion = fields.number(7 << 3), storedVersion <= UInt64(UInt32.max),
            let storedTypeRange = fields.optional(8 << 3 | 2),
            let failure = unsafe fields.text(9 << 3 | 2, of: bytes), fields.isAtEnd
        else { return nil }
        var storedType: EventType?
        if !storedTypeRange.isEmpty {
            storedType = unsafe EventType(utf8: bytes.part(storedTypeRange))
            guard storedType != nil else { return nil }
        }
        return RecordedEvent(
            position: Position(position), version: Version(version),
            recordedAt: Timestamp(microseconds: Int64(bitPattern: recordedAt)),
            aggregate: AggregateName(type: aggregateType, id: id), event: event,
            storedSchemaVersion: storedVersion == 0 ? nil : UInt32(truncatingIfNeeded: storedVersion),
            storedType: storedType, upcastFailure: failure.isEmpty ? nil : failure)
    }

    @unsafe private mutating func event(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ record: ByteBuffer
    ) -> NewEvent? {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(1 << 3 | 2), let idRange = fields.content(), let id = unsafe UUID(bytes: bytes.part(idRange)),
            fields.take(2 << 3 | 2), let typeRange = fields.content(),
            let type = unsafe eventType(bytes.part(typeRange)),
            fields.take(3 << 3 | 2), let contentTypeRange = fields.content(),
            let contentType = unsafe Self.contentType(bytes.part(contentTypeRange)),
            fields.take(4 << 3), let schemaVersion = fields.varint(), schemaVersion <= UInt64(UInt32.max),
            let metadataRange = fields.optional(5 << 3 | 2),
            let metadata = unsafe Self.metadata(bytes, metadataRange),
            let payloadRange = fields.optional(15 << 3 | 2), fields.isAtEnd,
            let payload = record.getSlice(
                at: record.readerIndex + payloadRange.lowerBound, length: payloadRange.count)
        else { return nil }
        return NewEvent(
            id: id, type: type, contentType: contentType, schemaVersion: UInt32(truncatingIfNeeded: schemaVersion),
            metadata: metadata, payload: payload)
    }

    @unsafe private mutating func aggregateType(_ bytes: UnsafeRawBufferPointer) -> AggregateType? {
        if let lastAggregateType, unsafe lastAggregateType.text.hasBytes(bytes) { return lastAggregateType }
        guard let type = unsafe AggregateType(utf8: bytes) else { return nil }
        lastAggregateType = type
        return type
    }

    @unsafe private mutating func eventType(_ bytes: UnsafeRawBufferPointer) -> EventType? {
        if let lastType, unsafe lastType.text.hasBytes(bytes) { return lastType }
        guard let type = unsafe EventType(utf8: bytes) else { return nil }
        lastType = type
        return type
    }

    @unsafe private static func contentType(_ bytes: UnsafeRawBufferPointer) -> String? {
        if unsafe PayloadChecks.isPlainJSON(bytes) { return NewEvent.json }
        return unsafe String(validating: bytes, as: UTF8.self)
    }

    @unsafe private static func metadata(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> EventMetadata? {
        var metadata = EventMetadata()
        guard !range.isEmpty else { return metadata }
        var fields = unsafe StrictFields(bytes, range)
        guard let userID = unsafe fields.text(1 << 3 | 2, of: bytes),
            let role = unsafe fields.text(2 << 3 | 2, of: bytes),
            let occurredAt = fields.number(3 << 3),
            let correlationID = unsafe fields.text(4 << 3 | 2, of: bytes),
            let causationID = unsafe fields.text(5 << 3 | 2, of: bytes),
            let requestID = unsafe fields.text(6 << 3 | 2, of: bytes),
            let source = unsafe fields.text(7 << 3 | 2, of: bytes),
            let traceparent = unsafe fields.text(8 << 3 | 2, of: bytes)
        else { return nil }
        metadata.userID = userID
        metadata.role = role
        if occurredAt != 0 { metadata.occurredAt = Timestamp(microseconds: Int64(bitPattern: occurredAt)) }
        metadata.correlationID = correlationID
        metadata.causationID = causationID
        metadata.requestID = requestID
        metadata.source = source
        metadata.traceparent = traceparent
        while fields.take(9 << 3 | 2) {
            guard let range = fields.content() else { return nil }
            var tag = unsafe StrictFields(bytes, range)
            guard let key = unsafe tag.text(1 << 3 | 2, of: bytes), let value = unsafe tag.text(2 << 3 | 2, of: bytes),
                tag.isAtEnd
            else { return nil }
            metadata.tags[ExactText(key)] = value
        }
        return fields.isAtEnd ? metadata : nil
    }
}

extension StrictFields {
    /// Takes a text that is not empty if its key comes next; an empty one where another field comes.
    @unsafe fileprivate mutating func text(_ key: UInt8, of bytes: UnsafeRawBufferPointer) -> String? {
        guard let range = optional(key) else { return nil }
        guard !range.isEmpty else { return "" }
        return unsafe String(validating: bytes.part(range), as: UTF8.self)
    }
}
