import MartletModel
import MartletStorage

/// What a slot begins with.
struct OpenedSlot: Sendable {
    var number: Int
    var epoch: UInt64
    var progress: SlotProgress
}

/// Reads what slots begin with, on a storage thread.
enum SlotOpening {
    /// What is read at a time.
    private static let keysMax = 500

    /// - Returns: the slots, and the tenant's head, up to which earlier workers may have got events; a failure where the
    ///   storage no longer has the events that the slots have come to.
    static func read(
        _ slots: [GroupView.Slot], of id: ConsumerID, reader: any StorageReader
    ) throws(StorageError) -> Result<(slots: [OpenedSlot], head: Position), MartletError> {
        let head = try reader.head(of: id.tenant).position
        let begun = slots.filter { $0.floor.position > .start }
        let ids = try reader.eventIDs(
            at: begun.map { EventPlace(tenant: id.tenant, position: $0.floor.position) })
        for (slot, eventID) in zip(begun, ids) where slot.floor.eventID != eventID {
            return .failure(.consumerHistoryChanged(slot.floor.position))
        }
        var opened: [OpenedSlot] = []
        for slot in slots {
            var progress = SlotProgress(floor: slot.floor)
            var last: BlockedKeyID?
            while true {
                let keys = try reader.blockedKeys(of: id, slot: slot.number, after: last, countMax: keysMax)
                for key in keys { progress.blocked[key.key] = key.blocked }
                guard keys.count == keysMax, let key = keys.last?.key else { break }
                last = BlockedKeyID(slot: SlotID(consumer: id, number: slot.number), key: key)
            }
            opened.append(OpenedSlot(number: slot.number, epoch: slot.epoch, progress: progress))
        }
        return .success((opened, head))
    }
}

extension MartletError {
    static func consumerHistoryChanged(_ position: Position?) -> MartletError {
        let place = position.map { " at position \($0)" } ?? ""
        return MartletError(
            .failedPrecondition, reason: .historyChanged,
            message:
                "the storage no longer has the event\(place) that the consumer has come to, as after a restore or a "
                + "failover: compare what was derived from it with what is there, and reset the consumer")
    }
}
