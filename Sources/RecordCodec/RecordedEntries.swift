public import CMartletProtos
import FoundationEssentials
public import MartletModel
public import NIOCore

/// Bytes that should be a recorded event and are not.
public struct RecordFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong.
    public var description: String

    /// A fault of that description.
    public init(_ description: String) { self.description = description }
}

/// Encodes and decodes recorded events as entries of the field `repeated RecordedEvent events = 1`,
/// which has the same number in every message that carries events: encoded once when an event is
/// appended, the bytes are stored, loaded and fanned out as they are.
public enum RecordedEntries {
    private static let entryKey: UInt8 = 0x0A

    /// Appends one entry.
    /// - Returns: where in `buffer` the record, which is the entry without key and length, begins; it
    ///   ends at the buffer's writer index.
    @discardableResult
    public static func write(
        position: Position, version: Version, recordedAt: Timestamp, aggregate: AggregateName, body: ByteBuffer,
        to buffer: inout ByteBuffer
    ) -> Int {
        let type = aggregate.type.text
        let recordedAt = UInt64(bitPattern: recordedAt.microseconds)
        let recordBytes =
            FieldWriter.size(of: position.rawValue) + FieldWriter.size(of: version.rawValue)
            + FieldWriter.size(of: recordedAt) + FieldWriter.size(of: type) + FieldWriter.size(ofContent: 16)
            + FieldWriter.size(ofContent: body.readableBytes)
        let prefixBytes = 1 + Varint.byteCount(UInt64(recordBytes))
        let start = buffer.writerIndex + prefixBytes
        buffer.writeFields(prefixBytes + recordBytes) { writer in
            writer.byte(entryKey)
            writer.varint(UInt64(recordBytes))
            writer.field(1 << 3, position.rawValue)
            writer.field(2 << 3, version.rawValue)
            writer.field(3 << 3, recordedAt)
            writer.field(4 << 3 | 2, type)
            writer.byte(5 << 3 | 2)
            writer.byte(16)
            writer.uuid(aggregate.id)
            writer.byte(6 << 3 | 2)
            writer.varint(UInt64(body.readableBytes))
            writer.buffer(body)
        }
        return start
    }

    /// Appends the entry of a record that is encoded already.
    public static func write(record: ByteBuffer, to buffer: inout ByteBuffer) {
        buffer.writeInteger(entryKey)
        buffer.writeVarint(UInt64(record.readableBytes))
        buffer.writeImmutableBuffer(record)
    }

    /// Appends the entry of a record that is encoded already.
    @unsafe public static func write(record: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
        buffer.writeInteger(entryKey)
        buffer.writeVarint(UInt64(record.count))
        unsafe buffer.writeBytes(record)
    }

    /// How many bytes the entry of a record of that length takes.
    public static func entryBytes(recordBytes: Int) -> Int {
        1 + Varint.byteCount(UInt64(recordBytes)) + recordBytes
    }

    /// Takes the next record off the front of entries; nil at the end.
    public static func nextRecord(of entries: inout ByteBuffer) throws(RecordFault) -> ByteBuffer? {
        guard entries.readableBytes > 0 else { return nil }
        let range = unsafe entries.withUnsafeReadableBytes { bytes -> Range<Int>? in
            var fields = unsafe StrictFields(bytes, 0..<bytes.count)
            return fields.take(entryKey) ? fields.content() : nil
        }
        if let range {
            entries.moveReaderIndex(forwardBy: range.lowerBound)
            if let record = entries.readSlice(length: range.count) { return record }
        }
        // A length may be longer than it need be.
        guard entries.readInteger(as: UInt8.self) == entryKey, let length = Varint.read(from: &entries),
            let count = Int(exactly: length), let record = entries.readSlice(length: count)
        else { throw RecordFault("bytes that are no entry of the field events") }
        return record
    }

    /// Decodes entries, in order.
    public static func decode(_ entries: ByteBuffer) throws(RecordFault) -> [RecordedEvent] {
        var rest = entries
        var events: [RecordedEvent] = []
        var decoder = RecordDecoder()
        while let record = try nextRecord(of: &rest) { events.append(try decoder.decode(record)) }
        return events
    }

    /// Decodes one record.
    public static func decode(record: ByteBuffer) throws(RecordFault) -> RecordedEvent {
        var decoder = RecordDecoder()
        return try decoder.decode(record)
    }

    /// Decodes one record by protobuf-c.
    static func unpack(record: ByteBuffer) throws(RecordFault) -> RecordedEvent {
        let arena = DecodingArena(budget: (64 << 10) + 32 * record.readableBytes)
        let event = unsafe record.withUnsafeReadableBytes { bytes in
            unsafe arena.withAllocator { allocator -> RecordedEvent? in
                guard
                    let message = unsafe martlet__v1__recorded_event__unpack(
                        allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
                else { return nil }
                return unsafe RecordedEvent(message)
            }
        }
        guard let event else { throw RecordFault("a record of \(record.readableBytes) bytes cannot be decoded") }
        return event
    }
}

extension RecordedEvent {
    /// Copies an unpacked event; nil where a field is not as it must be.
    @unsafe public init?(_ message: UnsafePointer<Martlet__V1__RecordedEvent>) {
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
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__Event>) {
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
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__Metadata>?) {
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
