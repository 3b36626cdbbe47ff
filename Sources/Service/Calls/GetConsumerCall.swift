import MartletModel
import MartletQueries
import MartletStorage

/// Answers how a consumer is.
enum GetConsumerCall {
    /// What the answer tells of one slot and of one worker, with the longest names.
    private static let rowBytes = 256
    /// What it tells of the last failure and of slots that have stopped.
    private static let failureBytesMax = (ConsumerDescription.stoppedSlotsMax + 1) * (BlockedKey.reasonBytesMax + 512)

    static func make(_ consumer: ConsumerID, _ handle: CallHandle) -> ReadingCall {
        let limits = handle.limits
        let groups = handle.service.groups
        let rows = ConsumerDefinition.slotsMax + limits.workersPerConsumerMax
        let bytesMax = (128 << 10) + rows * rowBytes + failureBytesMax
        return ReadingCall(
            tenant: consumer.tenant, answerBytesMax: min(limits.frameBytesMax, bytesMax), handle
        ) { reader throws(StorageError) in
            guard let group = try reader.group(consumer) else { return .failure(.consumerNotFound) }
            do throws(MartletError) {
                let definition = try ConsumerDefinition(document: group.consumer.document)
                return .success(
                    .consumer(
                        try describe(group, definition, consumer, limits, groups.stops(of: consumer), reader: reader)
                            .get()))
            } catch { return .failure(error) }
        }
    }

    private static func describe(
        _ group: StoredGroup, _ definition: ConsumerDefinition, _ id: ConsumerID, _ limits: Limits,
        _ stops: [ConsumerGroups.Stop], reader: any StorageReader
    ) -> Result<ConsumerDescription, MartletError> {
        do throws(StorageError) {
            let head = try reader.head(of: id.tenant)
            let backlog = try ConsumerBacklog.find(
                of: group, definition, id, to: head.position, scanMax: limits.pageScanEventsMax,
                bytesMax: limits.pageBytesMax, reader: reader)
            let names = Dictionary(group.workers.values.map { ($0.session, $0.name) }) { $1 }
            let last = group.hasBlockedKeys ? try reader.lastBlockedKey(of: id) : nil
            // A slot goes on under a higher epoch, also where its worker has not heard so yet.
            let stopped = stops.filter { group.slots[$0.slot]?.epoch == $0.epoch }.sorted { $0.slot < $1.slot }
            let floors = (0..<definition.slotCount).map { group.slot($0).floor }
            return .success(
                ConsumerDescription(
                    name: id.name, definition: definition, revision: group.consumer.revision, head: head,
                    checkpoint: floors.min { $0.position < $1.position } ?? group.consumer.start,
                    slots: group.slots.sorted { $0.key < $1.key }.map { number, slot in
                        ConsumerDescription.Slot(
                            number: number, epoch: slot.epoch, checkpoint: slot.floor,
                            worker: slot.owner.flatMap { names[$0] })
                    }, workers: group.workers.keys.sorted(),
                    blockedKeyCount: group.hasBlockedKeys
                        ? try reader.blockedKeys(of: id, slot: nil, after: nil, countMax: 1_000).count : 0,
                    settledTo: backlog.settledTo, oldest: backlog.oldest,
                    lastFailure: last.map {
                        ListedKey(place: KeyPlace(slot: $0.slot, key: $0.key), blocked: $0.blocked)
                    },
                    stoppedSlots: stopped.prefix(ConsumerDescription.stoppedSlotsMax).map {
                        ConsumerDescription.StoppedSlot(number: $0.slot, reason: $0.reason)
                    }))
        } catch { return .failure(MartletError(error)) }
    }
}
