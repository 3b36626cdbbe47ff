public import FoundationEssentials
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

    /// Appends the entry of an event of that tenant, with its checksum.
    /// - Returns: where in `buffer` the record, which is the entry without key and length, begins; it
    ///   ends at the buffer's writer index.
    @discardableResult
    public static func write(
        position: Position, version: Version, recordedAt: Timestamp, aggregate: AggregateName, event: EncodedEvent,
        tenant: TenantID, to buffer: inout ByteBuffer
    ) -> Int {
        write(
            position, version, recordedAt, aggregate, event.body,
            checksum: CRC32C.extend(event.bodyChecksum ?? CRC32C.checksum(of: event.body), by: tenant), to: &buffer)
    }

    /// Appends an entry without a checksum, as servers of before wrote them.
    /// - Returns: where in `buffer` the record begins.
    @discardableResult
    public static func write(
        position: Position, version: Version, recordedAt: Timestamp, aggregate: AggregateName, body: ByteBuffer,
        to buffer: inout ByteBuffer
    ) -> Int {
        write(position, version, recordedAt, aggregate, body, checksum: nil, to: &buffer)
    }

    /// - Parameter checksum: of the event's own bytes and the tenant.
    private static func write(
        _ position: Position, _ version: Version, _ recordedAt: Timestamp, _ aggregate: AggregateName,
        _ body: ByteBuffer, checksum: UInt32?, to buffer: inout ByteBuffer
    ) -> Int {
        let type = aggregate.type.text
        let recordedAt = UInt64(bitPattern: recordedAt.microseconds)
        let recordBytes =
            FieldWriter.size(of: position.rawValue) + FieldWriter.size(of: version.rawValue)
            + FieldWriter.size(of: recordedAt) + FieldWriter.size(of: type) + FieldWriter.size(ofContent: 16)
            + (checksum == nil ? 0 : 5) + FieldWriter.size(ofContent: body.readableBytes)
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
            if let checksum {
                let whole = writer.checksum(checksum, from: prefixBytes)
                writer.byte(10 << 3 | 5)
                writer.fixed32(whole)
            }
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
        var fields = LenientFields(0..<entries.readableBytes)
        guard let field = fields.next(in: entries.readableBytesUInt8Span), field.number == 1,
            let range = field.content,
            let record = entries.getSlice(at: entries.readerIndex + range.lowerBound, length: range.count)
        else { throw RecordFault("bytes that are not an entry of the field events") }
        entries.moveReaderIndex(forwardBy: range.upperBound)
        return record
    }

    /// The numbers of the entry that begins at that offset of entries, and where its record stands; only its first few
    /// bytes are read.
    /// - Throws: where there is none.
    public static func numbers(at offset: Int, of entries: ByteBuffer) throws(RecordFault) -> RecordNumbers {
        guard (0..<entries.readableBytes).contains(offset) else { throw RecordFault("entries that end too early") }
        let bytes = entries.readableBytesUInt8Span
        var fields = LenientFields(offset..<bytes.count)
        guard let field = fields.next(in: bytes), field.number == 1, let record = field.content,
            let numbers = RecordNumbers(bytes, record: record)
        else { throw RecordFault("bytes that are not a recorded event") }
        return numbers
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
}

extension RecordedEntries {
    /// The id of the first event; nil without one.
    public static func firstEventID(in entries: ByteBuffer) -> UUID? {
        unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            return walk.next().flatMap { unsafe eventID(ofRecord: $0.record, in: bytes) }
        }
    }

    /// The id of the event whose record are the last so many bytes; nil where they are none.
    public static func eventID(ofLast recordBytes: Int, in entries: ByteBuffer) -> UUID? {
        unsafe entries.withUnsafeReadableBytes { bytes in
            guard 0 < recordBytes, recordBytes <= bytes.count else { return nil }
            return unsafe eventID(ofRecord: bytes.count - recordBytes..<bytes.count, in: bytes)
        }
    }

    /// The id of the event of that record; nil where there is none.
    @unsafe public static func eventID(ofRecord record: Range<Int>, in bytes: UnsafeRawBufferPointer) -> UUID? {
        guard let layout = unsafe RecordLayout(bytes, record: record) else { return nil }
        return unsafe UUID(bytes: UnsafeRawBufferPointer(rebasing: bytes[layout.eventID]))
    }
}
