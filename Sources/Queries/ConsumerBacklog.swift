public import MartletModel
import MartletRecordCodec
public import MartletStorage
import NIOCore

/// How far a consumer has come, by what is stored: which of its events is the first that it has not settled.
public struct ConsumerBacklog: Hashable, Sendable {
    /// The first event of the consumer that is neither settled nor of a blocked key.
    public var oldest: ConsumerDescription.OldestEvent?
    /// All of the consumer's events up to there are settled, or of blocked keys.
    public var settledTo: Position

    /// Looks from the lowest checkpoint on, and at no more events than about `scanMax`: ``settledTo`` is as far as it came.
    ///
    /// - Parameter to: the head, or less.
    /// - Throws: also where the storage has another past than the consumer.
    public static func find(
        of group: StoredGroup, _ definition: ConsumerDefinition, _ id: ConsumerID, to: Position, scanMax: Int,
        bytesMax: Int, reader: any StorageReader
    ) throws(StorageError) -> ConsumerBacklog {
        let floors = (0..<definition.slotCount).map { group.slot($0).floor }
        guard let lowest = floors.min(by: { $0.position < $1.position }), lowest.position < to else {
            return ConsumerBacklog(settledTo: to)
        }
        var bounds = PageBounds(bytesMax: bytesMax, scanMax: scanMax)
        bounds.following = lowest.eventID
        // Of the slots that were looked at, the keys that are blocked.
        var blocked: [Int: Set<ConsumerKey>] = [:]
        var after = lowest.position
        var looked = 0
        while after < to, looked < scanMax {
            let page = try reader.page(
                of: id.tenant, positions: PageRange(after: after, to: to), filter: definition.filter, bounds: bounds)
            let events: [KeyedEntry]
            do throws(RecordFault) {
                events = try RecordedEntries.keyed(page.entries, by: definition.keyRule)
            } catch { throw StorageError(.corrupted, error.description) }
            for event in events {
                let slot = event.key.slot(of: definition.slotCount)
                guard event.position > floors[slot].position else { continue }
                if group.hasBlockedKeys {
                    if blocked[slot] == nil {
                        let keys = try reader.blockedKeys(
                            of: id, slot: slot, after: nil, countMax: definition.delivery.blockedKeysMax + 1)
                        blocked[slot] = Set(keys.map(\.key))
                    }
                    if blocked[slot]?.contains(event.key) == true { continue }
                }
                return ConsumerBacklog(
                    oldest: ConsumerDescription.OldestEvent(position: event.position, recordedAt: event.recordedAt),
                    settledTo: Position(event.position.rawValue - 1))
            }
            looked += Int(clamping: page.scannedTo.rawValue - after.rawValue)
            guard page.scannedTo > after else { break }
            after = page.scannedTo
            bounds.following = page.endEventID
        }
        return ConsumerBacklog(settledTo: after)
    }
}
