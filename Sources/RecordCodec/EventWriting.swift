import FoundationEssentials
public import MartletModel
import NIOCore

// New events are written in their canonical encoding at once: sizes first, then each byte where it stays. What
// protobuf-c would make of them is the same, byte for byte; tests hold the two side by side.

extension EventEncoder {
    /// Checks and encodes an event.
    /// - Parameter name: what the message of an error calls the event.
    /// - Throws: the first thing that is wrong with it.
    public mutating func add(_ event: NewEvent, name: @autoclosure () -> String = "event") throws(MartletError) {
        let contentType = try PayloadChecks.contentType(event.contentType, name: name)
        let schemaVersion = try PayloadChecks.schemaVersion(event.schemaVersion, name: name)
        let payloadBytes = event.payload.readableBytes
        try checkPayload(bytes: payloadBytes, name: name)
        try PayloadChecks.json(event.payload, contentType: contentType, name: name)
        let metadata = MetadataSize(event.metadata)
        try checkMetadata(bytes: metadata.bytes, name: name)
        let size =
            FieldWriter.size(ofContent: 16) + FieldWriter.size(of: event.type.text) + FieldWriter.size(of: contentType)
            + FieldWriter.size(of: UInt64(schemaVersion))
            + (metadata.bytes == 0 ? 0 : FieldWriter.size(ofContent: metadata.bytes))
            + (payloadBytes == 0 ? 0 : FieldWriter.size(ofContent: payloadBytes))
        bodies.writeFields(size) { writer in
            writer.byte(1 << 3 | 2)
            writer.byte(16)
            writer.uuid(event.id)
            writer.field(2 << 3 | 2, event.type.text)
            writer.field(3 << 3 | 2, contentType)
            writer.field(4 << 3, UInt64(schemaVersion))
            if metadata.bytes > 0 {
                writer.byte(5 << 3 | 2)
                writer.varint(UInt64(metadata.bytes))
                metadata.write(event.metadata, to: &writer)
            }
            if payloadBytes > 0 {
                writer.byte(15 << 3 | 2)
                writer.varint(UInt64(payloadBytes))
                writer.buffer(event.payload)
            }
        }
        drafts.append(
            Draft(
                id: event.id, type: event.type, contentType: contentType, schemaVersion: schemaVersion,
                payloadBytes: payloadBytes, end: bodies.writerIndex))
    }
}

/// The size of metadata's encoding, and what was worked out for it.
private struct MetadataSize {
    private let occurredAt: UInt64
    /// Sorted by the bytes of their key.
    private let tags: [(key: String, value: String)]
    /// Length of the encoding.
    let bytes: Int

    init(_ metadata: EventMetadata) {
        occurredAt = UInt64(bitPattern: metadata.occurredAt?.microseconds ?? 0)
        tags =
            metadata.tags.isEmpty
            ? [] : metadata.tags.sorted { $0.key < $1.key }.map { ($0.key.text, $0.value) }
        var bytes =
            FieldWriter.size(of: metadata.userID) + FieldWriter.size(of: metadata.role)
            + FieldWriter.size(of: occurredAt) + FieldWriter.size(of: metadata.correlationID)
            + FieldWriter.size(of: metadata.causationID) + FieldWriter.size(of: metadata.requestID)
            + FieldWriter.size(of: metadata.source) + FieldWriter.size(of: metadata.traceparent)
            + FieldWriter.size(of: metadata.tracestate)
        for tag in tags { bytes += FieldWriter.size(ofContent: Self.size(of: tag)) }
        self.bytes = bytes
    }

    private static func size(of tag: (key: String, value: String)) -> Int {
        FieldWriter.size(of: tag.key) + FieldWriter.size(of: tag.value)
    }

    /// Writes the metadata, which must be that of the size.
    func write(_ metadata: EventMetadata, to writer: inout FieldWriter) {
        writer.field(1 << 3 | 2, metadata.userID)
        writer.field(2 << 3 | 2, metadata.role)
        writer.field(3 << 3, occurredAt)
        writer.field(4 << 3 | 2, metadata.correlationID)
        writer.field(5 << 3 | 2, metadata.causationID)
        writer.field(6 << 3 | 2, metadata.requestID)
        writer.field(7 << 3 | 2, metadata.source)
        writer.field(8 << 3 | 2, metadata.traceparent)
        for tag in tags {
            writer.byte(9 << 3 | 2)
            writer.varint(UInt64(Self.size(of: tag)))
            writer.field(1 << 3 | 2, tag.key)
            writer.field(2 << 3 | 2, tag.value)
        }
        writer.field(10 << 3 | 2, metadata.tracestate)
    }
}

extension EncodedEvent {
    /// Checks and encodes one event.
    /// - Throws: the first thing that is wrong with it.
    public init(_ event: NewEvent, limits: Limits = Limits()) throws(MartletError) {
        var encoder = EventEncoder(limits: limits)
        try encoder.add(event)
        self = encoder.finish()[0]
    }
}
