import CMartletProtos
import NIOCore

@testable import MartletModel
@testable import MartletRecordCodec

/// Bytes that should be a record, or entries: every reader says the same, and none reads beyond them.
enum Records {
    static func run(_ bytes: [UInt8]) throws {
        try checkRecord(ByteBuffer(bytes: bytes))
        try checkEntries(ByteBuffer(bytes: bytes))
        var entries = ByteBuffer()
        RecordedEntries.write(record: ByteBuffer(bytes: bytes), to: &entries)
        try checkEntries(entries)
    }

    private static func checkRecord(_ record: ByteBuffer) throws {
        let decoded = try? RecordedEntries.decode(record: record)
        let oracle = try unpack(record)
        try hold(decoded == oracle, "decoded as \(String(describing: decoded)), by protobuf-c as \(oracle as Any)")
        let sketch = RecordSketch(record)
        let head = unsafe record.withUnsafeReadableBytes { unsafe RecordHead($0, record: 0..<$0.count) }
        guard let event = decoded else { return }
        if let head {
            let bytes = record.array
            try hold(
                head.position == event.position && head.version == event.version
                    && head.recordedAt == event.recordedAt
                    && bytes[head.eventType].elementsEqual(event.event.type.text.utf8)
                    && bytes[head.aggregateType].elementsEqual(event.aggregate.type.text.utf8)
                    && bytes[head.eventID].elementsEqual(event.event.id.bytes)
                    && bytes[head.aggregateID].elementsEqual(event.aggregate.id.bytes),
                "the head \(head) is not that of \(event)")
        }
        guard let sketch else { throw Finding("there is no sketch of \(event)") }
        // protobuf merges a message that comes twice, and the sketch has the last one: they differ there.
        guard head != nil else { return }
        let bytes = record.array
        try hold(
            sketch.position == event.position.rawValue && sketch.version == event.version.rawValue,
            "the sketch \(sketch) is not that of \(event)")
        var upcast = ByteBuffer()
        sketch.writeEntry(
            of: record, type: nil, schemaVersion: 9, payload: ByteBuffer(bytes: bytes[sketch.payload]), to: &upcast)
        _ = try? RecordedEntries.decode(upcast)
    }

    private static func unpack(_ record: ByteBuffer) throws -> RecordedEvent? {
        let arena = DecodingArena(budget: (64 << 10) + 32 * record.readableBytes)
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

    private static func checkEntries(_ entries: ByteBuffer) throws {
        let decoded = try? RecordedEntries.decode(entries)
        var ends: [Int] = []
        var isWhole = false
        unsafe entries.withUnsafeReadableBytes { bytes in
            var walk = unsafe EntryWalk(bytes)
            while let (entry, _) = walk.next() { ends.append(entry.upperBound) }
            isWhole = !walk.isBroken
        }
        if isWhole { try hold(ends.last ?? 0 == entries.readableBytes, "the walk ended before the entries did") }
        var at = 0
        while at < entries.readableBytes, let glance = try? RecordedEntries.glance(at: at, of: entries) {
            try hold(glance.record.upperBound > at, "a glance at \(at) goes nowhere")
            at = glance.record.upperBound
        }
        if let decoded, isWhole {
            try hold(ends.count == decoded.count, "\(ends.count) entries, \(decoded.count) records")
        }
    }
}
