import CMartletProtos
import MartletModel
import MartletRecordCodec
import NIOCore

// Appends and their answers are most of what goes over the wire: their messages are written where they stay, sizes first.
// The bytes are those that protobuf-c would write.

extension AppendRequest {
    /// Writes the request as its field of ClientFrame.
    func encode(to buffer: inout ByteBuffer) {
        var parts: [Part] = []
        parts.reserveCapacity(aggregates.count)
        var size = FieldWriter.size(ofContent: 16) + (includeConflictingEvents ? 2 : 0)
        for aggregate in aggregates {
            let part = Part(aggregate)
            size += FieldWriter.size(ofContent: part.bytes)
            parts.append(part)
        }
        var last = ByteBuffer()
        checkpoint?.encode(to: &last)
        for change in schedules { change.encode(field: 5, to: &last) }
        size += last.readableBytes
        buffer.writeFields(1 + FieldWriter.size(ofContent: size)) { writer in
            writer.varint(16 << 3 | 2)
            writer.varint(UInt64(size))
            writer.byte(1 << 3 | 2)
            writer.byte(16)
            writer.uuid(tenant.uuid)
            if includeConflictingEvents {
                writer.byte(3 << 3)
                writer.byte(1)
            }
            for (part, aggregate) in zip(parts, aggregates) {
                writer.byte(2 << 3 | 2)
                writer.varint(UInt64(part.bytes))
                part.write(aggregate, to: &writer)
            }
            writer.buffer(last)
        }
    }

    /// What is worked out before a part of an append is written.
    private struct Part {
        /// The field of the snapshot; empty without one.
        let snapshot: ByteBuffer
        /// Length of the message AggregateAppend.
        let bytes: Int

        init(_ part: AggregateAppend) {
            var snapshot = ByteBuffer()
            if let new = part.snapshot {
                unsafe new.withMessage { unsafe snapshot.writeField(4, &$0.pointee.base) }
            }
            self.snapshot = snapshot
            var bytes =
                FieldWriter.size(ofContent: part.aggregate.messageBytes)
                + FieldWriter.size(ofContent: part.expected.messageBytes) + snapshot.readableBytes
            for event in part.events { bytes += FieldWriter.size(ofContent: event.body.readableBytes) }
            self.bytes = bytes
        }

        func write(_ part: AggregateAppend, to writer: inout FieldWriter) {
            writer.byte(1 << 3 | 2)
            writer.varint(UInt64(part.aggregate.messageBytes))
            part.aggregate.write(to: &writer)
            writer.byte(2 << 3 | 2)
            writer.varint(UInt64(part.expected.messageBytes))
            part.expected.write(to: &writer)
            for event in part.events {
                writer.byte(3 << 3 | 2)
                writer.varint(UInt64(event.body.readableBytes))
                writer.buffer(event.body)
            }
            writer.buffer(snapshot)
        }
    }
}

extension AggregateName {
    /// Length of the message.
    fileprivate var messageBytes: Int { FieldWriter.size(of: type.text) + FieldWriter.size(ofContent: 16) }

    fileprivate func write(to writer: inout FieldWriter) {
        writer.field(1 << 3 | 2, type.text)
        writer.byte(2 << 3 | 2)
        writer.byte(16)
        writer.uuid(id)
    }
}

extension ExpectedVersion {
    /// Length of the message.
    fileprivate var messageBytes: Int {
        switch self {
        case .any, .none, .exists: 2
        case .exact(let version): 1 + Varint.byteCount(version.rawValue)
        }
    }

    /// A condition is written even where its value is 0: it is one of several.
    fileprivate func write(to writer: inout FieldWriter) {
        switch self {
        case .any: writer.byte(1 << 3)
        case .none: writer.byte(2 << 3)
        case .exists: writer.byte(3 << 3)
        case .exact(let version):
            writer.byte(4 << 3)
            return writer.varint(version.rawValue)
        }
        writer.byte(1)
    }
}

extension AppendReceipt {
    /// Writes the answer as its field of ServerFrame.
    func encode(to buffer: inout ByteBuffer) {
        let recordedAt = UInt64(bitPattern: recordedAt.microseconds)
        var size =
            FieldWriter.size(of: firstPosition.rawValue) + FieldWriter.size(of: lastPosition.rawValue)
            + FieldWriter.size(of: recordedAt) + (replayed ? 2 : 0) + (checkpointStored ? 2 : 0)
        for part in aggregates { size += FieldWriter.size(ofContent: part.messageBytes) }
        buffer.writeFields(1 + FieldWriter.size(ofContent: size)) { writer in
            writer.varint(16 << 3 | 2)
            writer.varint(UInt64(size))
            writer.field(2 << 3, firstPosition.rawValue)
            writer.field(3 << 3, lastPosition.rawValue)
            writer.field(4 << 3, recordedAt)
            writer.field(5 << 3, replayed ? 1 : 0)
            writer.field(6 << 3, checkpointStored ? 1 : 0)
            for part in aggregates {
                writer.byte(1 << 3 | 2)
                writer.varint(UInt64(part.messageBytes))
                writer.byte(1 << 3 | 2)
                writer.varint(UInt64(part.aggregate.messageBytes))
                part.aggregate.write(to: &writer)
                writer.field(2 << 3, part.firstVersion.rawValue)
                writer.field(3 << 3, part.lastVersion.rawValue)
                writer.field(4 << 3, part.snapshotDue ? 1 : 0)
            }
        }
    }
}

extension AppendedAggregate {
    /// Length of the message.
    fileprivate var messageBytes: Int {
        FieldWriter.size(ofContent: aggregate.messageBytes) + FieldWriter.size(of: firstVersion.rawValue)
            + FieldWriter.size(of: lastVersion.rawValue) + (snapshotDue ? 2 : 0)
    }
}
