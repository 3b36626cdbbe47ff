import FoundationEssentials
public import MartletModel
public import NIOCore

/// Decodes the records of a page. What stands in every one of them, like the types, is made once; payloads are slices of
/// the page.
public struct RecordDecoder: Sendable {
    private var lastAggregateType: AggregateType?
    private var lastType: EventType?

    /// A decoder, for any number of pages.
    public init() {}

    /// Decodes one record.
    public mutating func decode(_ record: ByteBuffer) throws(RecordFault) -> RecordedEvent {
        let decoded = unsafe record.withUnsafeReadableBytes { bytes -> RecordedEvent? in
            guard let layout = unsafe RecordLayout(bytes, record: 0..<bytes.count) else { return nil }
            return unsafe event(layout, bytes, record)
        }
        guard let decoded else { throw RecordFault("a record of \(record.readableBytes) bytes cannot be decoded") }
        return decoded
    }

    @unsafe private mutating func event(
        _ layout: RecordLayout, _ bytes: UnsafeRawBufferPointer, _ record: ByteBuffer
    ) -> RecordedEvent? {
        guard let aggregateType = unsafe aggregateType(bytes.part(layout.aggregateType)),
            let aggregateID = unsafe UUID(bytes: bytes.part(layout.aggregateID)),
            let id = unsafe UUID(bytes: bytes.part(layout.eventID)),
            let type = unsafe eventType(bytes.part(layout.eventType)),
            let contentType = unsafe Self.contentType(bytes.part(layout.contentType)),
            let metadata = unsafe Self.metadata(bytes, layout.metadata),
            let payload = record.getSlice(
                at: record.readerIndex + layout.payload.lowerBound, length: layout.payload.count),
            let failure = unsafe String(utf8: bytes.part(layout.outline.upcastFailure))
        else { return nil }
        return RecordedEvent(
            position: layout.position, version: layout.version, recordedAt: layout.recordedAt,
            aggregate: AggregateName(type: aggregateType, id: aggregateID),
            event: NewEvent(
                id: id, type: type, contentType: contentType, schemaVersion: layout.schemaVersion, metadata: metadata,
                payload: payload),
            storedSchemaVersion: layout.outline.storedSchemaVersion == 0 ? nil : layout.outline.storedSchemaVersion,
            storedType: unsafe EventType(utf8: bytes.part(layout.outline.storedType)),
            upcastFailure: failure.isEmpty ? nil : failure)
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
        return unsafe String(utf8: bytes)
    }

    @unsafe private static func metadata(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> EventMetadata? {
        var metadata = EventMetadata()
        guard !range.isEmpty else { return metadata }
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        var fields = LenientFields(range)
        // Of several of one number, the last one counts.
        var (userID, role, correlationID, causationID) = (0..<0, 0..<0, 0..<0, 0..<0)
        var (requestID, source, traceparent, tracestate) = (0..<0, 0..<0, 0..<0, 0..<0)
        while let field = unsafe fields.next(in: typed.span) {
            if field.number == 3 {
                guard let occurredAt = field.varint else { return nil }
                metadata.occurredAt = occurredAt == 0 ? nil : Timestamp(microseconds: Int64(bitPattern: occurredAt))
                continue
            }
            guard 1...10 ~= field.number else { continue }
            guard let content = field.content else { return nil }
            switch field.number {
            case 1: userID = content
            case 2: role = content
            case 4: correlationID = content
            case 5: causationID = content
            case 6: requestID = content
            case 7: source = content
            case 8: traceparent = content
            case 10: tracestate = content
            default:
                guard let (key, value) = unsafe tag(bytes, content) else { return nil }
                metadata.tags[ExactText(key)] = value
            }
        }
        guard !fields.isBroken, unsafe set(&metadata.userID, bytes, userID), unsafe set(&metadata.role, bytes, role),
            unsafe set(&metadata.correlationID, bytes, correlationID),
            unsafe set(&metadata.causationID, bytes, causationID),
            unsafe set(&metadata.requestID, bytes, requestID), unsafe set(&metadata.source, bytes, source),
            unsafe set(&metadata.traceparent, bytes, traceparent),
            unsafe set(&metadata.tracestate, bytes, tracestate)
        else { return nil }
        return metadata
    }

    /// - Returns: false where the bytes are no text.
    @unsafe private static func set(
        _ text: inout String, _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
    ) -> Bool {
        guard !range.isEmpty else { return true }
        guard let found = unsafe String(utf8: bytes.part(range)) else { return false }
        text = found
        return true
    }

    @unsafe private static func tag(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
    ) -> (key: String, value: String)? {
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        var fields = LenientFields(range)
        var (keyRange, valueRange) = (0..<0, 0..<0)
        while let field = unsafe fields.next(in: typed.span) {
            guard 1...2 ~= field.number else { continue }
            guard let content = field.content else { return nil }
            if field.number == 1 { keyRange = content } else { valueRange = content }
        }
        var (key, value) = ("", "")
        guard unsafe set(&key, bytes, keyRange), unsafe set(&value, bytes, valueRange) else { return nil }
        return fields.isBroken ? nil : (key, value)
    }
}
