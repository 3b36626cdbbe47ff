public import FoundationEssentials
import MartletModel
public import NIOCore

/// Where in an encoded RecordedEvent the parts lie that upcasting reads or replaces, found without decoding it.
///
/// Offsets count from the record's first byte.
public struct RecordSketch: Hashable, Sendable {
    /// Position of the event.
    public private(set) var position: UInt64 = 0
    /// Version of the event within its aggregate.
    public private(set) var version: UInt64 = 0
    /// The record's fields before the event, with their keys.
    public private(set) var head = 0..<0
    /// The event's id field, with its key.
    public private(set) var id = 0..<0
    /// Text of the event's type.
    public private(set) var type = 0..<0
    /// The event's content type field, with its key.
    public private(set) var contentTypeField = 0..<0
    /// Text of the event's content type.
    public private(set) var contentType = 0..<0
    /// The event's schema version.
    public private(set) var schemaVersion: UInt32 = 1
    /// The event's metadata field, with its key; empty without metadata.
    public private(set) var metadata = 0..<0
    /// The event's payload.
    public private(set) var payload = 0..<0

    /// The sketch of a record; nil where the bytes are none.
    public init?(_ record: ByteBuffer) {
        var rest = record
        let start = record.readerIndex
        var event: Range<Int>?
        while rest.readableBytes > 0 {
            let fieldStart = rest.readerIndex - start
            guard let (number, value) = Self.field(&rest, from: start) else { return nil }
            switch (number, value) {
            case (1, .varint(let position)): self.position = position
            case (2, .varint(let version)): self.version = version
            case (6, .bytes(let range)):
                event = range
                head = 0..<fieldStart
            default: break
            }
        }
        guard let event, var body = record.getSlice(at: start + event.lowerBound, length: event.count) else {
            return nil
        }
        while body.readableBytes > 0 {
            let fieldStart = event.lowerBound + body.readerIndex
            guard let (number, value) = Self.field(&body, from: -event.lowerBound) else { return nil }
            let whole = fieldStart..<event.lowerBound + body.readerIndex
            switch (number, value) {
            case (1, .bytes): id = whole
            case (2, .bytes(let range)): type = range
            case (3, .bytes(let range)):
                contentType = range
                contentTypeField = whole
            case (4, .varint(let version)): schemaVersion = UInt32(clamping: version)
            case (5, .bytes): metadata = whole
            case (15, .bytes(let range)): payload = range
            default: break
            }
        }
    }

    private enum Value {
        case varint(UInt64)
        case bytes(Range<Int>)
        case other
    }

    private static func field(_ buffer: inout ByteBuffer, from start: Int) -> (UInt64, Value)? {
        guard let key = Varint.read(from: &buffer) else { return nil }
        switch key & 7 {
        case 0: return Varint.read(from: &buffer).map { (key >> 3, .varint($0)) }
        case 1:
            guard buffer.readableBytes >= 8 else { return nil }
            buffer.moveReaderIndex(forwardBy: 8)
            return (key >> 3, .other)
        case 2:
            guard let length = Varint.read(from: &buffer).flatMap({ Int(exactly: $0) }), length <= buffer.readableBytes
            else { return nil }
            let first = buffer.readerIndex - start
            buffer.moveReaderIndex(forwardBy: length)
            return (key >> 3, .bytes(first..<first + length))
        case 5:
            guard buffer.readableBytes >= 4 else { return nil }
            buffer.moveReaderIndex(forwardBy: 4)
            return (key >> 3, .other)
        default: return nil
        }
    }
}

extension RecordSketch {
    /// The event's id; nil where there are not 16 bytes.
    public func eventID(in record: ByteBuffer) -> UUID? {
        guard id.count == 18 else { return nil }
        return record.getBytes(at: record.readerIndex + id.lowerBound + 2, length: 16).flatMap { bytes in
            unsafe bytes.withUnsafeBytes { unsafe UUID(bytes: $0) }
        }
    }

    /// Appends the record with its event in another schema, as an entry.
    /// - Parameters:
    ///   - type: the new event type; nil where it stays.
    ///   - payload: the new payload.
    public func writeEntry(
        of record: ByteBuffer, type newType: String?, schemaVersion newVersion: UInt32, payload newPayload: ByteBuffer,
        to buffer: inout ByteBuffer
    ) {
        var event = ByteBuffer()
        event.reserveCapacity(64 + id.count + contentTypeField.count + metadata.count + newPayload.readableBytes)
        event.copy(id, of: record)
        if let newType {
            event.writeField(2, length: newType.utf8.count)
            event.writeString(newType)
        } else {
            event.writeField(2, length: type.count)
            event.copy(type, of: record)
        }
        event.copy(contentTypeField, of: record)
        event.writeInteger(UInt8(4 << 3))
        event.writeVarint(UInt64(newVersion))
        event.copy(metadata, of: record)
        if newPayload.readableBytes > 0 {
            event.writeField(15, length: newPayload.readableBytes)
            event.writeImmutableBuffer(newPayload)
        }
        var marks = ByteBuffer()
        marks.writeInteger(UInt8(7 << 3))
        marks.writeVarint(UInt64(schemaVersion))
        if newType != nil {
            marks.writeField(8, length: type.count)
            marks.copy(type, of: record)
        }
        let eventBytes = event.readableBytes
        let recordBytes = head.count + 1 + Varint.byteCount(UInt64(eventBytes)) + eventBytes + marks.readableBytes
        buffer.writeField(1, length: recordBytes)
        buffer.copy(head, of: record)
        buffer.writeField(6, length: eventBytes)
        buffer.writeImmutableBuffer(event)
        buffer.writeImmutableBuffer(marks)
    }

    /// Appends the record as it is, marked with why it could not be upcast, as an entry.
    public static func writeEntry(of record: ByteBuffer, failure: String, to buffer: inout ByteBuffer) {
        let length = failure.utf8.count
        buffer.writeField(
            1, length: record.readableBytes + 1 + Varint.byteCount(UInt64(length)) + length)
        buffer.writeImmutableBuffer(record)
        buffer.writeField(9, length: length)
        buffer.writeString(failure)
    }
}

extension ByteBuffer {
    /// Appends a range of a record, which counts from its first byte.
    fileprivate mutating func copy(_ range: Range<Int>, of record: ByteBuffer) {
        guard !range.isEmpty,
            let slice = record.getSlice(at: record.readerIndex + range.lowerBound, length: range.count)
        else { return }
        writeImmutableBuffer(slice)
    }
}
