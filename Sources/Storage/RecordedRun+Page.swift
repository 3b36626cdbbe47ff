import FoundationEssentials
public import MartletModel
import MartletRecordCodec
import NIOCore

extension RecordedRun {
    /// The run that a page of a tenant's history is, read without a filter.
    ///
    /// Nil where the page is empty, has a gap, or holds what cannot be read: whoever reads it by itself is told of that.
    /// - Parameter previous: the position that the page follows, and the id of the event there, as far as it is known.
    public init?(page: EventPage, of tenant: TenantID, after previous: TenantHead) {
        var events: [Event] = []
        events.reserveCapacity(page.count)
        var recordedAt = previous.recordedAt
        let entries = page.entries.slice()
        let isRead = unsafe entries.withUnsafeReadableBytes { bytes -> Bool in
            var walk = unsafe EntryWalk(bytes)
            var position = previous.position
            while let (_, record) = walk.next() {
                position = position.next
                guard let layout = unsafe RecordLayout(bytes, record: record), layout.position == position,
                    let event = unsafe Event(layout, in: bytes)
                else { return false }
                events.append(event)
                recordedAt = layout.recordedAt
            }
            return !walk.isBroken && position == page.scannedTo
        }
        guard isRead, !events.isEmpty else { return nil }
        self.init(tenant: tenant, after: previous, recordedAt: recordedAt, entries: entries, events: events)
    }
}

extension RecordedRun.Event {
    /// The event of that record; nil where it has no id, type or aggregate.
    @unsafe fileprivate init?(_ layout: RecordLayout, in bytes: UnsafeRawBufferPointer) {
        let part = { (range: Range<Int>) in unsafe UnsafeRawBufferPointer(rebasing: bytes[range]) }
        guard let aggregate = unsafe layout.outline.aggregate(in: bytes),
            let id = unsafe UUID(bytes: part(layout.eventID)),
            let type = unsafe EventType(utf8: part(layout.eventType))
        else { return nil }
        self.init(
            aggregate: aggregate, version: layout.version, id: id, type: type,
            contentType: unsafe String(decoding: part(layout.contentType), as: UTF8.self),
            schemaVersion: layout.eventSchemaVersion, payloadBytes: layout.payload.count,
            recordStart: layout.record.lowerBound, end: layout.record.upperBound)
    }
}
