public import NIOCore

extension RecordLayout {
    /// The event's schema version, which is 1 where it is left out.
    public var eventSchemaVersion: UInt32 { max(1, schemaVersion) }

    /// Appends the record with its event in another schema, as an entry. What was changed has no checksum.
    /// - Parameters:
    ///   - record: what the layout is of; it counts from its first byte.
    ///   - type: the new event type; nil where it stays.
    ///   - payload: the new payload.
    public func writeEntry(
        of record: ByteBuffer, type newType: String?, schemaVersion newVersion: UInt32, payload newPayload: ByteBuffer,
        to buffer: inout ByteBuffer
    ) {
        var event = ByteBuffer()
        event.reserveCapacity(
            64 + eventIDField.count + contentTypeField.count + metadataField.count + newPayload.readableBytes)
        event.copy(eventIDField, of: record)
        if let newType {
            event.writeField(2, length: newType.utf8.count)
            event.writeString(newType)
        } else {
            event.writeField(2, length: eventType.count)
            event.copy(eventType, of: record)
        }
        event.copy(contentTypeField, of: record)
        event.writeInteger(UInt8(4 << 3))
        event.writeVarint(UInt64(newVersion))
        event.copy(metadataField, of: record)
        if newPayload.readableBytes > 0 {
            event.writeField(15, length: newPayload.readableBytes)
            event.writeImmutableBuffer(newPayload)
        }
        var marks = ByteBuffer()
        marks.writeInteger(UInt8(7 << 3))
        marks.writeVarint(UInt64(eventSchemaVersion))
        if newType != nil {
            marks.writeField(8, length: eventType.count)
            marks.copy(eventType, of: record)
        }
        let head = 0..<outline.eventField.lowerBound
        let checksum = outline.checksumField.clamped(to: head)
        let eventBytes = event.readableBytes
        let recordBytes =
            head.count - checksum.count + 1 + Varint.byteCount(UInt64(eventBytes)) + eventBytes + marks.readableBytes
        buffer.writeField(1, length: recordBytes)
        buffer.copy(head.lowerBound..<checksum.lowerBound, of: record)
        buffer.copy(checksum.upperBound..<head.upperBound, of: record)
        buffer.writeField(6, length: eventBytes)
        buffer.writeImmutableBuffer(event)
        buffer.writeImmutableBuffer(marks)
    }
}

extension RecordedEntries {
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
