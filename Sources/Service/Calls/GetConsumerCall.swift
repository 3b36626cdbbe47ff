import MartletModel
import MartletQueries
import MartletStorage

/// Answers how a consumer is.
enum GetConsumerCall {
    /// What the answer tells of one slot and of one worker, with the longest names.
    private static let rowBytes = 256

    static func make(_ consumer: ConsumerID, _ handle: CallHandle) -> ReadingCall {
        let limits = handle.limits
        let rows = ConsumerDefinition.slotsMax + limits.workersPerConsumerMax
        return ReadingCall(
            tenant: consumer.tenant, answerBytesMax: min(limits.frameBytesMax, (128 << 10) + rows * rowBytes), handle
        ) { reader throws(StorageError) in
            guard let group = try reader.group(consumer) else { return .failure(.consumerNotFound) }
            do throws(MartletError) {
                let definition = try ConsumerDefinition(document: group.consumer.document)
                return .success(
                    .consumer(try describe(group, definition, consumer, limits, reader: reader).get()))
            } catch { return .failure(error) }
        }
    }

    private static func describe(
        _ group: StoredGroup, _ definition: ConsumerDefinition, _ id: ConsumerID, _ limits: Limits,
        reader: any StorageReader
    ) -> Result<ConsumerDescription, MartletError> {
        do throws(StorageError) {
            let head = try reader.head(of: id.tenant)
            let backlog = try ConsumerBacklog.find(
                of: group, definition, id, to: head.position, scanMax: limits.pageScanEventsMax,
                bytesMax: limits.pageBytesMax, reader: reader)
            let names = Dictionary(group.workers.values.map { ($0.session, $0.name) }) { $1 }
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
                    settledTo: backlog.settledTo, oldest: backlog.oldest))
        } catch { return .failure(MartletError(error)) }
    }
}
