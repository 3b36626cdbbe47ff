public import NIOCore

/// What can be told of a record at a glance: where it stands among entries, its position and its version.
public struct RecordGlance: Hashable, Sendable {
    /// Position of the event.
    public var position: UInt64
    /// Version of the event within its aggregate.
    public var version: UInt64
    /// Where the record stands, counted from the first byte of the entries.
    public var record: Range<Int>

    /// A glance of those parts.
    @inlinable public init(position: UInt64, version: UInt64, record: Range<Int>) {
        self.position = position
        self.version = version
        self.record = record
    }
}

extension RecordedEntries {
    /// The entry that begins at that offset of entries; only its first few bytes are read.
    /// - Throws: where there is none.
    @inlinable public static func glance(
        at offset: Int, of entries: ByteBuffer
    ) throws(RecordFault) -> RecordGlance {
        let glance = unsafe entries.withUnsafeReadableBytes { bytes -> RecordGlance? in
            guard (0...bytes.count).contains(offset) else { return nil }
            return unsafe RecordedEntries.glance(bytes, at: offset)
        }
        if let glance { return glance }
        return try longGlance(at: offset, of: entries)
    }

    /// The entry that begins at that offset, in the form that servers write; nil where it is another.
    @unsafe @inlinable static func glance(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> RecordGlance? {
        var fields = unsafe StrictFields(bytes, offset..<bytes.count)
        guard fields.take(1 << 3 | 2), let record = fields.content() else { return nil }
        var inside = unsafe StrictFields(bytes, record)
        guard inside.take(1 << 3), let position = inside.varint(), inside.take(2 << 3), let version = inside.varint()
        else { return nil }
        return RecordGlance(position: position, version: version, record: record)
    }

    @usableFromInline static func longGlance(at offset: Int, of entries: ByteBuffer) throws(RecordFault) -> RecordGlance
    {
        var rest = entries
        let start = entries.readerIndex
        guard (0..<rest.readableBytes).contains(offset) else { throw RecordFault("entries that end too early") }
        rest.moveReaderIndex(forwardBy: offset)
        guard let record = try nextRecord(of: &rest), let sketch = RecordSketch(record) else {
            throw RecordFault("bytes that are no recorded event")
        }
        let end = rest.readerIndex - start
        return RecordGlance(
            position: sketch.position, version: sketch.version, record: end - record.readableBytes..<end)
    }
}
