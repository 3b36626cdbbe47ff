import FoundationEssentials
import MartletModel
import MartletSession
import NIOCore

/// The frames about consumers of the page.
extension GoldenFrames {
    static let mails = ConsumerName("mails") ?? { preconditionFailure("a valid name") }()
    static let mailer = WorkerName("mailer-1") ?? { preconditionFailure("a valid name") }()
    static let consumer = ConsumerID(tenant: tenant, name: mails)
    static let checkpoint = Checkpoint(position: Position(7), eventID: eventID)
    static let definition = ConsumerDefinition(filter: EventFilter(eventTypes: [placed]), slotCount: 16)
    static let blockedPlace = KeyPlace(slot: 11, key: ConsumerKey(.aggregate, aggregate: order) { _ in nil })

    static var blocked: BlockedKey {
        BlockedKey(
            first: checkpoint, until: .retry(at: Timestamp(microseconds: recordedAt.microseconds + 1_000_000)),
            reason: "no route", tries: 1, since: recordedAt)
    }

    static func clientOfConsumers() -> [(String, ClientFrame)] {
        [
            (
                "put_consumer request",
                ClientFrame(
                    CallID(15), .request(.putConsumer(PutConsumerRequest(consumer, definition, start: .head))))
            ),
            ("get_consumer request", ClientFrame(CallID(16), .request(.getConsumer(consumer)))),
            (
                "list_consumers request",
                ClientFrame(CallID(17), .request(.listConsumers(ListConsumersRequest(tenant: tenant, after: mails))))
            ),
            ("delete_consumer request", ClientFrame(CallID(18), .request(.deleteConsumer(consumer)))),
            (
                "reset_consumer request",
                ClientFrame(
                    CallID(19),
                    .request(
                        .resetConsumer(
                            ResetConsumerRequest(consumer, start: .after(Position(5)), isPreview: true))))
            ),
            (
                "list_blocked_keys request",
                ClientFrame(
                    CallID(20),
                    .request(.listBlockedKeys(ListBlockedKeysRequest(consumer, after: blockedPlace))))
            ),
            (
                "unblock_keys request",
                ClientFrame(
                    CallID(21),
                    .request(
                        .unblockKeys(
                            UnblockKeysRequest(consumer, keys: [.init(blockedPlace, skipping: Position(7))]))))
            ),
            (
                "await_consumer request",
                ClientFrame(
                    CallID(22),
                    .request(.awaitConsumer(AwaitConsumerRequest(consumer, position: Position(7)))),
                    timeoutMillis: 5_000)
            ),
            (
                "consume request",
                ClientFrame(
                    CallID(23), .request(.consume(ConsumeRequest(consumer, worker: mailer, epochAbove: 2))),
                    creditBytes: 1_048_576)
            ),
            (
                "consume request over tenants",
                ClientFrame(
                    CallID(24),
                    .request(
                        .consumeTenants(
                            ConsumeTenantsRequest(mails, of: [tenant], worker: mailer, epochAbove: 2))),
                    creditBytes: 1_048_576)
            ),
            (
                "replies",
                ClientFrame(
                    CallID(23),
                    .replies([
                        .acknowledge(4, upTo: true), .reject(6, .retry(afterMillis: 1_000), reason: "no route"),
                        .alive,
                    ]))
            ),
        ]
    }

    static func serverOfConsumers() throws -> [(String, ServerFrame)] {
        let description = ConsumerDescription(
            name: mails, definition: definition, revision: 1, head: head, checkpoint: checkpoint,
            slots: [.init(number: 11, epoch: 3, checkpoint: checkpoint, worker: mailer)], workers: [mailer],
            blockedKeyCount: 1, settledTo: Position(7), oldest: .init(position: Position(8), recordedAt: recordedAt),
            lastFailure: ListedKey(place: blockedPlace, blocked: blocked),
            stoppedSlots: [.init(number: 12, reason: "disk full")])
        func consume(_ message: ConsumeMessage) -> ServerFrame { ServerFrame(CallID(23), .consume(message)) }
        return [
            (
                "put_consumer response",
                ServerFrame(CallID(15), .consumerPut(PutConsumerReceipt(revision: 1, isNew: true)))
            ),
            ("get_consumer response", ServerFrame(CallID(16), .consumer(description))),
            (
                "list_consumers response",
                ServerFrame(
                    CallID(17), .consumers([ListedConsumer(name: mails, revision: 1, definition: definition)]))
            ),
            ("delete_consumer response", ServerFrame(CallID(18), .consumerDeleted)),
            (
                "reset_consumer response",
                ServerFrame(
                    CallID(19), .consumerReset(ResetConsumerReceipt(after: Position(5), before: Position(7))))
            ),
            (
                "list_blocked_keys response",
                ServerFrame(CallID(20), .blockedKeys([ListedKey(place: blockedPlace, blocked: blocked)]))
            ),
            ("unblock_keys response", ServerFrame(CallID(21), .keysUnblocked(1))),
            ("await_consumer response", ServerFrame(CallID(22), .consumerReached(Position(7)))),
            ("consume assigned", consume(.assigned([.init(number: 11, epoch: 3, checkpoint: .start)]))),
            ("consume revoked", consume(.revoked([11, 12]))),
            (
                "consume events",
                consume(
                    .events(
                        try entries(),
                        [
                            .init(number: 1, slot: 11, attempt: 1, mayBeRepeated: true, key: blockedPlace.key)
                        ]))
            ),
            ("consume committed", consume(.committed(slot: 11, checkpoint))),
            ("consume stopped", consume(.stopped(slot: 11, reason: "too many keys"))),
            ("consume paused", consume(.paused(true))),
            ("consume waiting", consume(.waits(creditBytes: 1_100_000))),
            ("consume joined", ServerFrame(CallID(24), .consume(.joined([tenant])))),
            ("consume revoked of a tenant", ServerFrame(CallID(24), .consumeOf(tenant, .revoked([11, 12])))),
            (
                "consume left",
                ServerFrame(
                    CallID(24),
                    .consumeOf(
                        tenant, .left(MartletError(.notFound, reason: .consumerNotFound, message: "no consumer"))))
            ),
        ]
    }
}
