import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// Decodes records by protobuf-c: what ``RecordDecoder`` is held against.
enum ProtobufOracle {
    static func decode(_ record: ByteBuffer) -> RecordedEvent? {
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
            let source = unsafe message.source.text, let traceparent = unsafe message.traceparent.text
        else { return nil }
        self.userID = userID
        self.role = role
        self.correlationID = correlationID
        self.causationID = causationID
        self.requestID = requestID
        self.source = source
        self.traceparent = traceparent
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
