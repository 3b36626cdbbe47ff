public import FoundationEssentials
public import MartletModel
public import NIOCore

/// An event among entries, with what consumers divide events by.
public struct KeyedEntry: Hashable, Sendable {
    /// Where its entry lies.
    public var entry: Range<Int>
    /// Its position.
    public var position: Position
    /// Its id.
    public var id: UUID
    /// When it was committed.
    public var recordedAt: Timestamp
    /// Its key.
    public var key: ConsumerKey
    /// Why an upcaster failed on it; nil where none did.
    public var upcastFailure: String?
}

extension RecordedEntries {
    /// The keys of events by that rule, in order. Nothing is decoded but what a key is made of.
    public static func keyed(_ entries: ByteBuffer, by rule: KeyRule) throws(RecordFault) -> [KeyedEntry] {
        var found: [KeyedEntry] = []
        try forEachRecord(in: entries) { bytes, entry, outline throws(RecordFault) in
            found.append(try keyed(bytes, entry, outline, by: rule))
        }
        return found
    }

    static func forEachRecord(
        in entries: ByteBuffer, _ body: (Span<UInt8>, Range<Int>, RecordOutline) throws(RecordFault) -> Void
    ) throws(RecordFault) {
        let bytes = entries.readableBytesUInt8Span
        var fields = LenientFields(0..<bytes.count)
        while let field = fields.next(in: bytes) {
            guard field.number == 1, let record = field.content, let outline = RecordOutline(bytes, record: record)
            else { throw .noEvent }
            try body(bytes, field.start..<record.upperBound, outline)
        }
        guard !fields.isBroken else { throw RecordFault("bytes that are not an entry of the field events") }
    }

    static func keyed(
        _ bytes: Span<UInt8>, _ entry: Range<Int>, _ outline: RecordOutline, by rule: KeyRule
    ) throws(RecordFault) -> KeyedEntry {
        guard let layout = RecordLayout(bytes, outline), let key = ConsumerKey(rule, layout, in: bytes),
            let id = UUID(bytes: bytes.extracting(layout.eventID))
        else { throw .noEvent }
        return KeyedEntry(
            entry: entry, position: outline.position, id: id, recordedAt: outline.recordedAt, key: key,
            upcastFailure: outline.upcastFailure(in: bytes))
    }

    /// The slot of an event, without making its key; nil where it is none.
    static func slot(_ bytes: Span<UInt8>, _ outline: RecordOutline, by rule: KeyRule, of count: Int) -> Int? {
        let type = bytes.extracting(outline.aggregateType)
        switch rule {
        case .tag(let name):
            guard let layout = RecordLayout(bytes, outline) else { return nil }
            if let value = layout.tag(name, in: bytes) {
                return ConsumerKey.slot(tagValue: bytes.extracting(value), of: count)
            }
        case .aggregateType: return ConsumerKey.slot(aggregateType: type, of: count)
        case .aggregate: break
        }
        return ConsumerKey.slot(aggregateType: type, id: bytes.extracting(outline.aggregateID), of: count)
    }
}

extension RecordFault {
    static var noEvent: RecordFault { RecordFault("bytes that are not a recorded event") }
}

extension ConsumerKey {
    /// The key of a stored event; nil where it is none.
    init?(_ rule: KeyRule, _ layout: RecordLayout, in bytes: Span<UInt8>) {
        if case .tag(let name) = rule, let value = layout.tag(name, in: bytes) {
            self.init(tagValue: bytes.extracting(value))
            return
        }
        let type = bytes.extracting(layout.outline.aggregateType)
        guard rule != .aggregateType else {
            self.init(aggregateType: type)
            return
        }
        let id = bytes.extracting(layout.outline.aggregateID)
        guard id.count == 16 else { return nil }
        self.init(aggregateType: type, id: id)
    }
}

extension RecordOutline {
    fileprivate func upcastFailure(in bytes: Span<UInt8>) -> String? {
        guard !upcastFailure.isEmpty else { return nil }
        return unsafe bytes.extracting(upcastFailure).withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }
}

extension RecordLayout {
    /// Where the value of that tag lies; nil where the event has no such tag. Of several of the name, the last counts.
    fileprivate func tag(_ name: String, in bytes: Span<UInt8>) -> Range<Int>? {
        var found: Range<Int>?
        var fields = LenientFields(metadata)
        while let field = fields.next(in: bytes) {
            guard field.number == 9, let tag = field.content else { continue }
            var (key, value) = (tag.lowerBound..<tag.lowerBound, tag.lowerBound..<tag.lowerBound)
            var parts = LenientFields(tag)
            while let part = parts.next(in: bytes) {
                guard let content = part.content else { continue }
                if part.number == 1 { key = content }
                if part.number == 2 { value = content }
            }
            if bytes.extracting(key).isText(name) { found = value }
        }
        return found
    }
}

extension Span<UInt8> {
    fileprivate func isText(_ text: String) -> Bool {
        let utf8 = text.utf8
        guard utf8.count == count else { return false }
        return zip(indices, utf8).allSatisfy { self[$0] == $1 }
    }
}

extension UUID {
    /// The UUID of those 16 bytes; nil for any other number of them.
    init?(bytes: Span<UInt8>) {
        guard let uuid = unsafe bytes.withUnsafeBytes({ unsafe UUID(bytes: $0) }) else { return nil }
        self = uuid
    }
}
