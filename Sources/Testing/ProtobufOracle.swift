import CMartletProtos
import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import NIOCore

/// Decodes records by protobuf-c: what ``RecordDecoder`` is held against.
public enum ProtobufOracle {
    /// The event of a record; nil where protobuf-c, or what a record must be, refuses it.
    public static func decode(_ record: ByteBuffer) -> RecordedEvent? {
        let arena = DecodingArena(budget: 64 << 20)
        return unsafe record.withUnsafeReadableBytes { bytes in
            unsafe arena.withAllocator { allocator -> RecordedEvent? in
                guard
                    let message = unsafe martlet__v1__recorded_event__unpack(
                        allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
                else { return nil }
                return unsafe RecordedEvent(message)
            }
        }
    }

    /// Whether ``RecordDecoder`` may say that of a record: what protobuf-c says, but for what protobuf-c does in a way
    /// of its own. It drops bits beyond 64 (32 of a key), merges messages that come in parts, and knows no groups.
    public static func allows(_ event: RecordedEvent?, of record: ByteBuffer) -> Bool {
        let expected = decode(record)
        if event == expected { return true }
        if event == nil { return holdsTooManyBits(record.readableBytesView) || isInParts(record) }
        return expected == nil && holdsGroup(record, 0..<record.readableBytes, inside: [6, 5, 9])
    }

    private static func holdsTooManyBits(_ bytes: ByteBufferView) -> Bool {
        func holds(_ continued: Int, above max: UInt8) -> Bool {
            bytes.indices.dropFirst(continued).contains { at in
                bytes[at] > max && bytes[at - continued..<at].allSatisfy { $0 >= 0x80 }
            }
        }
        return holds(9, above: 1) || holds(4, above: 0x0F)
    }

    /// Whether the event, or its metadata, comes in two parts.
    private static func isInParts(_ record: ByteBuffer) -> Bool {
        func contents(_ number: UInt32, _ range: Range<Int>) -> [Range<Int>] {
            var fields = LenientFields(range)
            var found: [Range<Int>] = []
            while let field = fields.next(in: record.readableBytesUInt8Span) {
                if field.number == number, let content = field.content { found.append(content) }
            }
            return found
        }
        let events = contents(6, 0..<record.readableBytes)
        return events.count > 1 || events.contains { contents(5, $0).count > 1 }
    }

    /// Whether a group stands in the message, or in a message inside it along those fields.
    private static func holdsGroup(_ record: ByteBuffer, _ range: Range<Int>, inside: ArraySlice<UInt32>) -> Bool {
        var fields = LenientFields(range)
        while let field = fields.next(in: record.readableBytesUInt8Span) {
            switch field.value {
            case .group: return true
            case .content(let content) where field.number == inside.first:
                if holdsGroup(record, content, inside: inside.dropFirst()) { return true }
            default: continue
            }
        }
        return false
    }
}

extension RecordedEvent {
    /// Copies an unpacked event; nil where a field is not as it must be.
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__RecordedEvent>) {
        guard let type = unsafe message.pointee.aggregate_type.text.flatMap(AggregateType.init),
            let id = unsafe message.pointee.aggregate_id.uuid,
            let content = unsafe message.pointee.event, let event = unsafe NewEvent(content),
            let failure = unsafe message.pointee.upcast_failure.text
        else { return nil }
        let storedType = unsafe message.pointee.stored_type.len == 0 ? nil : message.pointee.stored_type.text
        let storedVersion = unsafe message.pointee.stored_schema_version
        self.init(
            position: Position(unsafe message.pointee.position), version: Version(unsafe message.pointee.version),
            recordedAt: Timestamp(microseconds: unsafe message.pointee.recorded_at_micros),
            aggregate: AggregateName(type: type, id: id), event: event,
            storedSchemaVersion: storedVersion == 0 ? nil : storedVersion,
            storedType: storedType.flatMap(EventType.init), upcastFailure: failure.isEmpty ? nil : failure)
    }
}

extension NewEvent {
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__Event>) {
        guard let id = unsafe message.pointee.id.uuid,
            let type = unsafe message.pointee.type.text.flatMap(EventType.init),
            let contentType = unsafe message.pointee.content_type.text,
            let metadata = unsafe EventMetadata(message.pointee.metadata)
        else { return nil }
        self.init(
            id: id, type: type, contentType: contentType, schemaVersion: unsafe message.pointee.schema_version,
            metadata: metadata, payload: unsafe ByteBuffer(bytes: message.pointee.payload.bytes))
    }
}

extension EventMetadata {
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__Metadata>?) {
        self.init()
        guard let message = unsafe message?.pointee else { return }
        guard let userID = unsafe message.user_id.text, let role = unsafe message.role.text,
            let correlationID = unsafe message.correlation_id.text,
            let causationID = unsafe message.causation_id.text, let requestID = unsafe message.request_id.text,
            let source = unsafe message.source.text, let traceparent = unsafe message.traceparent.text,
            let tracestate = unsafe message.tracestate.text
        else { return nil }
        self.userID = userID
        self.role = role
        self.correlationID = correlationID
        self.causationID = causationID
        self.requestID = requestID
        self.source = source
        self.traceparent = traceparent
        self.tracestate = tracestate
        if unsafe message.occurred_at_micros != 0 {
            occurredAt = Timestamp(microseconds: unsafe message.occurred_at_micros)
        }
        for index in unsafe 0..<message.n_tags {
            guard let tag = unsafe message.tags[index], let key = unsafe tag.pointee.key.text,
                let value = unsafe tag.pointee.value.text
            else { return nil }
            tags[ExactText(key)] = value
        }
    }
}
