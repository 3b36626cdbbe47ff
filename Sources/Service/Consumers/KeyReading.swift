import FoundationEssentials
import MartletConsumers
import MartletDelivery
import MartletModel
import MartletQueries
import MartletRecordCodec
import MartletStorage
import NIOCore

/// Reads events of one key again, on a storage thread.
enum KeyReading {
    /// Events of the key that were found, as they are delivered.
    struct Found: Sendable {
        var events: [(event: SlotMachine.Event, retried: RetriedEvent)]
        var scannedTo: Position
    }

    private static let bytesMax = 64 << 10

    static func read(
        _ range: SlotMachine.KeyRange, of tenant: TenantID, _ definition: ConsumerDefinition, _ queries: QueryOpening,
        _ limits: Limits, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<Found, MartletError> {
        let request = ReadRequest(
            tenant: tenant, after: range.after, target: .position(range.to),
            filter: definition.filter.narrowed(to: range.key),
            upcasting: UpcastingOptions(isRaw: definition.isRaw, onFailure: .raw))
        switch try queries.open(request, now: now, reader: reader) {
        case .failure(let error): return .failure(error)
        case .success(let query):
            guard !query.isDone else { return .success(Found(events: [], scannedTo: range.to)) }
            return try query.read(reader, bytesMax: bytesMax, scanMax: limits.pageScanEventsMax).flatMap { result in
                found(in: result.page, range, definition)
            }
        }
    }

    private static func found(
        in page: EventPage, _ range: SlotMachine.KeyRange, _ definition: ConsumerDefinition
    ) -> Result<Found, MartletError> {
        do throws(RecordFault) {
            let keyed = try RecordedEntries.keyed(page.entries, by: definition.keyRule)
            let own = keyed.filter { $0.key == range.key }
            return .success(
                Found(
                    events: own.map { entry in
                        let bytes = page.entries.getSlice(
                            at: page.entries.readerIndex + entry.entry.lowerBound, length: entry.entry.count)
                        return (
                            SlotMachine.Event(
                                place: Checkpoint(position: entry.position, eventID: entry.id), key: entry.key,
                                recordedAt: entry.recordedAt),
                            // A copy: a slice keeps the whole page.
                            RetriedEvent(
                                entry: bytes.map { ByteBuffer(bytes: $0.readableBytesView) } ?? ByteBuffer(),
                                upcastFailure: entry.upcastFailure)
                        )
                    }, scannedTo: page.scannedTo))
        } catch { return .failure(.unreadableRecord) }
    }
}

extension EventFilter {
    /// The filter with as much of a key as a filter can say.
    fileprivate func narrowed(to key: ConsumerKey) -> EventFilter {
        let text = key.description
        guard text.hasPrefix("a:") || text.hasPrefix("t:") else { return self }
        let parts = text.dropFirst(2).split(separator: "/")
        guard let type = parts.first.flatMap({ AggregateType(String($0)) }) else { return self }
        var filter = self
        filter.aggregateTypes = [type]
        if parts.count == 2, let id = UUID(text: parts[1]) { filter.aggregateIDs = [id] }
        return filter
    }
}
